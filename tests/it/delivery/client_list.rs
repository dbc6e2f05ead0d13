//! The list of readers: `/api/clients`, and the commands `client list` and `client delete`.

use std::path::Path;

use serde_json::{Value, json};

use super::clients::{broadcast, send_many};
use super::mailbox::send;
use crate::support::program::{Running, configure, output, program};
use crate::support::reader::{names, nobody_connected, path, reader};
use crate::support::{Client, Reader, Server, eventually, http, roomy};

#[tokio::test]
async fn readers_are_listed_with_cursor_waiting_and_last_connection() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    assert_eq!(names(&server, &ana).await, Vec::<String>::new());
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let ids = send_many(&server, &ana, 3).await;
    phone.takes(&server, &ana, "phone", &ids).await;
    send(&server, &ana, json!("all")).await; // of which the phone hears, too, in case it reads on
    let all = broadcast(&server, json!("all")).await;
    assert!(all > ids[2]);
    eventually("the tablet is known to have gone", async || reader(&server, &ana, "tablet").await["online"] == false).await;
    let tablet = reader(&server, &ana, "tablet").await;
    assert_eq!((&tablet["cursor"], &tablet["waiting"]), (&json!(0), &json!(5)), "{tablet}");
    let phone_now = reader(&server, &ana, "phone").await;
    assert!(phone_now["cursor"].as_u64() >= Some(ids[2]) && phone_now["online"] == true, "{phone_now}");
    for listed in [&tablet, &phone_now] {
        assert!(listed["last_connected"].as_str().is_some_and(|time| time.ends_with("+00:00")), "{listed}");
    }
    assert!(tablet["last_connected"].as_str() <= phone_now["last_connected"].as_str());

    drop(phone);
    nobody_connected(&server).await;
    let server = server.restart().await;
    let after = reader(&server, &ana, "tablet").await;
    assert_eq!(after, tablet, "the list survives a restart");
    assert_eq!(reader(&server, &ana, "phone").await["online"], false);
}

#[tokio::test]
async fn readers_are_listed_and_deleted_by_their_user_and_administrators() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, false).await;
    let lamp = server.device_token(&ana.token, device).await;
    for name in ["phone", "tablet"] {
        Reader::open(&server, &ana.token, name).await;
    }
    let of_ana = format!("?user_id={}", ana.id);
    let listed = server.get(&format!("/api/clients{of_ana}"), Some(&admin)).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(server.get("/api/clients", Some(&admin)).await.ok()["data"], json!([]), "the administrator's own");
    assert_eq!(server.get("/api/clients", Some(&bob.token)).await.ok()["data"], json!([]));
    for token in [&bob.token, &lamp] {
        for (method, path) in [("GET", format!("/api/clients{of_ana}")), ("DELETE", format!("/api/clients/phone{of_ana}"))] {
            let answer = server.http(method, &path, Some(token), None).await;
            assert!(matches!(answer.status.as_u16(), 401 | 403 | 404), "{method} {path}: {}", answer.text);
        }
    }
    server.http("GET", "/api/clients", None, None).await.expect(401);
    server.delete("/api/clients/phone", &bob.token).await.expect(404);
    assert_eq!(server.get("/api/clients?user_id=99", Some(&admin)).await.expect(404)["code"], "not_found");
    assert_eq!(names(&server, &ana).await, ["phone", "tablet"]);

    server.delete("/api/clients/phone", &ana.token).await.ok();
    server.delete(&format!("/api/clients/tablet{of_ana}"), &admin).await.ok();
    assert_eq!(names(&server, &ana).await, Vec::<String>::new());
    for name in ["phone", "nobody", "default", "a%20b"] {
        assert_eq!(server.delete(&format!("/api/clients/{name}"), &ana.token).await.expect(404)["code"], "not_found");
    }
}

#[tokio::test]
async fn connections_of_a_deleted_reader_end_with_1001_and_one_that_returns_is_new() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut web = Reader::open(&server, &ana.token, "web").await;
    Reader::open(&server, &ana.token, "tablet").await;
    nobody_but(&server, 1).await;
    let first = send_many(&server, &ana, 3).await;
    web.takes(&server, &ana, "web", &first).await;
    let (mut one, mut two) = (Reader::open(&server, &ana.token, "phone").await, Reader::open(&server, &ana.token, "phone").await);
    server.delete("/api/clients/phone", &ana.token).await.ok();
    assert_eq!((one.client.closed().await, two.client.closed().await), (1001, 1001));
    assert_eq!(names(&server, &ana).await, ["tablet", "web"]);
    web.client.fence().await; // the others stay
    // The tablet had three messages waiting. Forgotten, it starts where the web page is.
    server.delete("/api/clients/tablet", &ana.token).await.ok();
    let next = send(&server, &ana, json!("next")).await;
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    tablet.receives(&[next]).await;
    assert!(tablet.missed() == 0 && tablet.pending() <= 1);
    web.receives(&[next]).await;
    let server = server.restart().await;
    assert_eq!(names(&server, &ana).await, ["tablet", "web"]);
}

/// Waits until `count` connections are left.
async fn nobody_but(server: &Server, count: u64) {
    let admin = server.admin().await;
    eventually("the others have ended", async || {
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == count
    })
    .await;
}

/// Runs a command with `--json` that succeeds and returns its output.
async fn run(at: &Path, args: &[&str]) -> Value {
    let output = output(program(at, &[&["--config", "c.toml"], args, &["--json"]].concat())).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that fails and returns its standard error.
async fn fails(at: &Path, args: &[&str]) -> String {
    let output = output(program(at, &[&["--config", "c.toml"], args].concat())).await;
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Lists the readers of `admin` and deletes the first of `names`.
async fn list_and_delete(at: &Path, names: &[&str]) {
    let listed = |list: &Value| list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    let all: Vec<String> = listed(&run(at, &["client", "list", "admin"]).await);
    assert_eq!(all, names);
    let row = run(at, &["client", "list", "admin"]).await[0].clone();
    assert!(row["cursor"].is_u64() && row["waiting"].is_u64() && row["last_connected"].is_string(), "{row}");
    let plain = output(program(at, &["--config", "c.toml", "client", "list", "admin"])).await;
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.starts_with("NAME") && names.iter().all(|name| plain.contains(name)), "{plain}");
    run(at, &["client", "delete", "admin", names[0]]).await;
    let left: Vec<String> = listed(&run(at, &["client", "list", "admin"]).await);
    assert_eq!(left, names[1..]);
    assert!(fails(at, &["client", "delete", "admin", names[0]]).await.contains("no such client"));
    assert!(fails(at, &["client", "list", "nobody"]).await.contains("no such user: nobody"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_list_and_delete_readers_with_and_without_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    let server = Running::configured(at, "").await;
    let token = http::log_in(server.address, "admin", crate::support::ADMIN_PASSWORD).await;
    let mut open = Vec::new();
    for name in ["a", "b", "c"] {
        let mut client = Client::open(server.address, &path(&token, &format!("client={name}")), &[]).await.unwrap();
        assert_eq!(client.json().await["type"], "connection_status");
        open.push(client);
    }
    list_and_delete(at, &["a", "b", "c"]).await;
    assert_eq!(open.remove(0).closed().await, 1001, "the server that runs is told");
    drop(open);
    // A user's queue is what none of its readers has, broadcasts included, also on the command line.
    for args in [["send", "--all", "1"], ["send", "admin", "2"]] {
        run(at, &args).await;
    }
    assert_eq!(run(at, &["queue", "list", "admin"]).await["messages"], 2);
    server.stop().await;
    assert_eq!(run(at, &["queue", "clear", "admin"]).await["messages"], 2);
    assert_eq!(run(at, &["queue", "list", "admin"]).await["messages"], 0);
    list_and_delete(at, &["b", "c"]).await;
}
