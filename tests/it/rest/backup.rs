//! Downloading a backup.

use std::io::Write;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::support::program::{output, program};
use crate::support::{Server, eventually, roomy};

/// Asks for a backup; the body is read by the test.
pub async fn begin(server: &Server, method: reqwest::Method, token: &str) -> Response {
    let client = Client::builder().no_proxy().no_gzip().pool_max_idle_per_host(0).build().unwrap();
    let request = client.request(method, format!("http://{}/api/backup", server.address));
    request.header("authorization", format!("Token {token}")).send().await.unwrap()
}

/// Makes a backup longer than what fits between server and client.
pub async fn fill(server: &Server, token: &str, user: u64) {
    let mut state = 1u64;
    let text: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8) // 64 characters, which gzip can't shorten much
    })
    .filter(|c| c.is_ascii_alphanumeric())
    .take(240_000)
    .collect();
    for n in 0..60 {
        let (front, back) = text.split_at(n * 3001);
        let body = json!({"message": format!("{back}{front}")});
        server.post(&format!("/api/messages/user/{user}"), token, body).await.ok();
    }
}

#[tokio::test]
async fn downloaded_backup_can_be_restored() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": "kept"})).await.ok();
    let response = begin(&server, reqwest::Method::GET, &admin).await;
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &"application/gzip".parse().unwrap()));
    let disposition = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    let name = disposition.strip_prefix("attachment; filename=\"").and_then(|rest| rest.strip_suffix('"')).unwrap();
    assert!(name.starts_with("qy-lty-20") && name.ends_with("Z.backup") && name.len() == 34, "{name}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let bytes = response.bytes().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join(name)).unwrap().write_all(&bytes).unwrap();
    let restored = output(program(dir.path(), &["--data-dir", "restored", "restore", name])).await;
    assert!(restored.status.success(), "{restored:?}");
    let users = output(program(dir.path(), &["--data-dir", "restored", "user", "list", "--json"])).await;
    let users: Value = serde_json::from_slice(&users.stdout).unwrap();
    assert_eq!(users.as_array().unwrap().iter().map(|user| user["username"].clone()).collect::<Vec<_>>(), ["admin", "ana"]);
    let queue = output(program(dir.path(), &["--data-dir", "restored", "queue", "list", "--json"])).await;
    assert_eq!(serde_json::from_slice::<Value>(&queue.stdout).unwrap()[0]["messages"], 1);
}

#[tokio::test]
async fn one_backup_is_downloaded_at_a_time() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    fill(&server, &ana.token, ana.id).await;
    // A HEAD makes none.
    for _ in 0..3 {
        let head = begin(&server, reqwest::Method::HEAD, &admin).await;
        assert_eq!((head.status().as_u16(), &head.headers()["content-type"]), (200, &"application/gzip".parse().unwrap()));
    }
    let mut first = begin(&server, reqwest::Method::GET, &admin).await;
    assert!(first.chunk().await.unwrap().is_some());
    assert_eq!(server.get("/api/backup", Some(&admin)).await.expect(409)["code"], "backup_running");
    // The server goes on, and who disconnects makes room.
    server.post(&format!("/api/messages/user/{}", ana.id), &admin, json!({"message": 1})).await.ok();
    drop(first);
    eventually("another can be made", async || begin(&server, reqwest::Method::GET, &admin).await.status() == 200).await;
}

#[tokio::test]
async fn backup_of_one_who_is_no_administrator_any_more_is_cut_off() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let eve = server.account("eve", "admin").await;
    fill(&server, &ana.token, ana.id).await;
    let mut download = begin(&server, reqwest::Method::GET, &eve.token).await;
    assert!(download.chunk().await.unwrap().is_some());
    server.http("PATCH", &format!("/api/users/{}", eve.id), Some(&admin), Some(r#"{"role":"user"}"#)).await.ok();
    let outcome = async {
        while download.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    assert!(outcome.await.is_err(), "it has no end");
    server.get("/api/backup", Some(&eve.token)).await.expect(403);
}
