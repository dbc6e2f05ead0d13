//! The heads of responses, as small clients read them: letter by letter, line by line, into short buffers. Compared with those of the
//! original system, which stand in `tests/external/conformance/heads`.

use crate::support::raw::{HERE, Reply, ask, connect, exchange, request};
use crate::support::{Server, unlimited};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A recorded head.
macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../external/conformance/heads/", $name, ".txt"))
    };
}

/// What the original system sends and this one does not: its own name, and what DRF adds for people with a browser.
const NOT_SENT: [&str; 3] = ["Server", "Cross-Origin-Opener-Policy", "Allow"];
/// The most bytes in a head: about twice as many as the original's.
const MAX_HEAD: usize = 600;
/// The most bytes in a line of it.
const MAX_LINE: usize = 160;

/// The lines of a head, without the status.
fn lines(head: &str) -> Vec<(&str, &str)> {
    let line = |line| str::split_once(line, ": ").unwrap_or_else(|| panic!("no line of a head: {line:?}"));
    head.lines().skip(1).filter(|line| !line.is_empty()).map(line).collect()
}

/// The spelling of a name that everybody uses.
fn usual(name: &str) -> String {
    let part = |part: &str| match part.to_ascii_lowercase().as_str() {
        "websocket" => "WebSocket".to_owned(),
        "www" => "WWW".to_owned(),
        "etag" => "ETag".to_owned(),
        lower => lower[..1].to_ascii_uppercase() + &lower[1..],
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[track_caller]
fn assert_plain(reply: &Reply) {
    for (name, _) in lines(&reply.head) {
        assert_eq!(name, usual(name), "{reply:?}");
    }
    // What is for pages only a browser reads.
    let size: usize = reply.head.lines().filter(|line| !line.starts_with("Access-Control-")).map(|line| line.len() + 2).sum();
    assert!(size <= MAX_HEAD, "{size} bytes: {reply:?}");
    assert!(reply.head.lines().all(|line| line.len() <= MAX_LINE), "{reply:?}");
}

/// Compares a head with a recorded one: the same first line, the same names, letter by letter, and the same values.
#[track_caller]
fn assert_like(reply: &Reply, recorded: &str) {
    assert_eq!(reply.head.lines().next(), recorded.lines().next(), "{reply:?}");
    let ours = lines(&reply.head);
    for (name, value) in lines(recorded) {
        if NOT_SENT.contains(&name) && !(name == "Allow" && reply.status == 405) {
            continue;
        }
        let Some((_, our)) = ours.iter().find(|(ours, _)| *ours == name) else { panic!("{name} is missing: {reply:?}") };
        match name {
            "Content-Length" | "Referrer-Policy" | "Allow" => {}
            // Unknown paths are answered with a page of HTML there.
            "Content-Type" => assert_eq!(our.split(';').next() == value.split(';').next(), reply.status != 404, "{reply:?}"),
            // `WebSocket` in the original, which RFC 6455 section 4.2.2 writes in small letters.
            "Upgrade" => assert!(our.eq_ignore_ascii_case(value), "{reply:?}"),
            _ => assert_eq!(*our, value, "{name}: {reply:?}"),
        }
    }
    assert_plain(reply);
}

/// The head that answers a handshake on a connection of its own.
async fn handshake(server: &Server, path: &str, more: &str) -> Reply {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    Reply::parse(&seen)
}

#[tokio::test]
async fn handshake_has_the_head_of_the_original() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let plain = handshake(&server, &format!("/ws/device/?token={}", ana.token), "").await;
    assert_like(&plain, recorded!("websocket"));
    let offered = format!("Sec-WebSocket-Protocol: qy-lty.v1, token.{}\r\n", ana.token);
    let subprotocol = handshake(&server, "/ws/device/", &offered).await;
    assert_like(&subprotocol, &recorded!("websocket_subprotocol").replace("a.v1", "qy-lty.v1"));
    for (reply, recorded) in [(plain, recorded!("websocket")), (subprotocol, recorded!("websocket_subprotocol"))] {
        let order = |head: &str, known: &[(&str, &str)]| -> Vec<String> {
            let names = lines(head).into_iter().map(|(name, _)| name.to_owned());
            names.filter(|name| known.iter().any(|(known, _)| known == name)).collect()
        };
        assert_eq!(order(&reply.head, &lines(recorded)), order(recorded, &lines(&reply.head)));
        assert!(reply.head.len() < 256, "{reply:?}");
    }
    // Closed with a code afterwards, and so accepted.
    assert_like(&handshake(&server, "/ws/device/?token=wrong", "").await, recorded!("websocket"));
}

#[tokio::test]
async fn rest_has_the_heads_of_the_original() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (token, push) = (format!("Token {}", ana.token), format!(r#"{{"type":"a","message":"b","user_id":{}}}"#, ana.id));
    let send = |method, path, headers, body: String| ask(HERE, server.address, method, path, headers, body);
    let authorized = &[("Authorization", token.as_str()), ("Connection", "keep-alive, close")][..];
    let login = format!(r#"{{"username":"ana","password":"{}"}}"#, ana.password);
    assert_like(&send("POST", "/api/auth/token/", &[], login).await, recorded!("login"));
    assert_like(&send("POST", "/api/messages/", authorized, push.clone()).await, recorded!("push"));
    assert_like(&send("POST", "/api/messages/", authorized, "{}".into()).await, recorded!("push_refused"));
    assert_like(&send("POST", "/api/messages/", &[], push).await, recorded!("push_unauthenticated"));
    assert_like(&send("GET", "/api/messages/", authorized, String::new()).await, recorded!("push_wrong_method"));
    let missing = |version, more: &str| format!("GET /nothing HTTP/{version}\r\n{more}\r\n");
    let plain = async |bytes: String| exchange(connect(HERE, server.address).await, bytes.as_bytes()).await;
    assert_like(&plain(missing("1.1", "Host: x\r\nConnection: close\r\n")).await, recorded!("unknown_path_close"));
    assert_like(&plain(missing("1.0", "")).await, recorded!("unknown_path_http_1_0"));
}

#[tokio::test]
async fn names_are_in_title_case_in_every_head() {
    let mut config = unlimited();
    config.limits.body_seconds = 1;
    config.server.origins = vec!["https://app.example".parse().unwrap()];
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let token = format!("Token {}", ana.token);
    let head =
        |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n").into_bytes();
    let json = |path: &str, headers: &[(&str, &str)], body: &str| request("POST", path, headers, body);
    let cases = [
        (200, head("GET /healthz", "")),
        (200, head("GET /", "Accept: text/html\r\n")),
        (200, head("GET /page/app.js", "")),
        (200, head("HEAD /page/app.js", "")),
        (200, head("GET /api/auth/me", &format!("Authorization: {token}\r\n"))),
        (204, head("OPTIONS /api/auth/login", "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n")),
        (200, head("GET /healthz", "Origin: https://app.example\r\n")),
        (201, json("/api/auth/tokens", &[("Authorization", &token)], "{}")),
        (400, json("/api/auth/login", &[], "{")),
        (400, b"GET  /healthz\r\n\r\n".to_vec()),
        (401, json("/api/auth/login", &[], r#"{"username":"ana","password":"x"}"#)),
        (401, head("GET /api/auth/me", "")),
        (403, head("GET /api/users", &format!("Authorization: {token}\r\n"))),
        (403, head("GET /healthz", "Origin: https://evil.example\r\n")),
        (404, head("GET /nothing", "")),
        (405, head("PUT /healthz", "")),
        (408, head("POST /api/auth/login", "Content-Length: 5\r\n")),
        (413, head("POST /api/auth/login", "Content-Length: 5000000\r\n")),
        (414, head(&format!("GET /{}", "x".repeat(70_000)), "")),
        (415, json("/api/auth/login", &[("Content-Type", "text/plain")], "x")),
        (415, json("/api/auth/login", &[("Content-Encoding", "gzip")], "x")),
        (417, head("GET /healthz", "Expect: more\r\n")),
        (421, head("GET /healthz", "Sec-Fetch-Site: none\r\n")),
        (426, head("GET /ws/device/", "")),
        (431, head("GET /healthz", &"X: y\r\n".repeat(200))),
        (501, head("POST /api/auth/login", "Transfer-Encoding: gzip, chunked\r\n")),
    ];
    for (status, bytes) in cases {
        let bytes =
            if status == 421 { String::from_utf8(bytes).unwrap().replace("localhost", "a.example").into_bytes() } else { bytes };
        let reply = exchange(connect(HERE, server.address).await, &bytes).await;
        assert!(reply.status == status || (status == 414 && reply.status == 431), "{status}: {reply:?}");
        assert_plain(&reply);
    }
}

#[tokio::test]
async fn scheme_of_a_token_may_be_spelled_and_spaced_in_any_way() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for (before, status) in [
        ("Token ", 200),
        ("token ", 200),
        ("TOKEN ", 200),
        ("Bearer ", 200),
        ("bearer ", 200),
        ("BEARER ", 200),
        ("Token   ", 200),
        ("Token\t", 200),
        (" Token \t ", 200),
        ("Token", 401),
        ("Basic ", 401),
        ("", 401),
    ] {
        let value = format!("{before}{}", ana.token);
        for name in ["Authorization", "authorization", "AUTHORIZATION"] {
            let reply = ask(HERE, server.address, "GET", "/api/auth/me", &[(name, &value)], "").await;
            assert_eq!(reply.status, status, "{before:?}: {reply:?}");
        }
    }
}
