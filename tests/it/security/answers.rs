//! Answers that their clients don't read: the memory that they take, and the others, who are served.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::support::page::Page;
use crate::support::program::Running;
use crate::support::{ADMIN_PASSWORD, DEADLINE, eventually, http};

const OPEN: &str = "[auth]\nregistration = \"open\"\n[limits]\nlogins_per_minute = 0\nrequests_per_minute = 0\n\
                    trusted_requests_per_minute = 0\n";

/// A user with messages of 255 KB: as many as fit the mailbox.
struct Full {
    id: u64,
    token: String,
}

impl Full {
    async fn make(address: SocketAddr, name: &str, messages: usize) -> Self {
        let body = json!({"username": name, "password": format!("{name}-password")});
        let made = http::post(address, "/api/auth/register", "", body).await.expect(201);
        let (id, token) = (made["data"]["user"]["id"].as_u64().unwrap(), made["token"].as_str().unwrap().to_owned());
        let (path, body) = (format!("/api/messages/user/{id}"), json!({"message": "z".repeat(255_000)}).to_string());
        for _ in 0..messages {
            assert_eq!(http::call(address, "POST", &path, &token, &body).await.status, 200);
        }
        Self { id, token }
    }

    /// Asks for `path` and does not read the answer, of which next to nothing fits the receive buffer.
    async fn ask(&self, address: SocketAddr, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = timeout(DEADLINE, socket.connect(address)).await.expect("connects in time").unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {}\r\n\r\n", self.token);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

const HISTORY: &str = "/api/messages/history?limit=1000";

/// The number of refusals for a reason.
async fn refusals(address: SocketAddr, admin: &str, reason: &str) -> f64 {
    let text = http::call(address, "GET", "/metrics", admin, "").await.text;
    Page::read(&text).samples[&format!("qy_lty_refused_total{{reason=\"{reason}\"}}")]
}

/// Reads an answer to its end; returns its `Content-Length` and the bytes of its body that came.
async fn read(stream: &mut TcpStream) -> (usize, usize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(timeout(DEADLINE, stream.read(&mut byte)).await.expect("reads in time").unwrap(), 1);
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let (mut taken, mut buffer) = (0, vec![0; 64 * 1024]);
    while taken < length {
        match timeout(DEADLINE, stream.read(&mut buffer)).await.expect("reads in time") {
            Ok(0) | Err(_) => break,
            Ok(n) => taken += n,
        }
    }
    (length, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_unread_answers_take_bounded_memory_and_nobody_else_waits() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), OPEN).await;
    let address = server.address;
    let admin = http::log_in(address, "admin", ADMIN_PASSWORD).await;
    let (ana, bob) = (Full::make(address, "ana", 56).await, Full::make(address, "bob", 8).await);
    // Once, so that the caches have what they will have.
    http::call(address, "GET", HISTORY, &ana.token, "").await.ok();
    server.forget_peak();
    let (before, _) = server.memory();
    let mut unread = Vec::new();
    for _ in 0..60 {
        unread.push(ana.ask(address, HISTORY).await);
    }
    // Others are served all the while: small answers, messages, and long ones.
    for _ in 0..5 {
        http::call(address, "GET", "/api/auth/me", &bob.token, "").await.ok();
        let page = http::call(address, "GET", HISTORY, &bob.token, "").await;
        assert!(page.text.len() > 1_000_000 && page.text.len() < (1 << 20) + 1000, "{}", page.text.len());
        http::call(address, "GET", "/metrics", &admin, "").await;
        let path = format!("/api/messages/user/{}", bob.id);
        let body = json!({"message": 1}).to_string();
        assert_eq!(http::call(address, "POST", &path, &bob.token, &body).await.status, 200);
    }
    eventually("what has no room is refused", async || refusals(address, &admin, "answer_room").await >= 1.0).await;
    let (_, peak) = server.memory();
    let more = peak.saturating_sub(before) >> 10;
    println!("60 unread answers: {} KiB before, {more} more", before >> 10);
    // 2 MiB for this user, what the others have read, and what the connections and the allocator take.
    assert!(more < 24 << 10, "{more} KiB");
    // One that is read after all is whole, unless it has made way, or says that there was no room.
    let mut whole = 0;
    for stream in &mut unread {
        let (length, taken) = read(stream).await;
        whole += usize::from(length == taken);
    }
    assert!(whole > 0);
    assert_eq!(http::call(address, "GET", HISTORY, &ana.token, "").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_unread_answers_of_many_users_make_way_for_those_that_are_read() {
    let dir = tempfile::tempdir().unwrap();
    // Room for five answers of a page.
    let server = Running::configured(dir.path(), &format!("{OPEN}answer_bytes = 5242880")).await;
    let address = server.address;
    let admin = http::log_in(address, "admin", ADMIN_PASSWORD).await;
    let mut users = Vec::new();
    for n in 0..6 {
        users.push(Full::make(address, &format!("user{n}"), 5).await);
    }
    let reader = users.pop().unwrap();
    let mut unread = Vec::new();
    for user in &users {
        for _ in 0..3 {
            unread.push(user.ask(address, HISTORY).await);
        }
    }
    // Whatever the others do, this one gets all of it, again and again: at once, or by what makes way.
    let mut read_by_it = 0;
    let reading = async {
        while refusals(address, &admin, "answer_too_slow").await < 3.0 {
            let answer = http::call(address, "GET", HISTORY, &reader.token, "").await;
            if answer.status == 200 {
                assert_eq!(answer.json["data"].as_array().unwrap().len(), 4);
                read_by_it += 1;
            } else {
                assert_eq!((answer.status.as_u16(), &answer.json["code"]), (503, &json!("busy")));
                assert_eq!(answer.headers["retry-after"], "1");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * DEADLINE, reading).await.expect("unread answers make way");
    assert!(read_by_it > 0);
    // One that has made way ends early, so that its client notices.
    let mut cut_off = 0;
    for stream in &mut unread {
        let (length, taken) = read(stream).await;
        cut_off += usize::from(taken < length);
    }
    assert!(cut_off >= 3, "{cut_off}");
    // Everything has been given back.
    for user in &users {
        assert_eq!(http::call(address, "GET", HISTORY, &user.token, "").await.status, 200);
    }
    let (_, log) = server.stop().await;
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "clients that don't read fill no log: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_tail_that_is_not_read_keeps_few_messages_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), OPEN).await;
    let address = server.address;
    let ana = Full::make(address, "ana", 0).await;
    let mut tail = UnixStream::connect(dir.path().join("data/admin.sock")).await.unwrap();
    tail.write_all(b"GET /control/tail HTTP/1.1\r\nHost: control\r\n\r\n").await.unwrap();
    let mut head = vec![0; 12];
    tail.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 200");
    let (path, large) = (format!("/api/messages/user/{}", ana.id), "z".repeat(255_000));
    let send = async |text: &str| {
        let body = json!({"message": text, "delivery": "live"}).to_string();
        assert_eq!(http::call(address, "POST", &path, &ana.token, &body).await.status, 200);
    };
    for _ in 0..5 {
        send(&large).await; // so that what these take is there already
    }
    server.forget_peak();
    let (before, _) = server.memory();
    for _ in 0..300 {
        send(&large).await;
    }
    let (_, peak) = server.memory();
    let more = peak.saturating_sub(before) >> 10;
    println!("a tail that is not read: {} KiB before, {more} more", before >> 10);
    assert!(more < 24 << 10, "{more} KiB");
    // It goes on where it reads on, and is told of what it has missed.
    let reading = async {
        let (mut text, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while !String::from_utf8_lossy(&text).contains("\"missed\":true") {
            send("more").await;
            let n = tail.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            text.drain(..text.len().saturating_sub(20)); // the mark may be in two parts
            text.extend_from_slice(&buffer[..n]);
        }
    };
    timeout(DEADLINE, reading).await.expect("the tail goes on");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a13_caller_who_loses_rights_while_waiting_for_room_gets_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    // Room for one answer.
    let server = Running::configured(dir.path(), &format!("{OPEN}answer_bytes = 1")).await;
    let address = server.address;
    let admin = http::log_in(address, "admin", ADMIN_PASSWORD).await;
    let hog = Full::make(address, "hog", 5).await;
    let mut waiting = Vec::new();
    for (name, path, change) in [
        ("ana", HISTORY, json!({"disabled": true})),
        ("bob", "/api/devices", json!({"disabled": true})),
        ("cleo", "/api/users", json!({"role": "user"})),
    ] {
        let user = Full::make(address, name, 1).await;
        if name == "cleo" {
            let path = format!("/api/users/{}", user.id);
            http::call(address, "PATCH", &path, &admin, &json!({"role": "admin"}).to_string()).await.ok();
        }
        waiting.push((user, path, change));
    }
    let unread = hog.ask(address, HISTORY).await;
    let mut head = [0; 12];
    timeout(DEADLINE, unread.peek(&mut head)).await.expect("answers in time").unwrap();
    assert_eq!(&head, b"HTTP/1.1 200", "it has the room");
    let mut asked = Vec::new();
    for (user, path, _) in &waiting {
        asked.push(user.ask(address, path).await);
        http::call(address, "GET", "/api/auth/me", &user.token, "").await.ok();
    }
    for (user, _, change) in &waiting {
        let path = format!("/api/users/{}", user.id);
        http::call(address, "PATCH", &path, &admin, &change.to_string()).await.ok();
    }
    drop(unread);
    let mut found = Vec::new();
    for stream in &mut asked {
        let mut head = [0; 12];
        timeout(DEADLINE, stream.read_exact(&mut head)).await.expect("answers in time").unwrap();
        found.push(String::from_utf8(head[9..].to_vec()).unwrap());
    }
    assert_eq!(found, ["401", "401", "403"]);
    server.stop().await;
}
