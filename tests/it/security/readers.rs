//! Attacks by not reading: slow readers under a flood of broadcasts, readers that trickle, mailboxes that nobody empties.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::load::Load;
use crate::support::page::page_of;
use crate::support::program::Running;
use crate::support::raw::{FIN, PONG, Raw, frame};
use crate::support::{DEADLINE, eventually, http};
use futures_util::future::join_all;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// One address has many clients here; a mailbox holds 20 messages.
const ROOM: &str = "[mailbox]\nmessages = 20\n[limits]\nlogins_per_minute = 0\nconnects_per_minute = 0\nrequests_per_minute = 0\n\
                    messages_per_minute = 0\nuser_messages_per_minute = 0\nconnections_per_user = 0\nconnections_per_address = 0";

/// A large live message.
const LARGE: usize = 200_000;

/// A session whose receive buffer holds next to nothing.
async fn narrow(address: SocketAddr, token: &str) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Raw::over(socket.connect(address).await.unwrap(), token).await
}

/// Sends `message` to `path` and returns the status and the answer.
async fn send(load: &Load, path: &str, token: &str, message: Value, delivery: &str) -> (u16, Value) {
    let body = json!({"message": message, "delivery": delivery}).to_string();
    let answer = http::call(load.address(), "POST", path, token, &body).await;
    (answer.status.as_u16(), answer.json)
}

/// Somebody who reads all the while, answers pings, and keeps the queued messages that came and the number of live ones.
fn reading(mut raw: Raw, until: Arc<Notify>) -> JoinHandle<(Vec<(u64, Value)>, usize)> {
    tokio::spawn(async move {
        let (mut queued, mut live) = (Vec::new(), 0);
        loop {
            let (first, payload) = tokio::select! {
                next = raw.next() => next.expect("it is not cut"),
                () = until.notified() => return (queued, live),
            };
            if first == 0x89 {
                raw.send(&frame(FIN | PONG, &payload)).await;
                continue;
            }
            let event: Value = serde_json::from_slice(&payload).unwrap();
            match event["id"].as_u64() {
                Some(id) => queued.push((id, event["message"].clone())),
                None => live += 1,
            }
        }
    })
}

/// Waits until the server has ended the only session of user `id`, and reads on: the close code, and the event before it. The
/// server waits 5 seconds for them to be read, which begin with the line in the log.
async fn closed_after_session(server: &Running, id: u64, raw: &mut Raw) -> (u16, Value) {
    let user = format!("user={id}");
    let fields = |line: &str| line.split([' ', '{', '}', ':']).any(|field| field == user);
    let ended = async || server.log().lines().any(|line| line.contains("disconnected") && fields(line));
    eventually("its session has ended", ended).await;
    SockRef::from(&raw.stream).set_recv_buffer_size(1 << 20).unwrap();
    raw.closed().await
}

/// Sends large live broadcasts, and a queued one with each, until `count` sessions have ended; returns how many live ones there
/// were, and the queued ones. None is refused, since somebody receives them.
async fn flood(server: &Running, load: &Load, count: usize) -> (usize, Vec<(u64, Value)>) {
    let ended = || server.log().lines().filter(|line| line.contains("disconnected")).count();
    let (path, mut accepted, mut live) = ("/api/messages/broadcast", Vec::new(), 0);
    while ended() < count {
        let text = "x".repeat(if live < 60 { LARGE } else { 20 }); // as much as the kernel's buffers take, and then some
        assert_eq!(send(load, path, &load.admin, json!(text), "live").await.0, 200);
        live += 1;
        let text = json!(format!("number {live}"));
        let (status, answer) = send(load, path, &load.admin, text.clone(), "queued").await;
        assert_eq!(status, 200, "{answer}");
        accepted.push((answer["data"]["id"].as_u64().unwrap(), text));
    }
    (live, accepted)
}

/// Floods `count` slow readers with live and queued broadcasts until their sessions are ended. Half of them read on as
/// soon as their session has ended, and receive its close code; the others read on when the server has closed the sockets.
async fn slow_readers(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), &format!("{ROOM}\nping_seconds = 1\nstalled_seconds = 3")).await;
    let load = Load::prepare(server.address, 2 + count / 2).await;
    let address = server.address;
    let [quick, slow, prompt @ ..] = &load.recipients[..] else { panic!("two users at least") };
    let late = join_all((prompt.len()..count).map(|_| narrow(address, &slow.token))).await;
    let mut prompt_ones = join_all(prompt.iter().map(|user| narrow(address, &user.token))).await;
    let done = Arc::new(Notify::new());
    let quick_one = reading(Raw::session(address, &quick.token).await, done.clone());
    server.forget_peak();
    let (before, _) = server.memory();

    let closed_after_session = prompt_ones.iter_mut().zip(prompt).map(|(raw, user)| closed_after_session(&server, user.id, raw));
    let both = async { tokio::join!(flood(&server, &load, count), join_all(closed_after_session)) };
    let ((live, accepted), words) = timeout(2 * DEADLINE, both).await.expect("all sessions are ended");
    let (_, peak) = server.memory();
    let (queued, more) = (accepted.len(), (peak - before) >> 10);
    println!("{live} live, {queued} queued; {} KiB before, {more} more", before >> 10);

    for (code, event) in words {
        let event = (&event["type"], &event["code"], &event["reconnect"]);
        assert_eq!((code, event), (4102, (&json!("disconnect"), &json!(4102), &json!(true))));
    }
    eventually("their sockets are gone", async || !held(&late)).await;
    for mut raw in late {
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, raw.stream.read_to_end(&mut rest)).await.expect("an end, of either kind");
    }
    let metrics = page_of(address, &load.admin).await;
    assert_eq!(metrics.get("sessions_ended_total{code=\"4102\"}"), count as f64, "all for the same reason");
    done.notify_one();
    let (received, seen_live) = quick_one.await.unwrap();
    assert_eq!(received, accepted, "who reads has them all, in order");
    assert!(seen_live > live / 2, "{seen_live} of {live}");
    // Of what others have received, a mailbox keeps as much as it holds, and the history; the rest is counted.
    let (mut again, status) = Raw::open(address, &format!("/ws/device/?token={}", slow.token)).await;
    let missed = usize::try_from(status["missed"].as_u64().unwrap_or(0)).unwrap();
    assert_eq!(missed, queued.saturating_sub(20 + 100));
    for (id, text) in &accepted[missed..] {
        let event = again.take().await;
        assert_eq!((event["id"].as_u64(), &event["message"]), (Some(*id), text), "who comes later has them, too");
    }
    assert!(peak < before + (64 << 20), "{before} bytes before, {peak} at most");
}

/// Returns true if the server still holds any of these open, without having shut it down.
fn held<'a>(sessions: impl IntoIterator<Item = &'a Raw>) -> bool {
    let ports: Vec<u16> = sessions.into_iter().map(|raw| raw.stream.local_addr().unwrap().port()).collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace().skip(2); // number and near end; then far end and state
        let (far, state) = (columns.next().unwrap(), columns.next().unwrap());
        state == "01" && ports.contains(&u16::from_str_radix(far.rsplit(':').next().unwrap(), 16).unwrap())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_slow_readers_are_closed_and_others_receive_all() {
    slow_readers(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the reduced form runs every time"]
async fn a19_fifty_slow_readers_are_closed() {
    slow_readers(50).await;
}

/// Large live messages of a user to its own connections, which read just enough not to be closed: `first` of them, and then
/// `each` more before each connection in turn reads on a little. A write may wait for two minutes, so that none is closed on a
/// slow machine either.
async fn trickling_readers(count: usize, first: usize, each: usize) {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), &format!("{ROOM}\nwrite_seconds = 120")).await;
    let load = Load::prepare(server.address, 1).await;
    let (address, user) = (server.address, &load.recipients[0]);
    let mut readers = join_all((0..count).map(|_| narrow(address, &user.token))).await;
    let (path, large) = (format!("/api/messages/user/{}", user.id), json!("x".repeat(LARGE)));
    let post = async |n: usize| {
        for _ in 0..n {
            let (status, answer) = send(&load, &path, &user.token, large.clone(), "live").await;
            assert_eq!((status, &answer["data"]["recipients"]), (200, &json!(count)), "all are still there");
        }
    };
    server.forget_peak();
    let (before, _) = server.memory();
    post(first).await;
    for raw in &mut readers {
        post(each).await;
        for _ in 0..20 {
            raw.next().await.unwrap(); // the write that waits is let through; what is begun next is large
        }
    }
    post(1).await;
    let (after, peak) = server.memory();
    println!("{} KiB before, {} more, {} at the peak", before >> 10, after.saturating_sub(before) >> 10, (peak - before) >> 10);
    assert!(peak < before + (64 << 20), "{before} bytes before, {peak} at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_trickling_readers_share_pending_messages() {
    trickling_readers(10, 90, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_trickling_readers_in_turn_take_bounded_memory() {
    trickling_readers(10, 30, 64).await;
}

#[tokio::test]
async fn a19_disabled_user_cannot_delay_close_by_trickling() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await;
    let load = Load::prepare(server.address, 1).await;
    let user = &load.recipients[0];
    let mut raw = narrow(server.address, &user.token).await;
    let path = format!("/api/messages/user/{}", user.id);
    for _ in 0..30 {
        assert_eq!(send(&load, &path, &load.admin, json!("x".repeat(LARGE)), "live").await.0, 200);
    }
    let path = format!("/api/users/{}", user.id);
    http::call(load.address(), "PATCH", &path, &load.admin, r#"{"disabled":true}"#).await.ok();
    let mut some = [0; 1024];
    let trickling = async {
        while held([&raw]) {
            let _ = timeout(Duration::from_millis(50), raw.stream.read(&mut some)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // At that rate it would take ten minutes to read what was sent.
    timeout(DEADLINE, trickling).await.expect("its socket is gone");
}

/// A flood of `count` messages to a device that is away.
async fn flood_an_absent_device(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await;
    let load = Load::prepare(server.address, 1).await;
    let (address, user) = (load.address(), &load.recipients[0]);
    let made = http::post(address, "/api/devices", &user.token, json!({"name": "lamp", "primary": true})).await.expect(201);
    let device = made["data"]["id"].as_u64().unwrap();
    let path = format!("/api/messages/device/{device}");
    server.forget_peak();
    let (before, _) = server.memory();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for n in 0..count {
        let text = json!(format!("{n} {}", "x".repeat(10_000)));
        match send(&load, &path, &user.token, text.clone(), "queued").await {
            (200, answer) => accepted.push((answer["data"]["id"].as_u64().unwrap(), text)),
            (507, answer) => {
                assert_eq!(answer["code"], "mailbox_full", "{answer}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let (_, peak) = server.memory();
    println!("{refused} of {count} refused; {} KiB before, {} more", before >> 10, peak.saturating_sub(before) >> 10);
    assert_eq!((accepted.len(), refused), (18, count - 18), "the last tenth is not for users");
    assert!(peak < before + (16 << 20), "{before} bytes before, {peak} at most");

    let minted = http::post(address, &format!("/api/devices/{device}/token"), &user.token, json!({})).await.expect(201);
    let mut raw = Raw::session(server.address, minted["data"]["token"].as_str().unwrap()).await;
    for (id, text) in &accepted {
        let event = raw.take().await;
        assert_eq!((event["id"].as_u64(), &event["message"]), (Some(*id), text));
    }
}

#[tokio::test]
async fn a19_full_mailbox_refuses_and_keeps_accepted() {
    flood_an_absent_device(200).await;
}

#[tokio::test]
#[ignore = "long: the reduced form runs every time"]
async fn a19_flood_to_absent_device_is_bounded() {
    flood_an_absent_device(20_000).await;
}
