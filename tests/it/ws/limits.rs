//! The limits of `[limits]`: at each of them and just below.

use crate::support::api::Config;
use crate::support::raw::{FIN, Raw, TEXT, frame, head};
use crate::support::{ADMIN_PASSWORD, Client, DEADLINE, Server, eventually, unlimited};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

async fn limited(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = unlimited();
    change(&mut config);
    Server::with(config).await
}

async fn pings(client: &mut Client, n: usize) {
    for _ in 0..n {
        client.say(json!({"type": "ping"})).await;
    }
    for _ in 0..n {
        assert_eq!(client.json().await["type"], "pong");
    }
}

/// Sends the message after the last allowed one: an error, a `disconnect` event, 4008.
async fn over(client: &mut Client) {
    client.send("not even JSON").await;
    assert_eq!(client.json().await["code"], "RATE_LIMITED");
    let event = client.disconnected().await;
    assert_eq!((&event["code"], &event["reconnect"]), (&json!(4008), &json!(true)));
    assert!(event["retry_after"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn messages_over_connection_limit_are_closed_with_4008() {
    let server = limited(|c| c.limits.messages_per_minute = 5).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    pings(&mut client, 3).await;
    client.stream.send(Message::Ping(vec![1].into())).await.unwrap(); // control frames and pushes don't count
    server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": 1})).await.ok();
    assert_eq!(client.json().await["message"], 1);
    client.stream.send(Message::binary(vec![])).await.unwrap();
    assert_eq!(client.json().await["code"], "VALIDATION_ERROR");
    pings(&mut client, 1).await;
    over(&mut client).await;
    let mut again = server.connect(&ana.token).await;
    pings(&mut again, 5).await; // a new connection starts anew
}

#[tokio::test]
async fn messages_over_user_limit_are_closed_with_4008() {
    let server = limited(|c| c.limits.user_messages_per_minute = 6).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (mut one, mut two) = (server.connect(&ana.token).await, server.connect(&ana.token).await);
    pings(&mut one, 3).await;
    pings(&mut two, 3).await;
    over(&mut one).await;
    over(&mut server.connect(&ana.token).await).await;
    pings(&mut server.connect(&bob.token).await, 6).await;
}

#[tokio::test]
async fn message_over_size_is_refused_and_frame_over_size_closed() {
    let server = limited(|c| c.limits.max_frame_bytes = 65_536).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    client.send("x".repeat(65_536)).await;
    assert_eq!(client.json().await["code"], "MESSAGE_TOO_LARGE");
    client.send("x".repeat(65_537)).await;
    assert_eq!(client.closed().await, 1009);

    // In fragments, too.
    let mut raw = Raw::session(server.address, &ana.token).await;
    for first in [TEXT, 0x00] {
        raw.send(&frame(first, &[b'x'; 40_000])).await;
    }
    assert_eq!(raw.close_code().await, 1009);
}

#[tokio::test]
async fn protocol_errors_get_close_frame() {
    let server = limited(|_| ()).await;
    let ana = server.user("ana").await;
    for (what, bytes, code) in [
        ("unmasked", vec![0x81, 0x02, b'{', b'}'], 1002),
        ("not UTF-8", frame(FIN | TEXT, b"\xff"), 1007),
        ("2^63 bytes announced", head(FIN | TEXT, 1 << 63), 1009),
    ] {
        let mut raw = Raw::session(server.address, &ana.token).await;
        raw.send(&bytes).await;
        assert_eq!(raw.close_code().await, code, "{what}");
    }
}

#[tokio::test]
async fn connections_over_user_or_address_limit_are_closed_with_4101() {
    let server = limited(|c| c.limits.connections_per_user = 2).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (first, _second) = (server.connect(&ana.token).await, server.connect(&ana.token).await);
    let path = format!("/ws/device/?token={}", ana.token);
    let event = server.ws(&path).await.disconnected().await;
    assert_eq!((&event["code"], &event["reconnect"]), (&json!(4101), &json!(true)));
    server.connect(&bob.token).await;
    drop(first);
    eventually("the permit is free again", async || server.ws(&path).await.json().await["type"] == "connection_status").await;

    let server = limited(|c| c.limits.connections_per_address = 1).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let _only = server.connect(&ana.token).await;
    assert_eq!(server.ws(&format!("/ws/device/?token={}", bob.token)).await.disconnected().await["code"], 4101);
}

/// The status of a handshake that was answered over HTTP, and its `Retry-After`.
async fn refused(server: &Server, path: &str) -> Option<(u16, u64)> {
    match server.try_ws(path, &[]).await {
        Err(Error::Http(response)) => {
            let wait = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            Some((response.status().as_u16(), wait))
        }
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn connections_over_total_limit_get_503() {
    let server = limited(|c| c.limits.connections = 1).await;
    let ana = server.user("ana").await;
    let _only = server.connect(&ana.token).await;
    assert_eq!(refused(&server, &format!("/ws/device/?token={}", ana.token)).await, Some((503, 1)));
}

#[tokio::test]
async fn handshakes_over_rate_get_429() {
    let server = limited(|c| {
        (c.limits.connects_per_minute, c.limits.connections_per_address, c.limits.connections_per_user) = (3, 3, 3);
    })
    .await;
    let ana = server.user("ana").await;
    // Without a good credential, and with one: each has an allowance of its own.
    for path in ["/ws/device/?token=wrong".to_owned(), format!("/ws/device/?token={}", ana.token)] {
        for _ in 0..3 {
            assert_eq!(refused(&server, &path).await, None);
        }
        let (status, wait) = refused(&server, &path).await.unwrap();
        assert_eq!(status, 429);
        assert!((1..=20).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn refused_credentials_over_rate_get_429() {
    let server = limited(|c| c.limits.refusals_per_minute = 4).await;
    let ana = server.user("ana").await;
    for _ in 0..4 {
        assert_eq!(server.ws("/ws/device/?token=wrong").await.disconnected().await["code"], 4001);
    }
    let (status, wait) = refused(&server, "/ws/device/?token=wrong").await.unwrap();
    assert_eq!(status, 429);
    assert_eq!(wait, 60);
    server.connect(&ana.token).await; // who is welcome still gets in
}

#[tokio::test]
async fn log_ins_over_rate_get_429() {
    let server = limited(|c| c.limits.logins_per_minute = 3).await;
    for _ in 0..3 {
        server.login("admin", "wrong").await.expect(401);
    }
    let answer = server.login("admin", ADMIN_PASSWORD).await;
    assert!(answer.headers.contains_key("retry-after"));
    let body = answer.expect(429);
    assert_eq!(body["code"], "too_many_requests");
    assert!(body["retry_after"].as_u64().unwrap() >= 1);
}

#[tokio::test]
async fn silent_client_is_closed_with_4102_and_answering_one_stays() {
    let server = limited(|c| {
        (c.limits.ping_seconds, c.limits.idle_seconds, c.limits.stalled_seconds) = (1, 2, 3);
    })
    .await;
    let ana = server.user("ana").await;
    // This one answers pings, as every client does while it is polled: it gets more of them than the idle time has room for.
    let mut lively = server.connect(&ana.token).await;
    let lively = tokio::spawn(async move {
        for _ in 0..3 {
            let message = timeout(DEADLINE, lively.stream.next()).await.expect("a ping in time").unwrap().unwrap();
            assert!(message.is_ping(), "{message:?}");
        }
    });
    let mut silent = Raw::session(server.address, &ana.token).await;
    assert_eq!(silent.close_code().await, 4102);
    lively.await.unwrap();
}

#[tokio::test]
async fn zero_disables_limits() {
    let off = |c: &mut Config| {
        let l = &mut c.limits;
        l.messages_per_minute = 0;
        l.user_messages_per_minute = 0;
        l.max_message_chars = 0;
        l.max_frame_bytes = 0;
        l.connections_per_user = 0;
        l.connections_per_address = 0;
        l.connections = 0;
        l.ping_seconds = 0;
        l.idle_seconds = 0;
        l.write_seconds = 0;
        l.push_bytes = 0;
        l.devices_per_user = 0;
    };
    let server = limited(off).await;
    let ana = server.user("ana").await;
    let mut clients = Vec::new();
    for _ in 0..25 {
        clients.push(server.connect(&ana.token).await);
    }
    pings(&mut clients[0], 400).await;
    let long = "x".repeat(300_000);
    let answer = clients[0].ask(json!({"type": "chat_message", "message": long})).await;
    assert_eq!(answer["message"].as_str().unwrap().len(), 300_000 + "收到消息:".len());
    server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": long})).await.ok();
    assert_eq!(clients[1].json().await["type"], "system");
}
