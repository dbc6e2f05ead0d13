//! Foreign pages: what a browser sends for them to a server that they must not reach, with no log-in needed.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::support::api::routes;
use crate::support::http::Browser;
use crate::support::raw::{HERE, Reply, connect, exchange, request};
use crate::support::{ADMIN_PASSWORD, Server, unlimited};

const EVIL: &str = "https://evil.example";

/// A server on which everything that needs no log-in is open, and limited to `n` a minute.
async fn open(n: u32) -> Server {
    let mut config = unlimited();
    config.auth.registration = toml::from_str::<toml::Value>("r = \"open\"").unwrap()["r"].clone().try_into().unwrap();
    (config.limits.logins_per_minute, config.limits.pairings_per_minute, config.limits.refusals_per_minute) = (n, n, n);
    Server::with(config).await
}

/// What needs no log-in and does something, with the answer to it.
fn deeds(name: &str) -> [(&'static str, String, u16); 4] {
    let user = |password: &str| json!({"username": name, "password": password}).to_string();
    [
        ("/api/auth/login", user("a-wrong-password"), 401),
        ("/api/auth/token", user("a-wrong-password"), 401),
        ("/api/devices/pair", "{}".into(), 201),
        ("/api/auth/register", user("a-long-password"), 201),
    ]
}

/// Sends a body with just these headers: no content type unless they have one.
async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    exchange(connect(HERE, server.address).await, format!("{head}\r\n{body}").as_bytes()).await
}

/// Expects that none of `refused` counted: each of the deeds still works as often as it may.
async fn nothing_counted(server: &Server, n: u32) {
    for _ in 0..n {
        for (path, body, status) in &deeds("nobody")[2..3] {
            post(server, path, &[("Host", "x"), ("Content-Type", "application/json")], body).await.expect(*status);
        }
    }
    for _ in 1..n {
        assert_eq!(server.login("admin", "a-wrong-password").await.status, 401);
    }
    let admin = server.login("admin", ADMIN_PASSWORD).await.ok()["token"].as_str().unwrap().to_owned();
    assert_eq!(server.login("admin", ADMIN_PASSWORD).await.status, 429, "the limit is there");
    let users = server.get("/api/users", Some(&admin)).await.ok();
    assert_eq!(users["data"].as_array().unwrap().len(), 1, "{users}");
    // Neither did it ask for the page's rights.
    let page = server.get("/metrics", Some(&admin)).await.text;
    assert!(page.contains("qy_lty_refused_total{reason=\"pairings_rate\"} 0\n"), "{page}");
}

#[tokio::test]
async fn a21_foreign_page_does_nothing_in_its_visitors_name() {
    let server = open(3).await;
    let host = server.address.to_string();
    for round in 0..5 {
        for (path, body, _) in deeds(&format!("evil{round}")) {
            for origin in [EVIL, "null", "", "http://evil.example@127.0.0.1", "http://localhost.evil.example"] {
                // What `fetch` sends without asking (no-cors), and what it does not.
                for kind in
                    [None, Some("text/plain;charset=UTF-8"), Some("application/json"), Some("application/x-www-form-urlencoded")]
                {
                    let mut headers = vec![("Host", host.as_str()), ("Origin", origin)];
                    headers.extend(kind.map(|kind| ("Content-Type", kind)));
                    let refused = post(&server, path, &headers, &body).await.expect(403);
                    assert_eq!(refused["code"], "foreign_origin", "{path} {origin}");
                    let message = refused["message"].as_str().unwrap();
                    assert!(message.contains("server.origins") && message.contains(origin), "{message}");
                }
            }
            // A browser whose user has the origin removed.
            let headers = [("Host", host.as_str()), ("Content-Type", "application/json"), ("Sec-Fetch-Site", "cross-site")];
            assert_eq!(post(&server, path, &headers, &body).await.expect(403)["code"], "foreign_origin", "{path}");
        }
    }
    nothing_counted(&server, 3).await;
}

#[tokio::test]
async fn a21_page_must_name_the_content_type() {
    let server = open(3).await;
    let (host, own) = (server.address.to_string(), format!("http://{}", server.address));
    for round in 0..5 {
        for (path, body, _) in deeds(&format!("evil{round}")) {
            for page in [("Origin", own.as_str()), ("Cookie", "a=b"), ("Sec-Fetch-Site", "same-origin")] {
                for kind in
                    [None, Some("text/plain"), Some("multipart/form-data; boundary=x"), Some("application/x-www-form-urlencoded")]
                {
                    let mut headers = vec![("Host", host.as_str()), page];
                    headers.extend(kind.map(|kind| ("Content-Type", kind)));
                    let refused = post(&server, path, &headers, &body).await.expect(415);
                    assert_eq!(refused["code"], "unsupported_media_type", "{path} {page:?} {kind:?}");
                }
            }
        }
    }
    nothing_counted(&server, 3).await;
}

#[tokio::test]
async fn a21_rebound_page_is_misdirected() {
    let server = open(3).await;
    for round in 0..5 {
        for (path, body, _) in deeds(&format!("evil{round}")) {
            for (host, origin) in [
                ("evil.example", "http://evil.example"),
                ("evil.example:8000", "http://evil.example:8000"),
                ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
                ("x.local.evil.example", "https://x.local.evil.example"),
                ("evil.example.", "http://evil.example."),
            ] {
                for page in [("Origin", origin), ("Cookie", "a=b"), ("Sec-Fetch-Site", "same-origin")] {
                    let headers = [("Host", host), page, ("Content-Type", "application/json")];
                    let refused = post(&server, path, &headers, &body).await.expect(421);
                    assert_eq!(refused["code"], "unknown_host", "{path} {host} {page:?}");
                    let message = refused["message"].as_str().unwrap();
                    assert!(message.contains("server.hosts") && message.contains(host), "{message}");
                }
            }
        }
    }
    nothing_counted(&server, 3).await;
}

#[tokio::test]
async fn a21_programs_and_own_pages_are_served_as_before() {
    let server = open(0).await;
    let (host, own) = (server.address.to_string(), format!("http://{}", server.address));
    for (n, headers) in [
        vec![("Host", "any.example")],
        vec![("Host", "any.example"), ("Content-Type", "application/json")],
        vec![("Host", "any.example"), ("User-Agent", "Mozilla/5.0"), ("Referer", EVIL)],
        vec![("Host", host.as_str()), ("Origin", own.as_str()), ("Content-Type", "application/json")],
        vec![("Host", host.as_str()), ("Origin", own.as_str()), ("Content-Type", "application/json"), ("Cookie", "a=b")],
        vec![("Host", "box.local:1"), ("Origin", "https://box.local:1"), ("Content-Type", "application/json; charset=utf-8")],
        vec![("Host", "qy"), ("Sec-Fetch-Site", "none"), ("Content-Type", "application/json")],
    ]
    .into_iter()
    .enumerate()
    {
        for (path, body, status) in deeds(&format!("user{n}")) {
            post(&server, path, &headers, &body).await.expect(status);
        }
    }
    // Without a body there is nothing to name: logging out, for example.
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let headers = [("Host", host.as_str()), ("Origin", &own), ("Cookie", &browser.cookie), ("X-CSRF-Token", &browser.csrf)];
    post(&server, "/api/auth/logout", &headers, "").await.expect(200);
}

#[tokio::test]
async fn a21_every_route_refuses_foreign_and_rebound_pages() {
    let server = Server::start().await;
    let token = format!("Token {}", server.admin().await);
    let here = server.address.to_string();
    let paths = routes().map(|route| (route.method, route.path.replace("{id}", "1").replace("{name}", "x")));
    let more = ["/", "/app.js", "/healthz", "/nowhere", "/ws/device", "/metrics", "/api/messages"];
    let more = more
        .into_iter()
        .flat_map(|path| ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"].map(|method| (method, path.to_owned())));
    for (method, path) in paths.chain(more) {
        let call = async |host: &str, page: &[(&str, &str)]| {
            let headers = [&[("Host", host), ("Authorization", &token)], page].concat();
            let reply = exchange(connect(HERE, server.address).await, &request(method, &path, &headers, "{}")).await;
            (reply.status, serde_json::from_str::<Value>(&reply.body).map_or(Value::Null, |body| body["code"].clone()))
        };
        let code = |code: &str| if method == "HEAD" { Value::Null } else { json!(code) };
        assert_eq!(call(&here, &[("Origin", EVIL)]).await, (403, code("foreign_origin")), "{method} {path}");
        assert_eq!(
            call("evil.example", &[("Origin", "http://evil.example")]).await,
            (421, code("unknown_host")),
            "{method} {path}"
        );
        assert_eq!(call("evil.example", &[("Cookie", "a=b")]).await, (421, code("unknown_host")), "{method} {path}");
    }
}

#[tokio::test]
async fn a21_rebound_page_opens_no_websocket() {
    let server = Server::start().await;
    let path = format!("/ws/device/?token={}", server.admin().await);
    for page in [("origin", "http://evil.example"), ("cookie", "a=b"), ("sec-fetch-site", "same-origin")] {
        match server.try_ws(&path, &[("host", "evil.example"), page]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 421, "{page:?}"),
            other => panic!("{page:?}: {:?}", other.map(|_| "let in")),
        }
    }
    server.try_ws(&path, &[("host", "evil.example")]).await.unwrap();
}

#[tokio::test]
async fn a21_listed_hosts_and_origins_are_let_in() {
    let mut config = unlimited();
    config.server.hosts = vec!["qy.example.org".into(), "*.wild.example".into()];
    config.server.origins = vec!["https://app.example.com".into()];
    let server = Server::with(config).await;
    let status = async |host: &str, page: (&str, &str)| {
        exchange(connect(HERE, server.address).await, &request("GET", "/healthz", &[("Host", host), page], "")).await.status
    };
    for host in
        ["QY.example.org", "qy.example.org:443", "a.wild.example", "app.example.com", "127.0.0.1", "[::1]:8000", "qy", "qy.lan"]
    {
        assert_eq!(status(host, ("Cookie", "a=b")).await, 200, "{host}");
        assert_eq!(status(host, ("Origin", &format!("https://{host}"))).await, 200, "{host}");
    }
    for host in ["x.qy.example.org", "wild.example", "www.app.example.com"] {
        assert_eq!(status(host, ("Cookie", "a=b")).await, 421, "{host}");
        // No other page has a listed origin.
        assert_eq!(status(host, ("Origin", "https://app.example.com")).await, 200, "{host}");
    }
}
