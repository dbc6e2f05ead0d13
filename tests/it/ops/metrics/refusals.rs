//! Refusals, each counted under the name of its reason.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::api::Config;
use crate::support::http::Browser;
use crate::support::page::page;
use crate::support::raw::{self, FIN, PING, Raw, frame};
use crate::support::{ADMIN_PASSWORD, Server, eventually, unlimited};

/// A server with a change of its limits, and its administrator's token.
async fn limited(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let mut config = unlimited();
    change(&mut config);
    let server = Server::with(config).await;
    let admin = server.admin().await;
    (server, admin)
}

/// Waits until `reason` has been counted at least once.
async fn counted(server: &Server, admin: &str, reason: &str) {
    let sample = format!("refused_total{{reason=\"{reason}\"}}");
    eventually(reason, async || page(server, admin).await.get(&sample) > 0.0).await;
}

#[tokio::test]
async fn refusals_at_handshake_are_counted_by_reason() {
    let (server, admin) = limited(|c| {
        (c.limits.connections_per_user, c.limits.connections, c.limits.refusals_per_minute) = (1, 3, 3);
        c.server.require_device = true;
    })
    .await;
    let ana = server.user("ana").await;
    let path = format!("/ws/device/?token={}", ana.token);
    server.ws(&path).await;
    counted(&server, &admin, "no_device").await;
    server.device(&ana.token, true).await;
    let _one = server.connect(&ana.token).await;
    server.ws(&path).await;
    counted(&server, &admin, "connections_user").await;
    server.ws(&format!("/ws/device/{}/?token={}", ana.id + 1, ana.token)).await;
    counted(&server, &admin, "wrong_user").await;
    for _ in 0..4 {
        let _ = server.try_ws("/ws/device/?token=wrong", &[]).await;
    }
    counted(&server, &admin, "unauthorized").await;
    counted(&server, &admin, "refusals_rate").await;
    let _ = server.try_ws(&path, &[("origin", "https://evil.example")]).await;
    counted(&server, &admin, "origin").await;
    let _ = server.try_ws(&path, &[("host", "evil.example"), ("origin", "http://evil.example")]).await;
    counted(&server, &admin, "host").await;

    let (server, admin) = limited(|c| c.limits.connections = 1).await;
    let _one = server.connect(&admin).await;
    let _ = server.try_ws(&format!("/ws/device/?token={admin}"), &[]).await;
    counted(&server, &admin, "connections_total").await;

    let (server, admin) = limited(|c| (c.limits.connections_per_address, c.limits.connects_per_minute) = (1, 2)).await;
    let path = format!("/ws/device/?token={admin}");
    let _one = server.connect(&admin).await;
    server.ws(&path).await;
    counted(&server, &admin, "connections_address").await;
    let _ = server.try_ws(&path, &[]).await;
    counted(&server, &admin, "connects_rate").await;
}

#[tokio::test]
async fn refusals_on_connection_are_counted_by_reason() {
    let (server, admin) = limited(|c| {
        (c.limits.messages_per_minute, c.limits.user_messages_per_minute) = (3, 4);
        (c.limits.frames_per_minute, c.limits.max_message_chars, c.limits.max_frame_bytes) = (10, 200, 1024);
        let chat = "responder = \"openai\"\nurl = \"http://127.0.0.1:9\"\nmodel = \"m\"\nper_minute = 1";
        c.chat = toml::from_str(chat).unwrap();
        c.mailbox.messages = 1;
    })
    .await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let mut client = server.connect(&ana.token).await;
    client.send("x".repeat(201)).await;
    counted(&server, &admin, "message_too_large").await;
    for _ in 0..3 {
        client.say(json!({"type": "ping"})).await;
    }
    counted(&server, &admin, "messages_rate").await;
    let mut client = server.connect(&ana.token).await;
    for _ in 0..2 {
        client.say(json!({"type": "ping"})).await;
    }
    counted(&server, &admin, "user_messages_rate").await;

    let mut raw = Raw::session(server.address, &bob.token).await;
    for _ in 0..11 {
        raw.send(&frame(FIN | PING, b"")).await;
    }
    counted(&server, &admin, "flood").await;
    let mut client = server.connect(&bob.token).await;
    let _ = client.stream.send(Message::text("x".repeat(2000))).await;
    counted(&server, &admin, "frame_too_large").await;
    let mut client = server.connect(&bob.token).await;
    for _ in 0..2 {
        client.say(json!({"type": "chat_message", "message": "?"})).await;
    }
    counted(&server, &admin, "chat_rate").await;

    // A full mailbox counts once, whoever sends.
    let device = server.device(&admin, true).await;
    server.device_token(&admin, device).await;
    let mut client = server.connect(&admin).await;
    for status in ["queued", "error"] {
        let said = client.ask(json!({"type": "sing", "message": {"song": "x"}, "target": "device"})).await;
        assert!(said["status"] == status || said["type"] == status, "{said}");
    }
    let full = "refused_total{reason=\"mailbox_full\"}";
    assert_eq!(page(&server, &admin).await.get(full), 1.0);
    server.post(&format!("/api/messages/device/{device}"), &admin, json!({"message": 1})).await.expect(507);
    assert_eq!(page(&server, &admin).await.get(full), 2.0);
}

#[tokio::test]
async fn refusals_over_rest_are_counted_by_reason() {
    let (server, admin) = limited(|c| {
        (c.limits.requests_per_minute, c.limits.pairings_per_minute, c.limits.devices_per_user) = (12, 1, 1);
        (c.limits.push_bytes, c.limits.body_seconds) = (1024, 1);
        c.storage.min_free_bytes = u64::MAX;
    })
    .await;
    let ana = server.user("ana").await;
    server.get("/api/users", Some(&ana.token)).await.expect(403);
    counted(&server, &admin, "forbidden").await;
    server.get("/api/users", None).await.expect(401);
    counted(&server, &admin, "unauthorized").await;
    server.post("/api/auth/register", &admin, json!({"username": "x", "password": "long-enough-x"})).await.expect(403);
    counted(&server, &admin, "registration_closed").await;
    server.post("/api/messages/broadcast", &admin, json!({"message": "x".repeat(2000)})).await.expect(413);
    counted(&server, &admin, "body_too_large").await;
    server.post("/api/messages/broadcast", &admin, json!({"message": 1})).await.expect(507);
    counted(&server, &admin, "disk_low").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let headers = [("cookie", browser.cookie.as_str()), ("content-type", "application/json")];
    server.raw_http("POST", "/api/auth/ticket", &headers, b"{}").await.expect(403);
    counted(&server, &admin, "csrf").await;
    for _ in 0..2 {
        server.post("/api/devices/pair", "", json!({})).await;
        server.post("/api/devices", &ana.token, json!({"name": "x"})).await;
    }
    counted(&server, &admin, "pairings_rate").await;
    counted(&server, &admin, "quota").await;
    for _ in 0..6 {
        server.post("/api/devices/claim", &ana.token, json!({"code": "AAAAAA"})).await;
    }
    counted(&server, &admin, "pairing_codes").await;
    for _ in 0..12 {
        server.get("/api/auth/me", Some(&ana.token)).await;
    }
    counted(&server, &admin, "requests_rate").await;

    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/auth/ticket HTTP/1.1\r\nhost: x\r\nauthorization: Token {admin}\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let trickling = tokio::spawn(async move {
        while slow.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    counted(&server, &admin, "body_too_slow").await;
    trickling.abort();

    let (server, admin) = limited(|c| (c.limits.logins_per_minute, c.limits.sockets_per_address) = (2, Some(5))).await;
    for _ in 0..3 {
        server.login("admin", ADMIN_PASSWORD).await;
    }
    counted(&server, &admin, "logins_rate").await;
    assert_eq!(page(&server, &admin).await.get("logins_total{result=\"throttled\"}"), 2.0);
    // From another address, or the request for the metrics would be refused, too.
    let from = Ipv4Addr::new(127, 0, 0, 77);
    let mut many = Vec::new();
    for _ in 0..6 {
        many.push(raw::connect(from, server.address).await);
    }
    counted(&server, &admin, "sockets_address").await;

    let (server, admin) = limited(|c| c.limits.sockets = 3).await;
    let mut many = Vec::new();
    for _ in 0..4 {
        many.push(raw::connect(from, server.address).await);
    }
    counted(&server, &admin, "sockets_total").await;
}
