//! Messages in flight to clients of different habits: busy ones, slow ones, and those that read a little and leave.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::mailbox::{receipt, send};
use crate::support::page::page;
use crate::support::raw::{CLOSE, FIN, PONG, Raw, code, frame, text};
use crate::support::{DEADLINE, Server, User, eventually, roomy};
use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Starts a server on which a client that is silent for two seconds is looked at, and a write that waits for one.
async fn strict() -> Server {
    let mut config = roomy();
    (config.limits.ping_seconds, config.limits.idle_seconds, config.limits.write_seconds) = (1, 2, 1);
    Server::with(config).await
}

/// A session whose receive buffer holds next to nothing.
async fn narrow(address: SocketAddr, token: &str) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Raw::over(socket.connect(address).await.unwrap(), token).await
}

/// Reads the next ping's payload, without answering.
async fn ping(raw: &mut Raw) -> Vec<u8> {
    loop {
        if let (0x89, payload) = raw.next().await.expect("a ping") {
            return payload;
        }
    }
}

/// Queues `count` messages of about `bytes` each; returns their ids.
async fn backlog(server: &Server, user: &User, count: usize, bytes: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(send(server, user, json!({"n": n, "pad": "x".repeat(bytes)})).await);
    }
    ids
}

async fn waiting(server: &Server, user: &User) -> u64 {
    server.get(&format!("/api/queue/user/{}", user.id), Some(&user.token)).await.ok()["data"]["messages"].as_u64().unwrap()
}

/// The entry of the only connection.
async fn connection(server: &Server) -> Value {
    let admin = server.admin().await;
    server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["connections"][0].clone()
}

#[tokio::test]
async fn busy_client_is_not_cut_and_receives_everything() {
    let server = strict().await;
    let ana = server.user("ana").await;
    let ids = backlog(&server, &ana, 40, 3000).await;
    let mut raw = narrow(server.address, &ana.token).await;
    // Live messages fill the buffers, so that a write waits, too.
    let large = json!({"message": "x".repeat(200_000), "delivery": "live"});
    for _ in 0..40 {
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, large.clone()).await.ok();
    }
    sleep(Duration::from_secs(6)).await;
    assert_eq!(connection(&server).await["user_id"], ana.id, "still connected");
    let mut got = Vec::new();
    while got.len() < ids.len() {
        got.extend(raw.take().await["id"].as_u64());
    }
    assert_eq!(got, ids);
    ping(&mut raw).await;
}

#[tokio::test]
async fn client_that_takes_its_time_for_each_message_empties_its_queue() {
    let server = strict().await;
    let ana = server.user("ana").await;
    let ids = backlog(&server, &ana, 40, 3000).await;
    let mut raw = narrow(server.address, &ana.token).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(raw.take().await["id"], *id);
        sleep(Duration::from_millis(200)).await;
        if n == ids.len() / 2 {
            let left = waiting(&server, &ana).await;
            assert!(left < ids.len() as u64 - 5, "{left} are left half-way");
        }
    }
    let reading = async {
        loop {
            let payload = ping(&mut raw).await;
            raw.send(&frame(FIN | PONG, &payload)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = eventually("all are received", async || waiting(&server, &ana).await == 0) => {}
    }
}

#[tokio::test]
async fn vanished_peer_is_closed_long_before_it_would_have_stalled() {
    let server = strict().await;
    let ana = server.user("ana").await;
    let raw = Raw::session(server.address, &ana.token).await;
    // Its kernel drops every packet from here on, acknowledgements included: `ret 0`.
    SockRef::from(&raw.stream).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    let admin = server.admin().await;
    eventually("it is closed", async || page(&server, &admin).await.get("sessions_ended_total{code=\"4102\"}") == 1.0).await;
    assert_eq!(page(&server, &admin).await.get("sessions_stalled_total"), 0.0);
}

#[tokio::test]
async fn write_to_a_vanished_peer_ends_with_4100() {
    let mut config = roomy();
    config.limits.write_seconds = 1;
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let raw = narrow(server.address, &ana.token).await;
    SockRef::from(&raw.stream).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    let large = json!({"message": "x".repeat(200_000), "delivery": "live"});
    for _ in 0..40 {
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, large.clone()).await.ok();
    }
    eventually("it is closed", async || page(&server, &admin).await.get("sessions_ended_total{code=\"4100\"}") == 1.0).await;
}

#[tokio::test]
async fn client_without_sign_of_life_is_closed_when_it_has_stalled() {
    let mut config = roomy();
    (config.limits.ping_seconds, config.limits.stalled_seconds) = (1, 2);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    assert_eq!(Raw::session(server.address, &ana.token).await.close_code().await, 4102);
    let admin = server.admin().await;
    assert_eq!(page(&server, &admin).await.get("sessions_stalled_total"), 1.0);
}

#[tokio::test]
async fn proof_after_the_close_frame_counts() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let id = send(&server, &ana, json!(1)).await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    let watermark = ping(&mut raw).await;
    server.http("POST", "/api/auth/logout", Some(&ana.token), None).await.ok();
    loop {
        if let (0x88, payload) = raw.next().await.expect("a close frame") {
            assert_eq!(code(&payload), Some(4001));
            break;
        }
    }
    raw.send(&frame(FIN | PONG, &watermark)).await;
    eventually("it is received", async || receipt(&server, &admin, id).await["status"] == "acked").await;
}

#[tokio::test]
async fn watermark_is_printable_and_only_a_whole_one_proves() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let id = send(&server, &ana, json!(1)).await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    let watermark = ping(&mut raw).await;
    assert!(watermark.len() <= 125 && watermark.iter().all(u8::is_ascii_graphic), "{watermark:?}");
    assert!(watermark.starts_with(format!("{id}.").as_bytes()));
    for cut in [&watermark[..watermark.len() - 1], &watermark[..3], &[&watermark[..], b"\0"].concat()] {
        raw.send(&frame(FIN | PONG, cut)).await;
    }
    raw.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(raw.event().await["type"], "pong");
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "sent");
    raw.send(&frame(FIN | PONG, &watermark)).await;
    eventually("it is received", async || receipt(&server, &ana.token, id).await["status"] == "acked").await;
}

#[tokio::test]
async fn client_that_proves_nothing_is_counted_and_listed_until_it_does() {
    let server = strict().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let id = send(&server, &ana, json!(1)).await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    // Its pongs end early, as if the payload were a C string that holds a zero.
    while connection(&server).await["proof"] != "none" {
        let watermark = ping(&mut raw).await;
        raw.send(&frame(FIN | PONG, &watermark[..1])).await;
    }
    assert_eq!(page(&server, &admin).await.get("sessions_unproved_total"), 1.0);
    let watermark = ping(&mut raw).await;
    raw.send(&frame(FIN | PONG, &watermark)).await;
    eventually("it has proved something", async || connection(&server).await["proof"] == Value::Null).await;
    eventually("it is received", async || receipt(&server, &ana.token, id).await["status"] == "acked").await;
    assert_eq!(page(&server, &admin).await.get("sessions_unproved_total"), 1.0);
}

#[tokio::test]
async fn first_frame_for_an_esp32_comes_after_the_101() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /ws/device/?token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         User-Agent: ESP32 Websocket Client\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ana.token
    );
    let start = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        assert_ne!(timeout(DEADLINE, stream.read_buf(&mut got)).await.unwrap().unwrap(), 0);
    }
    assert!(got.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&got));
    assert_ne!(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn acknowledgement_that_moves_the_cursor_is_free_and_others_count() {
    let mut config = roomy();
    config.limits.messages_per_minute = 5;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let ids = backlog(&server, &ana, 20, 10).await;
    let mut raw = Raw::session(server.address, &format!("{}&ack=client", ana.token)).await;
    let ack = |id: u64| text(&json!({"type": "ack", "message": {"id": id}}).to_string());
    for id in &ids {
        assert_eq!(raw.event().await["id"], *id);
        raw.send(&ack(*id)).await;
    }
    eventually("all are received", async || waiting(&server, &ana).await == 0).await;
    raw.send(&ack(ids[0])).await; // repeated: ignored, and counted
    raw.send(&ack(ids[19] + 1)).await;
    let error = raw.event().await;
    assert_eq!(error["code"], "VALIDATION_ERROR");
    assert!(error["message"].as_str().unwrap().contains("message.id"), "{error}");
    for _ in 0..4 {
        raw.send(&ack(ids[3])).await;
    }
    assert_eq!(raw.close_code().await, 4008);

    // An earlier connection has acknowledged this one: no error.
    let mut raw = Raw::session(server.address, &format!("{}&ack=client", ana.token)).await;
    raw.send(&ack(ids[19])).await;
    raw.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(raw.event().await["type"], "pong");
}

#[tokio::test]
async fn client_that_reads_what_waits_and_closes_leaves_only_the_last_unproved() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = backlog(&server, &ana, 8, 10).await;
    let mut raw = Raw::session(server.address, &ana.token).await;
    for id in &ids {
        assert_eq!(raw.take().await["id"], *id);
    }
    raw.send(&frame(FIN | CLOSE, &1000_u16.to_be_bytes())).await;
    eventually("only the last one waits", async || waiting(&server, &ana).await == 1).await;
    assert_eq!(Raw::session(server.address, &ana.token).await.take().await["id"], ids[7]);
}

#[tokio::test]
async fn client_that_always_leaves_after_a_few_messages_gets_all() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = backlog(&server, &ana, 30, 3000).await;
    let (mut got, mut left) = (Vec::new(), u64::MAX);
    while left > 0 {
        let before = left;
        for _ in 0..3 {
            let (mut raw, status) = Raw::open(server.address, &format!("/ws/device/?token={}", ana.token)).await;
            for _ in 0..status["pending"].as_u64().unwrap().min(3) {
                got.push(raw.take().await["id"].as_u64().unwrap());
            }
            if got.last() == ids.last() {
                let payload = ping(&mut raw).await;
                raw.send(&frame(FIN | PONG, &payload)).await;
                eventually("all are received", async || waiting(&server, &ana).await == 0).await;
                break;
            }
            drop(raw); // without a closing handshake
        }
        eventually("fewer wait after three connections", async || waiting(&server, &ana).await < before).await;
        left = waiting(&server, &ana).await;
    }
    got.sort_unstable();
    got.dedup();
    assert_eq!(got, ids);
}

#[tokio::test]
async fn close_code_of_a_client_for_a_large_message_is_counted() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    backlog(&server, &ana, 1, 250_000).await;
    let mut raw = narrow(server.address, &ana.token).await;
    raw.send(&frame(FIN | CLOSE, &1009_u16.to_be_bytes())).await;
    drop(raw);
    eventually("it is counted", async || page(&server, &admin).await.get("sessions_client_too_big_total") == 1.0).await;
    assert_eq!(waiting(&server, &ana).await, 1);
}
