//! Every error that the document lists for an operation, provoked: the server answers with its status, its code, and a body as described.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::join_all;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use super::world::World;
use crate::rest::backup;
use crate::support::described::{Example, Operation, operations};
use crate::support::http::Browser;
use crate::support::raw::{HERE, Reply, connect, exchange};
use crate::support::reader::path;
use crate::support::{ADMIN_PASSWORD, Answer, eventually, set};

/// Codes that no client can provoke at will, with the reason.
const NOT_PROVOKED: [(&str, &str); 3] = [
    ("internal", "an error of the server itself: nothing that a client sends leads to it"),
    ("busy", "a race: room must be lost between two moments of one request; src/admission tests the parts"),
    ("memory_low", "the index of messages must take a quarter of the memory budget, at least 4 MiB; src/mailbox tests it"),
];

/// The servers that errors need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Usual,
    /// Registration is closed.
    Closed,
    /// One request a minute.
    Hurried,
    /// Every quota is used up.
    Full,
    /// Nobody may have more than a byte waiting.
    Sender,
    /// The disk has too little space.
    Disk,
}

struct Worlds {
    usual: World,
    closed: World,
    hurried: World,
    full: World,
    sender: World,
    disk: World,
    /// Behind a proxy on this machine.
    proxied: World,
    browser: Browser,
    /// Log-ins are fresh for a second.
    stale: World,
    /// A log-in there that is not.
    stale_browser: Browser,
    /// A service token with the scope `metrics` alone, and one with `read` alone.
    scoped: [String; 2],
}

/// Returns a server and a log-in there that is no longer fresh.
async fn stale() -> (World, Browser) {
    let world = World::with(|config| config.limits.elevation_seconds = 1).await;
    let (browser, _) = Browser::log_in(&world.server, "admin", ADMIN_PASSWORD).await;
    eventually("the log-in is no longer fresh", async || {
        browser.call(&world.server, "GET", "/api/auth/me", &[], "").await.ok()["data"]["elevation_needed"] == true
    })
    .await;
    (world, browser)
}

/// Returns a service token with that scope alone.
async fn scoped(world: &World, scope: &str) -> String {
    let body = json!({"kind": "service", "label": scope, "scopes": [scope]});
    let made = world.server.post("/api/auth/tokens", &world.tokens.admin, body).await.expect(201);
    made["data"]["token"].as_str().unwrap().to_owned()
}

impl Worlds {
    async fn new() -> Self {
        let usual = World::new().await;
        let (browser, _) = Browser::log_in(&usual.server, "admin", ADMIN_PASSWORD).await;
        let hurried = World::with(|config| {
            let limits = &mut config.limits;
            (limits.requests_per_minute, limits.trusted_requests_per_minute) = (1, 1);
            (limits.logins_per_minute, limits.pairings_per_minute) = (1, 1);
        });
        let hurried = hurried.await;
        // Used up by what changes nothing, before what does is tried.
        for role in ["admin", "user", "service", "device"] {
            hurried.server.get("/api/messages/1", hurried.token(role)).await;
        }
        let full = World::with(|config| {
            (config.limits.tokens_per_user, config.limits.devices_per_user) = (1, 1);
            config.mailbox.messages = 1;
        });
        let (stale, stale_browser) = stale().await;
        Self {
            scoped: [scoped(&usual, "metrics").await, scoped(&usual, "read").await],
            stale,
            stale_browser,
            usual,
            closed: World::with(|config| config.auth = toml::from_str("registration = \"closed\"").unwrap()).await,
            hurried,
            full: full.await,
            sender: World::with(|config| config.mailbox.sender_bytes = 1).await,
            disk: World::with(|config| set(config, "storage.min_free_bytes", 1_u64 << 60)).await,
            proxied: World::with(|config| config.server = toml::from_str("trusted_proxies = [\"127.0.0.1\"]").unwrap()).await,
            browser,
        }
    }

    fn at(&self, at: At) -> &World {
        match at {
            At::Usual => &self.usual,
            At::Closed => &self.closed,
            At::Hurried => &self.hurried,
            At::Full => &self.full,
            At::Sender => &self.sender,
            At::Disk => &self.disk,
        }
    }
}

/// A request that one operation refuses: operation, code, server, caller, path and body. An empty path or body is that of the example.
type Case = (&'static str, &'static str, At, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    ("POST /api/auth/login", "wrong_password", At::Usual, "anonymous", "", r#"{"username":"ana","password":"wrong"}"#),
    ("POST /api/auth/token", "wrong_password", At::Usual, "anonymous", "", r#"{"username":"ana","password":"wrong"}"#),
    ("POST /api/auth/register", "registration_closed", At::Closed, "anonymous", "", ""),
    ("POST /api/auth/register", "taken", At::Usual, "anonymous", "", r#"{"username":"ana","password":"ana-password"}"#),
    ("POST /api/auth/link", "wrong_link", At::Usual, "anonymous", "", r#"{"code":"qll_wrong"}"#),
    ("POST /api/auth/link", "too_many_requests", At::Hurried, "anonymous", "", r#"{"code":"qll_wrong"}"#),
    (
        "PUT /api/auth/password",
        "wrong_password",
        At::Usual,
        "user",
        "",
        r#"{"current_password":"wrong","new_password":"new-password"}"#,
    ),
    ("POST /api/auth/elevate", "wrong_password", At::Usual, "user", "", r#"{"password":"wrong"}"#),
    ("GET /api/auth/tokens", "not_found", At::Usual, "admin", "/api/auth/tokens?user_id=999999", ""),
    ("POST /api/auth/tokens", "limit_reached", At::Full, "user", "", ""),
    ("POST /api/users", "taken", At::Usual, "admin", "", r#"{"username":"Ana","password":"ana-password"}"#),
    ("PATCH /api/users/{id}", "last_admin", At::Usual, "admin", "/api/users/1", r#"{"role":"user"}"#),
    ("DELETE /api/users/{id}", "last_admin", At::Usual, "admin", "/api/users/1", ""),
    ("GET /api/devices", "not_found", At::Usual, "user", "/api/devices?user_id=999999", ""),
    ("POST /api/devices", "not_found", At::Usual, "admin", "", r#"{"name":"lamp","user_id":999999}"#),
    ("POST /api/devices", "taken", At::Usual, "user", "", r#"{"name":"lamp","serial":"sn-1-11"}"#),
    ("POST /api/devices", "limit_reached", At::Full, "user", "", r#"{"name":"robot"}"#),
    ("POST /api/devices/pair", "too_many_requests", At::Hurried, "anonymous", "", r#"{"name":"lamp"}"#),
    ("POST /api/devices/claim", "too_many_requests", At::Hurried, "user", "", r#"{"code":"ZZZZZZ"}"#),
    ("POST /api/devices/pair", "pairing_over", At::Usual, "anonymous", "", r#"{"device_code":"qlp_wrong"}"#),
    ("POST /api/devices/claim", "not_found", At::Usual, "user", "", r#"{"code":"ZZZZZZ"}"#),
    ("POST /api/devices/claim", "limit_reached", At::Full, "user", "", ""),
    ("PATCH /api/devices/{id}", "taken", At::Usual, "user", "", r#"{"serial":"SN-2-22"}"#),
    ("POST /api/devices/{id}/token", "limit_reached", At::Full, "user", "", ""),
    ("POST /api/messages", "missing_parameter", At::Usual, "admin", "", r#"{"type":"t","user_id":2}"#),
    ("POST /api/messages", "not_found", At::Usual, "admin", "", r#"{"type":"t","message":"m","user_id":999999}"#),
    ("POST /api/messages", "reserved_type", At::Usual, "admin", "", r#"{"type":"pong","message":"m","user_id":2}"#),
    ("POST /api/messages/user/{id}", "reserved_type", At::Usual, "admin", "", r#"{"type":"pong","message":"m"}"#),
    ("POST /api/messages/device/{id}", "reserved_type", At::Usual, "user", "", r#"{"type":"pong","message":"m"}"#),
    ("POST /api/messages/broadcast", "reserved_type", At::Usual, "admin", "", r#"{"type":"pong","message":"m"}"#),
    ("POST /api/messages", "mailbox_full", At::Full, "admin", "", ""),
    ("POST /api/messages/user/{id}", "mailbox_full", At::Full, "admin", "", r#"{"message":"m"}"#),
    ("POST /api/messages/device/{id}", "mailbox_full", At::Full, "user", "", ""),
    ("POST /api/messages/broadcast", "mailbox_full", At::Full, "admin", "", ""),
    ("POST /api/messages", "sender_full", At::Sender, "user", "", ""),
    ("POST /api/messages/user/{id}", "sender_full", At::Sender, "user", "", r#"{"message":"m"}"#),
    ("POST /api/messages/device/{id}", "sender_full", At::Sender, "user", "", ""),
    ("POST /api/messages", "disk_low", At::Disk, "admin", "", ""),
    ("POST /api/messages/user/{id}", "disk_low", At::Disk, "admin", "", r#"{"message":"m"}"#),
    ("POST /api/messages/device/{id}", "disk_low", At::Disk, "user", "", ""),
    ("POST /api/messages/broadcast", "disk_low", At::Disk, "admin", "", ""),
    ("GET /api/clients", "not_found", At::Usual, "admin", "/api/clients?user_id=999999", ""),
    ("DELETE /api/clients/{name}", "not_found", At::Usual, "user", "/api/clients/nobody", ""),
    ("GET /readyz", "not_ready", At::Disk, "anonymous", "", ""),
];

/// An answer that came byte by byte.
fn parsed(reply: Reply) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in reply.head.lines().filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let json = serde_json::from_str(&reply.body).unwrap_or(Value::Null);
    Answer { status: reply.status.try_into().unwrap(), headers, text: reply.body, json }
}

/// An operation with its first example, which most errors are variants of.
struct Attempt<'a> {
    worlds: &'a Worlds,
    operation: &'a Operation,
    example: Example,
}

impl Attempt<'_> {
    fn token(&self) -> Option<&str> {
        self.worlds.usual.token(&self.example.caller)
    }

    /// Sends a head that the test writes, and nothing else.
    async fn raw(&self, world: &World, host: bool, more: &str) -> Answer {
        let authorization = self.token().map(|token| format!("Authorization: Token {token}\r\n")).unwrap_or_default();
        let host = if host { "Host: 127.0.0.1\r\n" } else { "" };
        let Self { operation: Operation { method, .. }, example: Example { path, .. }, .. } = self;
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{authorization}Connection: close\r\n{more}\r\n");
        parsed(exchange(connect(HERE, world.server.address).await, head.as_bytes()).await)
    }

    /// Sends the example with further headers.
    async fn with_headers(&self, headers: &[(&str, &str)]) -> Answer {
        let mut example = self.example.clone();
        example.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.worlds.usual.send(&self.operation.method, &example, self.token()).await
    }

    /// Sends a text as the body.
    async fn with_text(&self, body: &str, headers: &[(&str, &str)]) -> Answer {
        let authorization = self.token().map(|token| format!("Token {token}"));
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let Self { operation, example, .. } = self;
        self.worlds.usual.server.raw_http(&operation.method, &example.path, &headers, body.as_bytes()).await
    }

    /// Sends until the code comes: limits need several requests.
    async fn case(&self, code: &str, at: At, caller: &str, path: &str, body: &str) -> Answer {
        let world = self.worlds.at(at);
        let mut example = self.example.clone();
        if !path.is_empty() {
            path.clone_into(&mut example.path);
        }
        if !body.is_empty() {
            example.body = Some(serde_json::from_str(body).unwrap());
        }
        let tries = if code == "too_many_requests" { 10 } else { 1 };
        let mut last = None;
        for _ in 0..tries {
            let answer = world.send(&self.operation.method, &example, world.token(caller)).await;
            let done = answer.json["code"] == code;
            last = Some(answer);
            if done {
                break;
            }
        }
        last.unwrap()
    }

    /// Provokes an error that every operation of its kind has.
    async fn general(&self, code: &str) -> Answer {
        let Self { worlds, operation, example } = self;
        let usual = &worlds.usual;
        match code {
            "unauthorized" => usual.send(&operation.method, example, None).await,
            "forbidden" => {
                let role = ["device", "service", "user"].into_iter().find(|role| !operation.roles().contains(role));
                usual.send(&operation.method, example, usual.token(role.unwrap())).await
            }
            "elevation_required" => {
                let (browser, body) = (&worlds.stale_browser, example.body.as_ref().map(Value::to_string).unwrap_or_default());
                let csrf = [("x-csrf-token", browser.csrf.as_str())];
                browser.call(&worlds.stale.server, &operation.method, &example.path, &csrf, &body).await
            }
            "scope_missing" => {
                let scopes = operation.value["x-scopes"].as_array().unwrap();
                let token = &worlds.scoped[usize::from(scopes.contains(&"metrics".into()))];
                usual.send(&operation.method, example, Some(token)).await
            }
            "csrf" => worlds.browser.call(&usual.server, &operation.method, &example.path, &[], "{}").await,
            "foreign_origin" => self.with_headers(&[("origin", "https://other.example")]).await,
            "unknown_host" => self.with_headers(&[("host", "other.example"), ("sec-fetch-site", "same-origin")]).await,
            "expectation_failed" => self.raw(usual, true, "Expect: 200-ok\r\n").await,
            "unsupported_transfer_encoding" => self.raw(usual, true, "Transfer-Encoding: gzip, chunked\r\n").await,
            "invalid" => self.raw(usual, false, "").await,
            "too_large" => self.raw(usual, true, "Content-Length: 999999999\r\n").await,
            "unsupported_media_type" => self.with_text("x", &[("content-type", "text/plain")]).await,
            "unsupported_encoding" => self.with_text("x", &[("content-encoding", "br")]).await,
            "invalid_json" => self.with_text("{", &[("content-type", "application/json")]).await,
            "too_many_requests" => self.case(code, At::Hurried, &example.caller, "", "").await,
            "not_found" if operation.path.contains("{id}") => {
                let path = operation.path.replace("{id}", "999999");
                self.case(code, At::Usual, &example.caller, &path, "").await
            }
            "idempotency_key_reused" => {
                let key = [("idempotency-key", "twice"), ("content-type", "application/json")];
                let body = |n: u64| json!({"type": "t", "message": {"n": n}, "user_id": 2});
                let body = |n| {
                    let mut body: Value = body(n);
                    if operation.path != "/api/messages" {
                        body.as_object_mut().unwrap().remove("user_id");
                    }
                    body.to_string()
                };
                self.with_text(&body(1), &key).await;
                self.with_text(&body(2), &key).await
            }
            other => panic!("{}: nothing provokes {other}", operation.name()),
        }
    }
}

/// Provokes an error that needs a world of its own; `None` where the code is not one of these.
async fn alone(operation: &Operation, code: &str) -> Option<Answer> {
    let example = operation.examples().swap_remove(0);
    let world = match code {
        "exposed_link" => return None,
        "already_received" | "already_ended" => World::new().await,
        "taken" if operation.path == "/api/devices/claim" => World::new().await,
        "backup_running" => {
            let world = World::new().await;
            backup::fill(&world.server, &world.tokens.user, 2).await;
            let mut first = backup::begin(&world.server, reqwest::Method::GET, &world.tokens.admin).await;
            assert!(first.chunk().await.unwrap().is_some());
            return Some(world.send(&operation.method, &example, world.token("admin")).await);
        }
        _ => return None,
    };
    let (server, tokens) = (&world.server, &world.tokens);
    match code {
        "already_received" => {
            let mut client = server.ws(&path(&tokens.user, "ack=client")).await;
            while client.json().await["id"] != 3 {}
            client.say(json!({"type": "ack", "message": {"id": 3}})).await;
            client.fence().await;
            eventually("it is received", async || {
                server.get("/api/messages/1", Some(&tokens.admin)).await.ok()["data"]["status"] == "acked"
            })
            .await;
        }
        "already_ended" => drop(server.delete("/api/queue/user/2", &tokens.user).await.ok()),
        _ => {
            let body = json!({"serial": "SN-2-22"}).to_string();
            let pairing = server.http("POST", "/api/devices/pair", None, Some(&body)).await.expect(201);
            let body = json!({"code": pairing["data"]["code"]}).to_string();
            return Some(server.http("POST", "/api/devices/claim", Some(&tokens.user), Some(&body)).await);
        }
    }
    Some(world.send(&operation.method, &example, world.token(&example.caller)).await)
}

async fn provoke(worlds: &Worlds, operation: &Operation, code: &str) -> Answer {
    if let Some(answer) = alone(operation, code).await {
        return answer;
    }
    let attempt = Attempt { worlds, operation, example: operation.examples().swap_remove(0) };
    if code == "exposed_link" {
        let mut example = attempt.example.clone();
        example.headers.push(("x-forwarded-for".into(), "203.0.113.9".into()));
        return worlds.proxied.send("POST", &example, None).await;
    }
    let name = operation.name();
    match CASES.iter().find(|case| case.0 == name && case.1 == code) {
        Some((_, _, at, caller, path, body)) => attempt.case(code, *at, caller, path, body).await,
        None => attempt.general(code).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_provoked_and_is_as_described() {
    let worlds = Worlds::new().await;
    let operations = operations();
    let (mut provoked, mut faults) = (0, Vec::new());
    for operation in &operations {
        for (status, code) in operation.codes() {
            if code == "too_slow" || NOT_PROVOKED.iter().any(|(not, _)| *not == code) {
                continue;
            }
            // All faults at once: each has its own remedy.
            let attempt = AssertUnwindSafe(async {
                let answer = provoke(&worlds, operation, code).await;
                let what = format!("{} {code}: {}", operation.name(), answer.text);
                assert_eq!((answer.status.as_u16(), &answer.json["code"]), (status, &json!(code)), "{what}");
                operation.assert_describes(&answer);
            });
            if attempt.catch_unwind().await.is_err() {
                faults.push(format!("{} {code}", operation.name()));
            }
            provoked += 1;
        }
    }
    assert!(faults.is_empty(), "{} faults, which are above: {faults:#?}", faults.len());
    for (name, code, ..) in CASES {
        let listed =
            operations.iter().any(|operation| operation.name() == *name && operation.codes().iter().any(|one| one.1 == *code));
        assert!(listed, "{name} does not list {code}");
    }
    for (code, reason) in NOT_PROVOKED {
        assert!(operations.iter().any(|operation| operation.codes().iter().any(|one| one.1 == code)), "{code}: {reason}");
    }
    assert!(provoked > 10 * operations.len() / 2, "{provoked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_that_comes_too_slowly_is_refused_as_described() {
    let world = World::with(|config| config.limits.body_seconds = 1).await;
    let slow = |operation: Operation| {
        let world = &world;
        async move {
            let example = operation.examples().swap_remove(0);
            let authorization = world.token(&example.caller).map(|token| format!("Authorization: Token {token}\r\n"));
            let (method, path) = (&operation.method, &example.path);
            let authorization = authorization.unwrap_or_default();
            let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}Content-Length: 10\r\n\r\n");
            let answer = parsed(exchange(connect(HERE, world.server.address).await, head.as_bytes()).await);
            assert_eq!((answer.status.as_u16(), &answer.json["code"]), (408, &json!("too_slow")), "{}", operation.name());
            operation.assert_describes(&answer);
        }
    };
    let slow_ones = operations().into_iter().filter(|operation| operation.codes().iter().any(|code| code.1 == "too_slow"));
    assert!(join_all(slow_ones.map(slow)).await.len() > 15);
}
