//! The `Origin` header: programs that send one of their own, the ways to write the server's own, apps in web views, and the log.

use std::net::SocketAddr;

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::support::http::Browser;
use crate::support::program::Running;
use crate::support::raw::{HERE, Reply, connect, exchange, request};
use crate::support::{Server, eventually, unlimited};

/// The status of a WebSocket handshake with these headers.
async fn handshake(server: &Server, token: &str, headers: &[(&'static str, &str)]) -> u16 {
    match server.try_ws(&format!("/ws/device/?token={token}"), headers).await {
        Ok(mut client) => {
            assert_eq!(client.json().await["type"], "connection_status");
            101
        }
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{headers:?}: {error}"),
    }
}

/// Sends a request with just these headers, and a `Host` unless they have one.
async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    exchange(connect(HERE, address).await, &request(method, path, headers, body)).await
}

/// The statuses of a call without a log-in, and of one with the token.
async fn calls(server: &Server, token: &str, headers: &[(&str, &str)]) -> [u16; 2] {
    let token = format!("Token {token}");
    let authorized = [headers, &[("authorization", &token)]].concat();
    let pair = send(server.address, "POST", "/api/devices/pair", headers, "{}").await;
    let me = send(server.address, "GET", "/api/auth/me", &authorized, "").await;
    [pair.status, me.status]
}

/// Libraries and the origin that they send.
const PROGRAMS: [(&str, &str); 9] = [
    ("arduino-WebSocket-Client", "file://"),
    ("TinyWebsockets Client", "https://github.com/gilmaimon/TinyWebsockets"),
    ("ixwebsocket/11.4.5 linux", "ws://192.168.1.5:8000"),
    ("ixwebsocket/11.4.5 linux", "wss://evil.example:443"),
    ("Go-http-client/1.1", "http://localhost/"),
    ("", "http://evil.example/"),
    ("", "file:///home/pi/client.py"),
    ("", "FILE://"),
    ("", "https://example.com/client?version=2"),
];

#[tokio::test]
async fn program_with_an_origin_that_no_page_has_is_let_in() {
    let mut config = unlimited();
    config.server.listen = "127.0.0.2:0".parse().unwrap();
    let server = Server::with(config).await;
    let token = server.admin().await;
    for (agent, origin) in PROGRAMS {
        let headers = [("origin", origin), ("user-agent", agent)];
        assert_eq!(handshake(&server, &token, &headers).await, 101, "{origin}");
        // As it is without an origin: by whatever name, and without a content type.
        let named = [("origin", origin), ("user-agent", agent), ("host", "any.example")];
        assert_eq!(handshake(&server, &token, &named).await, 101, "{origin}");
        assert_eq!(calls(&server, &token, &headers).await, [201, 200], "{origin}");
        // The credential is asked for as ever.
        let mut refused = server.try_ws("/ws/device/?token=qlt_wrong", &headers).await.unwrap();
        assert_eq!(refused.disconnected().await["code"], 4001, "{origin}");
    }
}

#[tokio::test]
async fn page_is_refused_whatever_its_scheme_until_it_is_listed() {
    const WEB_VIEW: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0";
    let pages = [
        "null",
        "https://evil.example",
        "http://evil.example:8000",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://0d2f1a5e-1111-4222-8333-444455556666",
        "safari-web-extension://0D2F1A5E-1111-4222-8333-444455556666",
        "capacitor://localhost",
        "ionic://localhost",
        "https://localhost",
        "http://localhost",
        "tauri://localhost",
        "app://localhost",
        "file://",
    ];
    let mut config = unlimited();
    config.server.listen = "0.0.0.0:0".parse().unwrap();
    let strict = Server::with(config.clone()).await;
    let token = strict.admin().await;
    for origin in pages {
        let headers = [("origin", origin), ("user-agent", WEB_VIEW)];
        assert_eq!(handshake(&strict, &token, &headers).await, 403, "{origin}");
        let refused = send(strict.address, "POST", "/api/devices/pair", &headers, "{}").await.expect(403);
        assert_eq!(refused["code"], "foreign_origin", "{origin}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(&format!("\"{origin}\"")) && message.contains("server.origins"), "{message}");
    }

    // The line of the documentation.
    config.server.origins = pages.map(str::to_owned).to_vec();
    let listing = Server::with(config).await;
    let token = listing.admin().await;
    for origin in pages {
        let headers = [("origin", origin), ("user-agent", WEB_VIEW)];
        assert_eq!(handshake(&listing, &token, &headers).await, 101, "{origin}");
        let preflight = [&headers[..], &[("access-control-request-method", "POST")]].concat();
        let asked = send(listing.address, "OPTIONS", "/api/messages", &preflight, "").await;
        assert_eq!(asked.header("access-control-allow-origin"), Some(origin), "{asked:?}");
        assert_eq!(calls(&listing, &token, &headers).await, [201, 200], "{origin}");
    }
}

#[tokio::test]
async fn own_page_may_name_its_server_in_several_ways() {
    let mut config = unlimited();
    config.server.listen = "0.0.0.0:0".parse().unwrap();
    config.server.hosts = vec!["a.example".into()];
    let server = Server::with(config).await;
    let token = server.admin().await;
    for (host, origin) in [
        ("a.example:443", "https://a.example"),
        ("a.example", "https://a.example:443"),
        ("A.Example.:443", "https://a.example"),
        ("a.example:80", "http://a.example"),
        ("a.example.", "http://A.EXAMPLE"),
        ("a.example.:8443", "https://a.example:8443"),
        ("a.example", "HTTPS://A.example."),
        ("[::1]:443", "https://[::1]"),
    ] {
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(handshake(&server, &token, &headers).await, 101, "{host} {origin}");
        assert_eq!(calls(&server, &token, &headers).await, [201, 200], "{host} {origin}");
    }
    // With the cookie, too.
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    for (host, origin) in [("a.example:80", "http://a.example"), ("A.example.", "HTTP://a.example:80")] {
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(browser.call(&server, "GET", "/api/auth/me", &headers, "").await.status, 200, "{host} {origin}");
    }
    for (host, origin) in [
        ("a.example:443", "http://a.example"),
        ("a.example:80", "https://a.example"),
        ("a.example:8443", "https://a.example"),
        ("a.example", "https://b.a.example"),
        ("a.example", "https://a.example.evil.example"),
    ] {
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(handshake(&server, &token, &headers).await, 403, "{host} {origin}");
    }
}

#[tokio::test]
async fn a08_cookie_does_not_go_with_an_origin_that_no_page_has() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    for origin in ["file://", "https://github.com/gilmaimon/TinyWebsockets", "ws://127.0.0.1"] {
        let headers = [("origin", origin), ("x-csrf-token", browser.csrf.as_str())];
        for (method, path) in [("GET", "/api/auth/me"), ("POST", "/api/auth/logout")] {
            let refused = browser.call(&server, method, path, &headers, "").await.expect(403);
            assert_eq!(refused["code"], "foreign_origin", "{origin}");
        }
        let body = json!({"username": "ana", "password": ana.password, "cookie": true}).to_string();
        let refused = send(server.address, "POST", "/api/auth/login", &[("origin", origin)], body).await.expect(403);
        assert_eq!(refused["code"], "foreign_origin", "{origin}");
    }
}

#[tokio::test]
async fn refused_page_is_named_in_the_log_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::configured(dir.path(), "").await;
    let lines = |running: &Running, part: &str| {
        running
            .log()
            .lines()
            .filter(|line| line.contains("page refused") && line.contains(part))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let refused = async |host: &str, origin: &str, status: u16| {
        let headers = [("host", host), ("origin", origin)];
        for path in ["/ws/device/", "/api/auth/me", "/healthz"] {
            assert_eq!(send(running.address, "GET", path, &headers, "").await.status, status, "{origin}");
        }
    };
    for _ in 0..20 {
        refused("127.0.0.1", "https://evil.example", 403).await;
        refused("qy.example", "http://qy.example", 421).await;
        refused("127.0.0.1", "null", 403).await;
    }
    let long = format!("https://{}.example", "x".repeat(5000));
    refused("127.0.0.1", &long, 403).await;
    refused("127.0.0.1", "https://last.example", 403).await;
    eventually("the last one is logged", async || !lines(&running, "last.example").is_empty()).await;
    let of = |part: &str| {
        let found = lines(&running, part);
        assert_eq!(found.len(), 1, "{part}: {found:?}");
        found[0].clone()
    };
    let origin = of("https://evil.example");
    assert!(origin.contains("server.origins") && origin.contains("127.0.0.1") && origin.contains("INFO"), "{origin}");
    let host = of("qy.example");
    assert!(host.contains("server.hosts") && host.contains("INFO"), "{host}");
    assert!(of("null").contains("server.origins"));
    assert!(of("xxxxx").len() < 600, "bounded");
    assert_eq!(lines(&running, "").len(), 5, "{:?}", lines(&running, ""));
    running.stop().await;
}
