//! Bodies that don't end: the memory that they hold has a bound, and nobody is kept out by them.

use std::net::SocketAddr;

use crate::support::http::log_in;
use crate::support::program::Running;
use crate::support::{ADMIN_PASSWORD, eventually, http, raw};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The bodies that are held back, and the size of each.
const BODIES: usize = 400;
const BODY_BYTES: usize = 262_144;

/// Connects from one of many addresses.
async fn connect(to: SocketAddr, n: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 2, u8::try_from(n % 100 + 1).unwrap()], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_their_last_byte_take_their_share_of_memory_and_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), "[limits]\nlogins_per_minute = 0\nrequests_per_minute = 0\n").await;
    let admin = log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let mut tokens = Vec::new();
    for name in ["ana", "bob"] {
        let body = json!({"username": name, "password": "some-password"}).to_string();
        http::call(server.address, "POST", "/api/users", &admin, &body).await.expect(201);
        tokens.push(log_in(server.address, name, "some-password").await);
    }
    let [ana, bob] = &tokens[..] else { unreachable!() };
    server.forget_peak();
    let before = server.memory().0;
    let mut held = Vec::new();
    for n in 0..BODIES {
        let mut stream = connect(server.address, n).await;
        let head = format!(
            "POST /api/messages/user/2 HTTP/1.1\r\nHost: x\r\nAuthorization: Token {ana}\r\nContent-Type: application/json\r\n\
             Content-Length: {BODY_BYTES}\r\n\r\n"
        );
        held.push(tokio::spawn(async move {
            let body = vec![b' '; BODY_BYTES - 1];
            // What the server does not read stays with the sender.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            raw::Reply::parse(&answer).status
        }));
    }
    // Meanwhile others are served, with small bodies and with large ones.
    let large = json!({"message": "x".repeat(200_000)}).to_string();
    for body in [r#"{"message":"small"}"#, &large, r#"{"message":"small"}"#, &large] {
        http::call(server.address, "POST", "/api/messages/user/3", bob, body).await.ok();
    }
    let ended = async || held.iter().filter(|body| body.is_finished()).count();
    eventually("some had to give way", async || ended().await > 0).await;
    let peak = server.memory().1.saturating_sub(before);
    // A share of 8 MiB, the buffers of the connections, and what the allocator keeps; 100 MiB were sent.
    assert!(peak < 64 << 20, "{} MiB", peak >> 20);
    let mut statuses = Vec::new();
    for body in held {
        if body.is_finished() {
            statuses.push(body.await.unwrap());
        } else {
            body.abort();
        }
    }
    assert!(statuses.iter().all(|status| matches!(status, 0 | 408)), "{statuses:?}");
    server.stop().await;
}
