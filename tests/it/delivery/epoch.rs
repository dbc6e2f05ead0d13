//! Positions that a client remembers: `since` with an epoch, with ids that were never given out, and across a restore.

use std::path::Path;

use serde_json::{Value, json};

use super::clients::send_many;
use super::mailbox::{receipt, send};
use crate::support::program::{Running, configure, output, program};
use crate::support::{ADMIN_PASSWORD, Client, Reader, Server, eventually, http, roomy};

/// Connects with `since`; returns whether everything was recovered, and the ids that are replayed up to `last`.
async fn replay(server: &Server, token: &str, since: &str, last: u64) -> (Value, Vec<u64>) {
    let mut reader = Reader::with(server, token, &format!("client=phone&since={since}")).await;
    let mut ids = Vec::new();
    while reader.hello["recovered"] == true && ids.last().is_some_and(|id| *id < last) | (ids.is_empty() && last > 0) {
        ids.push(reader.client.json().await["id"].as_u64().unwrap());
    }
    (reader.hello["recovered"].clone(), ids)
}

#[tokio::test]
async fn since_with_an_epoch_is_recovered_in_that_epoch_only() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = send_many(&server, &ana, 5).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let epoch = phone.hello["epoch"].as_str().unwrap().to_owned();
    phone.takes(&server, &ana, "phone", &ids).await;
    drop(phone);
    let server = server.restart().await;
    let since = |n: usize| format!("{epoch}:{}", ids[n]);
    assert_eq!(replay(&server, &ana.token, &since(1), ids[4]).await, (json!(true), ids[2..].to_vec()));
    assert_eq!(replay(&server, &ana.token, &ids[1].to_string(), ids[4]).await, (json!(true), ids[2..].to_vec()));
    assert_eq!(replay(&server, &ana.token, &since(4), 0).await, (json!(true), vec![]));
    let other = if epoch.starts_with('0') { "1" } else { "0" }.to_owned() + &epoch[1..];
    for epoch in [&other, "0000000000000000", "x", ""] {
        assert_eq!(replay(&server, &ana.token, &format!("{epoch}:{}", ids[1]), 0).await.0, false, "epoch {epoch:?}");
    }
}

#[tokio::test]
async fn since_of_an_id_that_the_mailbox_never_had_is_not_recovered() {
    let server = Server::with(roomy()).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let id = send(&server, &ana, json!(1)).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let epoch = phone.hello["epoch"].as_str().unwrap().to_owned();
    phone.takes(&server, &ana, "phone", &[id]).await;
    drop(phone);
    let of_bob = send(&server, &bob, json!(2)).await;
    for never in [of_bob, of_bob + 1, of_bob + 1000, 999_999_999, u64::MAX] {
        for since in [never.to_string(), format!("{epoch}:{never}")] {
            assert_eq!(replay(&server, &ana.token, &since, 0).await.0, false, "{since}");
        }
    }
    // Nothing is lost by it: what is new comes all the same.
    let mut phone = Reader::with(&server, &ana.token, &format!("client=phone&since={}", of_bob + 1)).await;
    let new = send(&server, &ana, json!(3)).await;
    phone.takes(&server, &ana, "phone", &[new]).await;
    assert_eq!(receipt(&server, &ana.token, new).await["status"], "acked");
    drop(phone);
    assert_eq!(replay(&server, &ana.token, &new.to_string(), 0).await.0, true);
}

/// Runs a command with `--json` that succeeds and returns its output.
async fn run(at: &Path, args: &[&str]) -> Value {
    let output = output(program(at, &[&["--config", "c.toml"], args, &["--json"]].concat())).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The administrator's mailbox on a running program.
struct Mailbox<'a> {
    at: &'a Path,
    server: &'a Running,
    token: &'a str,
}

impl Mailbox<'_> {
    /// Returns the first event of a connection with these parameters, and the connection.
    async fn connect(&self, query: &str) -> (Client, Value) {
        let path = format!("/ws/device/?token={}&client=phone{query}", self.token);
        let mut client = Client::open(self.server.address, &path, &[]).await.unwrap();
        let hello = client.json().await;
        (client, hello)
    }

    /// Sends `count` messages and receives them.
    async fn fill(&self, count: usize) -> Vec<u64> {
        let (mut client, _) = self.connect("").await;
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(run(self.at, &["send", "admin", &n.to_string()]).await["id"].as_u64().unwrap());
            assert_eq!(client.json().await["id"], ids[n]);
        }
        let last = format!("/api/messages/{}", ids[count - 1]);
        eventually("all are received", async || {
            client.fence().await;
            http::call(self.server.address, "GET", &last, self.token, "").await.ok()["data"]["status"] == "acked"
        })
        .await;
        ids
    }

    async fn recovered(&self, since: &str) -> bool {
        self.connect(&format!("&since={since}")).await.1["recovered"].as_bool().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn since_from_before_a_restore_is_not_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    let server = Running::configured(at, "").await;
    let token = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let mailbox = Mailbox { at, server: &server, token: &token };
    let old = mailbox.connect("").await.1["epoch"].as_str().unwrap().to_owned();
    let kept = mailbox.fill(3).await;
    run(at, &["backup", "b"]).await;
    let lost = mailbox.fill(3).await;
    assert!(mailbox.recovered(&kept[2].to_string()).await, "before the restore all of it is there");
    server.kill().await;
    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    run(at, &["restore", "b"]).await;

    let mut server = Running::configured(at, "").await;
    for round in 0..2 {
        let mailbox = Mailbox { at, server: &server, token: &token };
        let epoch = mailbox.connect("").await.1["epoch"].as_str().unwrap().to_owned();
        assert_ne!(epoch, old);
        let new = mailbox.fill(1).await[0];
        assert!(new > lost[2] && new < u64::from(u32::MAX), "ids go on beyond all that were given out: {new}");
        // Without an epoch, too: `lost` came after each of these, and is gone.
        for before in [&kept[..], &lost].concat() {
            for since in [before.to_string(), format!("{old}:{before}"), format!("{epoch}:{before}")] {
                assert!(!mailbox.recovered(&since).await, "{since}, round {round}");
            }
        }
        assert!(!mailbox.recovered(&format!("{old}:{new}")).await, "the other epoch never gave out this one");
        for since in [new.to_string(), format!("{epoch}:{new}")] {
            assert!(mailbox.recovered(&since).await, "{since}, round {round}");
        }
        server.stop().await;
        server = Running::configured(at, "").await;
    }
}
