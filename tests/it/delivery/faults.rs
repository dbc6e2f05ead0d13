//! Failures around the server: full disks, vanished peers, and callers who lose their rights during a request.

use std::path::Path;

use crate::support::disk::Disk;
use crate::support::load::Load;
use crate::support::program::Running;
use crate::support::{DEADLINE, Server, User, eventually, http, unlimited};
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// The size of one message in the tests that fill disks.
const LARGE: usize = 200_000;

/// Starts a server whose data is on a disk, with no bounds on mailboxes and `floor` bytes to be left free.
async fn serve(dir: &Path, disk: &Disk, floor: u64) -> Running {
    let toml = format!(
        "data_dir = \"{}\"\n[mailbox]\nmessages = 0\nbytes = 0\n[storage]\nmin_free_bytes = {floor}\nballast_bytes = 12582912\n\
         [limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\nrequests_per_minute = 0",
        disk.path.join("data").display()
    );
    Running::configured(dir, &toml).await
}

/// Sends large messages until one is refused; returns how many were accepted.
async fn fill(load: &Load) -> usize {
    let mut sent = 0;
    while load.send(0, LARGE).await.is_some() {
        sent += 1;
        assert!(sent < 1000, "64 MB don't hold that much");
    }
    sent
}

#[tokio::test]
async fn disk_below_floor_refuses_messages_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Disk::in_memory(dir.path(), 64) else { return };
    let server = serve(dir.path(), &small, 24 << 20).await;
    let load = Load::prepare(server.address, 1).await;
    let sent = fill(&load).await;
    let path = format!("/api/messages/user/{}", load.recipients[0].id);
    assert_eq!(http::post(server.address, &path, &load.admin, json!({"message": 1})).await.expect(507)["code"], "disk_low");
    http::call(server.address, "GET", "/readyz", "", "").await.expect(503);
    assert_eq!(load.settle().await, sent);
    small.grow(256);
    eventually("there is room again", async || load.send(0, 10).await.is_some()).await;
    server.stop().await;
}

#[tokio::test]
async fn full_disk_ends_process_and_keeps_accepted_messages() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Disk::in_memory(dir.path(), 64) else { return };
    let mut server = serve(dir.path(), &small, 0).await;
    let load = Load::prepare(server.address, 1).await;
    let sent = fill(&load).await;
    assert_eq!(server.ended().await.code(), Some(1));
    let (_, said) = server.outputs();
    assert!(said.contains("qy-lty: a write to the disk failed"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // Still full: the ballast makes room to open it and to deliver what waits.
    let server = serve(dir.path(), &small, 16 << 20).await;
    *load.address.lock().unwrap() = server.address;
    assert_eq!(load.settle().await, sent);
    server.stop().await;
    small.grow(128);
    let server = serve(dir.path(), &small, 0).await;
    *load.address.lock().unwrap() = server.address;
    eventually("it takes messages again", async || load.send(0, 10).await.is_some()).await;
}

#[tokio::test]
async fn message_written_to_vanished_peer_reaches_next_connection() {
    let mut config = unlimited();
    (config.limits.ping_seconds, config.limits.idle_seconds, config.limits.stalled_seconds) = (1, 2, 3);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    // Connected, but it reads nothing and answers nothing; its socket stays open.
    let vanished = server.connect(&ana.token).await;
    let path = format!("/api/messages/user/{}", ana.id);
    let sent = server.post(&path, &ana.token, json!({"message": "m"})).await.ok();
    assert_eq!(sent["data"]["recipients"], 1);
    let receipt = format!("/api/messages/{}", sent["data"]["id"]);
    eventually("it was written", async || server.get(&receipt, Some(&ana.token)).await.ok()["data"]["status"] == "sent").await;
    let admin = server.admin().await;
    eventually("the peer is disconnected", async || {
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == 0
    })
    .await;
    let mut client = server.connect(&ana.token).await;
    assert_eq!(client.json().await["id"], sent["data"]["id"]);
    client.fence().await;
    drop(vanished);
}

#[tokio::test]
async fn caller_disabled_while_sending_body_gets_401() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let User { id, token, .. } = server.account("second", "admin").await;
    let body = json!({"username": "backdoor", "password": "backdoor-password", "role": "admin"}).to_string();
    let head = format!(
        "POST /api/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server asks for the body: it has checked the credential once.
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(timeout(DEADLINE, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
    }
    let disable = json!({"disabled": true}).to_string();
    server.http("PATCH", &format!("/api/users/{id}"), Some(&admin), Some(&disable)).await.ok();
    stream.write_all(body.as_bytes()).await.unwrap();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("HTTP/1.1 401"), "{answer}");
    server.login("backdoor", "backdoor-password").await.expect(401);
}

#[tokio::test]
async fn connection_is_closed_when_token_expires() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let made = server.post("/api/auth/tokens", &ana.token, json!({"expires_in": 1})).await.expect(201);
    let mut client = server.connect(made["data"]["token"].as_str().unwrap()).await;
    assert_eq!(client.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn session_blocked_in_write_still_gets_close_code() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut stuck = server.connect(&ana.token).await;
    let path = format!("/api/messages/user/{}", ana.id);
    let body = json!({"message": "x".repeat(250_000), "delivery": "live"});
    // Until the kernel's buffers are full and the session waits for its client to read.
    for _ in 0..60 {
        server.post(&path, &ana.token, body.clone()).await.ok();
    }
    let disable = json!({"disabled": true}).to_string();
    server.http("PATCH", &format!("/api/users/{}", ana.id), Some(&admin), Some(&disable)).await.ok();
    let mut code = None;
    while let Ok(Some(Ok(message))) = timeout(DEADLINE, stuck.stream.next()).await {
        if let Message::Close(Some(frame)) = message {
            code = Some(u16::from(frame.code));
        }
    }
    assert_eq!(code, Some(4001));
}
