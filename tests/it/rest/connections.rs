//! HTTP connections and bodies as RFC 9112 and RFC 9110 have them, over sockets whose bytes the test writes itself.

use std::time::Duration;

use crate::support::raw::{HERE, Reply, connect, rest_within};
use crate::support::{DEADLINE, Server, User, unlimited};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection that is kept.
struct Kept {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Kept {
    async fn to(server: &Server) -> Self {
        Self { stream: connect(HERE, server.address).await, seen: Vec::new() }
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(DEADLINE, self.stream.write_all(bytes.as_ref())).await.expect("is read in time").unwrap();
    }

    /// The next response; `None` where the server has closed instead.
    async fn next(&mut self) -> Option<Reply> {
        loop {
            let end = self.seen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end {
                let head = Reply::parse(&self.seen[..end]);
                let length: usize = head.header("content-length").map_or(0, |n| n.parse().unwrap());
                if self.seen.len() >= end + length {
                    return Some(Reply::parse(&self.seen.drain(..end + length).collect::<Vec<_>>()));
                }
            }
            let read = timeout(DEADLINE, self.stream.read_buf(&mut self.seen)).await.expect("answers in time");
            if read.expect("no reset") == 0 {
                assert!(self.seen.is_empty(), "half a response");
                return None;
            }
        }
    }

    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.write(bytes).await;
        self.next().await.expect("an answer")
    }
}

/// A push to oneself, with further lines in its head.
fn push(user: &User, lines: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/messages/user/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\nContent-Type: application/json\r\n{lines}\r\n",
        user.id, user.token
    );
    [head.as_bytes(), body].concat()
}

/// The same with the length of its body.
fn sized(user: &User, lines: &str, body: &str) -> Vec<u8> {
    push(user, &format!("Content-Length: {}\r\n{lines}", body.len()), body.as_bytes())
}

const BODY: &str = r#"{"message":"hello"}"#;

#[tokio::test]
async fn connection_is_kept_for_longer_than_a_head_may_take() {
    let mut config = unlimited();
    config.limits.head_seconds = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    for _ in 0..3 {
        assert_eq!(kept.ask(sized(&ana, "", BODY)).await.status, 200);
        sleep(Duration::from_millis(2200)).await;
    }
    assert_eq!(kept.ask(HEALTH).await.status, 200);
    kept.write("GET /healthz HTTP/1.1\r\nHo").await;
    assert_eq!(kept.next().await, None, "the next head has as much time as the first");
}

#[tokio::test]
async fn idle_connection_ends_after_its_time() {
    let mut config = unlimited();
    (config.limits.head_seconds, config.limits.keep_alive_seconds) = (600, 1);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    for request in
        [HEALTH.into(), sized(&ana, "", BODY), sized(&ana, "", "{"), b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()]
    {
        let mut kept = Kept::to(&server).await;
        kept.ask(&request).await;
        sleep(Duration::from_millis(300)).await;
        kept.ask(&request).await;
        assert_eq!(kept.next().await, None);
    }
}

#[tokio::test]
async fn empty_line_after_a_body_begins_no_head() {
    let mut config = unlimited();
    config.limits.head_seconds = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    for _ in 0..2 {
        assert_eq!(kept.ask(sized(&ana, "", BODY)).await.status, 200);
        kept.write("\r\n").await;
        sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(kept.ask(HEALTH).await.status, 200);
}

#[tokio::test]
async fn idle_connections_give_way_when_there_are_too_many() {
    for of_address in [false, true] {
        let mut config = unlimited();
        match of_address {
            true => config.limits.sockets_per_address = Some(5),
            false => config.limits.sockets = 5,
        }
        let server = Server::with(config).await;
        let mut all = Vec::new();
        for n in 0..12 {
            let mut kept = Kept::to(&server).await;
            assert_eq!(kept.ask(HEALTH).await.status, 200, "{n}");
            all.push(kept);
        }
        let mut youngest = all.pop().unwrap();
        assert_eq!(youngest.ask(HEALTH).await.status, 200, "the youngest is kept");
        let closed = rest_within(&mut all[0].stream, DEADLINE).await;
        assert_eq!(closed.as_deref(), Some(&b""[..]), "the oldest has given way");
    }
}

#[tokio::test]
async fn compressed_body_is_refused_by_name() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    for coding in ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip", "gzip, identity"] {
        let reply = kept.ask(sized(&ana, &format!("Content-Encoding: {coding}\r\n"), BODY)).await;
        let body = reply.expect(415);
        assert_eq!(body["code"], "unsupported_encoding");
        assert!(body["message"].as_str().unwrap().contains(coding), "{body}");
        assert_eq!(reply.header("accept-encoding"), Some("identity"));
    }
    for coding in ["identity", ""] {
        assert_eq!(kept.ask(sized(&ana, &format!("Content-Encoding: {coding}\r\n"), BODY)).await.status, 200, "{coding}");
    }
    for coding in ["gzip, chunked", "deflate, chunked", "chunked, chunked"] {
        let mut kept = Kept::to(&server).await;
        let reply = kept.ask(push(&ana, &format!("Transfer-Encoding: {coding}\r\n"), b"0\r\n\r\n")).await;
        let body = reply.expect(501);
        assert!(body["message"].as_str().unwrap().contains(coding), "{body}");
        assert_eq!(kept.next().await, None, "where the body ends is not known");
    }
    let mut kept = Kept::to(&server).await;
    assert_eq!(kept.ask(push(&ana, "Transfer-Encoding: gzip\r\n", b"0\r\n\r\n")).await.status, 400, "no end at all");
}

#[tokio::test]
async fn body_in_chunks_is_taken() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    let bytes: String = BODY.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let half = BODY.len() / 2;
    let halves = format!("{half:X};name=\"value\"\r\n{}\r\n000{:x}\r\n{}\r\n", &BODY[..half], BODY.len() - half, &BODY[half..]);
    for chunks in [bytes, halves] {
        for end in ["0\r\n\r\n", "0\r\nTrailer-Of: x\r\n\r\n"] {
            let request = push(&ana, "Transfer-Encoding: chunked\r\n", format!("{chunks}{end}").as_bytes());
            assert_eq!(kept.ask(&request).await.expect(200)["data"]["message"], "hello");
            // In pieces, as small clients write them.
            for piece in request.chunks(40) {
                kept.write(piece).await;
                sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(kept.next().await.unwrap().status, 200);
        }
    }
    for broken in ["xyz\r\n", "ffffffffffffffffff\r\n", "-1\r\n", "2\n{}\n0\n\n", "2\r\n{}x\r\n"] {
        let mut kept = Kept::to(&server).await;
        let answer = kept.ask(push(&ana, "Transfer-Encoding: chunked\r\n", broken.as_bytes())).await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{broken:?}");
        assert_eq!(kept.next().await, None);
    }
}

#[tokio::test]
async fn expectation_is_met_or_refused_by_name() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    for value in ["100-continue", "100-Continue"] {
        let request = sized(&ana, &format!("Expect: {value}\r\n"), BODY);
        let (head, body) = request.split_at(request.len() - BODY.len());
        let interim = kept.ask(head).await;
        assert_eq!((interim.status, interim.head.as_str()), (100, "HTTP/1.1 100 Continue"));
        assert_eq!(kept.ask(body).await.status, 200);
        // Some clients do not wait; what they get is the same.
        let both = kept.ask(&request).await;
        let last = if both.status == 100 { kept.next().await.unwrap() } else { both };
        assert_eq!(last.status, 200);
        let chunked = push(&ana, &format!("Expect: {value}\r\nTransfer-Encoding: chunked\r\n"), b"");
        assert_eq!(kept.ask(chunked).await.status, 100);
        assert_eq!(kept.ask(format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())).await.status, 200);
    }
    for value in ["more", "100-continue, more", "200-ok"] {
        let mut kept = Kept::to(&server).await;
        let reply = kept.ask(sized(&ana, &format!("Expect: {value}\r\n"), BODY)).await;
        let body = reply.expect(417);
        assert_eq!(body["code"], "expectation_failed");
        assert!(body["message"].as_str().unwrap().contains(value), "{body}");
    }
    // A refusal is not preceded by an invitation, and what was not sent is not waited for.
    for (user, lines, status) in [(None, "", 401), (Some(&ana), "Content-Length: 900000\r\n", 413)] {
        let mut kept = Kept::to(&server).await;
        let nobody = User { id: ana.id, token: "qlt_wrong".into(), password: String::new() };
        let lines = format!("{lines}Expect: 100-continue\r\n{}", if lines.is_empty() { "Content-Length: 19\r\n" } else { "" });
        let reply = kept.ask(push(user.unwrap_or(&nobody), &lines, b"")).await;
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{reply:?}");
        assert_eq!(kept.next().await, None);
    }
    // HTTP/1.0 knows no expectations.
    let mut kept = Kept::to(&server).await;
    let old = String::from_utf8(sized(&ana, "Expect: more\r\n", BODY)).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(kept.ask(old).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_of_a_long_body_reaches_a_client_that_reads_after_it_has_written_all() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let body = vec![b'x'; 6_000_000];
    let length = format!("Content-Length: {}\r\n", body.len());
    let nobody = User { id: ana.id, token: "qlt_wrong".into(), password: String::new() };
    let plain = |line: &str| [format!("{line} HTTP/1.1\r\nHost: x\r\n{length}\r\n").as_bytes(), &body].concat();
    let chunked = |length: usize| [format!("{length:x}\r\n").as_bytes(), &body[..length], b"\r\n0\r\n\r\n"].concat();
    for (request, status) in [
        (push(&ana, &length, &body), 413),
        (push(&ana, "Transfer-Encoding: chunked\r\n", &chunked(body.len())), 413),
        (push(&nobody, &length, &body), 401),
        (push(&nobody, "Transfer-Encoding: chunked\r\n", &chunked(body.len())), 401),
        (plain("POST /nothing"), 404),
        (plain("PUT /healthz"), 405),
        (plain("GET /healthz"), 200),
        (plain("DELETE /api/devices/1"), 401),
        ([b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", &body[..], b"\r\n\r\n"].concat(), 431),
        ([b"nonsense\r\n\r\n", &body[..]].concat(), 400),
    ] {
        let mut kept = Kept::to(&server).await;
        // All of it is taken although it is refused: a reset would fail here, or lose the answer.
        kept.write(&request).await;
        let reply = kept.next().await.expect("an answer");
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{reply:?}");
        assert_eq!(kept.next().await, None);
    }
}

#[tokio::test]
async fn connection_is_kept_after_a_refusal_with_a_short_body() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let nobody = User { id: ana.id, token: "qlt_wrong".into(), password: String::new() };
    let mut kept = Kept::to(&server).await;
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\n{BODY}").into_bytes();
    for (request, status) in [
        (sized(&nobody, "", BODY), 401),
        (push(&nobody, "Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"), 401),
        (sized(&ana, "Content-Encoding: gzip\r\n", BODY), 415),
        (sized(&ana, "Expect: more\r\n", ""), 417),
        (plain("POST /nothing"), 404),
        (plain("PUT /healthz"), 405),
        (plain("GET /healthz"), 200),
        (plain("DELETE /api/devices/1"), 401),
    ] {
        for apart in [false, true] {
            // Many clients write head and body one after the other.
            let at = if apart { request.len() - 5 } else { request.len() };
            kept.write(&request[..at]).await;
            if apart {
                sleep(Duration::from_millis(20)).await;
                kept.write(&request[at..]).await;
            }
            let reply = kept.next().await.expect("an answer");
            assert_eq!((reply.status, reply.header("connection")), (status, None), "{reply:?}");
        }
    }
    assert_eq!(kept.ask(sized(&ana, "", BODY)).await.status, 200);
}

#[tokio::test]
async fn connection_ends_when_client_or_version_wants_it() {
    let server = Server::start().await;
    for (head, status, kept_open, said) in [
        ("GET /healthz HTTP/1.1\r\nHost: x", 200, true, None),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive", 200, true, None),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close", 200, false, Some("close")),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Close", 200, false, Some("close")),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: te, close", 200, false, Some("close")),
        ("GET /healthz HTTP/1.0", 200, false, None),
        ("GET /healthz HTTP/1.0\r\nConnection: close", 200, false, None),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive", 200, true, Some("keep-alive")),
        ("GET /healthz HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive", 200, true, Some("keep-alive")),
        ("GET http://x/healthz HTTP/1.1\r\nHost: x", 200, true, None),
        ("\r\nGET /healthz HTTP/1.1\r\nHost: x", 200, true, None),
        ("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close", 200, false, Some("close")),
        ("POST /api/auth/login HTTP/1.0\r\nTransfer-Encoding: chunked", 400, false, Some("close")),
        (
            "GET /ws/device/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            426,
            false,
            Some("Upgrade"),
        ),
    ] {
        let mut kept = Kept::to(&server).await;
        kept.write(format!("{head}\r\n\r\n")).await;
        if head.starts_with("HEAD") {
            let all = rest_within(&mut kept.stream, DEADLINE).await.expect("is closed");
            assert!(all.ends_with(b"\r\n\r\n"), "no body");
            continue;
        }
        let reply = kept.next().await.expect(head);
        assert_eq!(reply.status, status, "{head}: {reply:?}");
        let version = &head.split(" HTTP/").nth(1).unwrap()[..3];
        assert!(status == 400 || reply.head.starts_with(&format!("HTTP/{version} ")), "{head}: {reply:?}");
        assert_eq!(reply.header("connection"), said, "{head}");
        if kept_open {
            assert_eq!(kept.ask(HEALTH).await.status, 200, "{head}");
        } else {
            assert_eq!(kept.next().await, None, "{head}");
        }
    }
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_order() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut kept = Kept::to(&server).await;
    let numbered = |n: usize| sized(&ana, "", &json!({"message": n}).to_string());
    let mut all: Vec<u8> = (0..20).flat_map(numbered).collect();
    all.extend_from_slice(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    all.extend(push(&ana, "Transfer-Encoding: chunked\r\n", format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()).as_bytes()));
    all.extend_from_slice(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    all.extend(numbered(20)); // after the last one, and so not answered
    kept.write(all).await;
    for n in 0..20 {
        assert_eq!(kept.next().await.unwrap().expect(200)["data"]["message"], n);
    }
    let mut statuses = Vec::new();
    while let Some(reply) = kept.next().await {
        statuses.push(reply.status);
    }
    assert_eq!(statuses, [404, 200, 200]);
    let queued = server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok();
    assert_eq!(queued["data"]["messages"], 21);
}
