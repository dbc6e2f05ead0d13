//! Attacks by not reading: slow readers under a flood of broadcasts, readers that trickle, mailboxes that nobody empties.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::load::{Load, request};
use crate::support::program::Running;
use crate::support::raw::{FIN, PONG, Raw, frame};
use crate::support::{ADMIN_PASSWORD, eventually};
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
    request(&load.address(), "POST", path, token, &body).await.expect("an answer")
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

/// Half of them read on while the server waits for its last words to be taken, and learn why they were cut; the others read on
/// when nobody waits any more.
async fn shown_out(mut readers: Vec<Raw>) {
    let late = readers.split_off(readers.len() / 2);
    let words = join_all(readers.iter_mut().map(async |raw| {
        SockRef::from(&raw.stream).set_recv_buffer_size(1 << 20).unwrap();
        raw.closed().await
    }));
    for (code, event) in words.await {
        assert_eq!(
            (code, &event["type"], &event["code"], &event["reconnect"]),
            (4100, &json!("disconnect"), &json!(4100), &json!(true))
        );
    }
    eventually("their sockets are gone", async || !held(&late)).await;
    for mut raw in late {
        let mut rest = Vec::new();
        let _ = timeout(crate::support::DEADLINE, raw.stream.read_to_end(&mut rest)).await.expect("an end, of either kind");
    }
}

/// Floods `count` slow readers with live and queued broadcasts until all are given up.
async fn slow_readers(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::configured(dir.path(), &format!("{ROOM}\nwrite_seconds = 1")).await;
    let log = server.kept();
    let given_up = || log.lock().unwrap().lines().filter(|l| l.contains("disconnected") && l.contains("TooSlow")).count();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 2).await;
    let (address, [slow, quick]) = (server.socket_address(), [&load.recipients[0], &load.recipients[1]]);
    let broadcast = "/api/messages/broadcast";
    let readers = join_all((0..count).map(|_| narrow(address, &slow.token))).await;
    let done = Arc::new(Notify::new());
    let quick_one = reading(Raw::session(address, &quick.token).await, done.clone());
    server.forget_peak();
    let (before, _) = server.memory();

    let (mut accepted, mut refused, mut live) = (Vec::new(), 0, 0);
    let flood = async {
        while given_up() < count {
            let text = "x".repeat(if live < 60 { LARGE } else { 20 }); // what the kernel's buffers take, and then some
            assert_eq!(send(&load, broadcast, &load.admin, json!(text), "live").await.0, 200);
            live += 1;
            let text = json!(format!("number {live}"));
            match send(&load, broadcast, &load.admin, text.clone(), "queued").await {
                (200, answer) => accepted.push((answer["data"]["id"].as_u64().unwrap(), text)),
                (507, answer) => refused += usize::from(answer["code"] == "mailbox_full"),
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(Duration::from_secs(20), flood).await.expect("all are given up");
    let (_, peak) = server.memory();
    println!(
        "{live} live, {} queued, {refused} refused; {} KiB before, {} more",
        accepted.len(),
        before >> 10,
        (peak - before) >> 10
    );

    shown_out(readers).await;
    assert_eq!((accepted.len(), live - 20), (20, refused), "the mailbox takes as many as it holds, and says so to the others");
    done.notify_one();
    let (queued, seen_live) = quick_one.await.unwrap();
    assert_eq!(queued, accepted, "who reads has them all, in order");
    assert!(seen_live > live / 2, "{seen_live} of {live}");
    let mut late = Raw::session(address, &slow.token).await;
    for (id, text) in &accepted {
        let event = late.event().await;
        assert_eq!((event["id"].as_u64(), &event["message"]), (Some(*id), text), "who comes later has them, too");
    }
    assert!(peak < before + (64 << 20), "{before} bytes before, {peak} at most");
}

/// Whether the other end of any of these still holds it open, without having shut it down.
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
async fn a19_slow_readers_are_given_up_and_nobody_else_notices() {
    slow_readers(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: the reduced form runs every time"]
async fn a19_fifty_slow_readers() {
    slow_readers(50).await;
}

/// Large live messages of a user to its own connections, which read just enough not to be given up: `first` of them, and then
/// `each` more before each connection in turn reads on a little.
async fn trickling_readers(count: usize, first: usize, each: usize) {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await.quiet();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 1).await;
    let (address, user) = (server.socket_address(), &load.recipients[0]);
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
async fn a19_trickling_readers_share_what_waits_for_them() {
    trickling_readers(10, 90, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_trickling_readers_in_turn() {
    trickling_readers(10, 30, 64).await;
}

#[tokio::test]
async fn a19_who_is_shown_out_can_not_linger_by_trickling() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await.quiet();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 1).await;
    let user = &load.recipients[0];
    let mut raw = narrow(server.socket_address(), &user.token).await;
    let path = format!("/api/messages/user/{}", user.id);
    for _ in 0..30 {
        assert_eq!(send(&load, &path, &load.admin, json!("x".repeat(LARGE)), "live").await.0, 200);
    }
    let path = format!("/api/users/{}", user.id);
    assert_eq!(request(&load.address(), "PATCH", &path, &load.admin, r#"{"disabled":true}"#).await.unwrap().0, 200);
    let mut some = [0; 1024];
    let trickling = async {
        while held([&raw]) {
            let _ = timeout(Duration::from_millis(50), raw.stream.read(&mut some)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let start = std::time::Instant::now();
    timeout(Duration::from_secs(5), trickling).await.expect("its socket is gone a few seconds later");
    println!("gone after {:?}", start.elapsed());
}

/// A flood of `count` messages to a device that is away.
async fn flood_an_absent_device(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), ROOM).await.quiet();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 1).await;
    let (address, user) = (load.address(), &load.recipients[0]);
    let made = request(&address, "POST", "/api/devices", &user.token, r#"{"name":"lamp","primary":true}"#).await.unwrap().1;
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
    assert_eq!((accepted.len(), refused), (20, count - 20));
    assert!(peak < before + (16 << 20), "{before} bytes before, {peak} at most");

    let minted = request(&address, "POST", &format!("/api/devices/{device}/token"), &user.token, "{}").await.unwrap().1;
    let mut raw = Raw::session(server.socket_address(), minted["data"]["token"].as_str().unwrap()).await;
    for (id, text) in &accepted {
        let event = raw.event().await;
        assert_eq!((event["id"].as_u64(), &event["message"]), (Some(*id), text));
    }
}

#[tokio::test]
async fn a19_a_full_mailbox_refuses_and_keeps_what_it_took() {
    flood_an_absent_device(200).await;
}

#[tokio::test]
#[ignore = "long: the reduced form runs every time"]
async fn a19_twenty_thousand_messages_to_an_absent_device() {
    flood_an_absent_device(20_000).await;
}
