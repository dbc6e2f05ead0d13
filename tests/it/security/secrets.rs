//! Logs and responses: they contain no secret, and no text of a client that acts as more than text.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::program::{Running, configure, program};
use crate::support::raw::{self, HERE, Reply, ask};
use crate::support::{ADMIN_PASSWORD, Client, http};

/// A password and a token that never were any.
const WRONG_PASSWORD: &str = "Tr0ub4dor-and-three";
const WRONG_TOKEN: &str = "qlt_wrongwrong0123456789ABCDEFGHIJwrongwrong012";
const ANAS_PASSWORD: &str = "anas-own-and-secret";

/// All secrets there were, and all that was answered, but for what each answer was meant to show.
struct Record {
    to: SocketAddr,
    secrets: Vec<String>,
    answers: Vec<(String, String)>,
}

impl Record {
    /// A call whose answer shows nothing.
    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let heard = ask(HERE, self.to, method, path, headers, body).await;
        self.keep(&format!("{method} {path} {headers:?} {}", &body[..body.len().min(200)]), &heard, &[]);
        heard
    }

    fn keep(&mut self, what: &str, heard: &Reply, shown: &[&str]) {
        let mut text = format!("{}\n{}", heard.head, heard.body);
        for secret in shown {
            assert!(text.contains(secret), "{what} shows it");
            text = text.replace(secret, "");
        }
        self.answers.push((what.to_owned(), text));
    }

    /// A call whose answer shows a secret, in `data` under that key.
    async fn gets(&mut self, path: &str, token: &str, body: Value, key: &str) -> (String, Value) {
        let authorization = format!("Token {token}");
        let heard = ask(HERE, self.to, "POST", path, &[("authorization", &authorization)], body.to_string()).await;
        let json: Value = serde_json::from_str(&heard.body).unwrap();
        let secret = json["data"][key].as_str().unwrap_or_else(|| panic!("{path}: {heard:?}")).to_owned();
        self.keep(path, &heard, &[&secret]);
        self.secrets.push(secret.clone());
        (secret, json["data"].clone())
    }

    async fn websocket(&mut self, path: &str, headers: &[(&'static str, &str)]) -> Option<Client> {
        match Client::open(self.to, path, headers).await {
            Ok(mut client) => {
                let first = client.text().await;
                self.answers.push((format!("{path} {headers:?}"), format!("{:?} {first}", client.headers)));
                first.contains("connection_status").then_some(client)
            }
            Err(error) => {
                self.answers.push((format!("{path} {headers:?}"), format!("{error:?}")));
                None
            }
        }
    }

    /// Expects none of the secrets in `text`, not even a piece.
    fn clean(&self, what: &str, text: &str) {
        for secret in &self.secrets {
            let bare = secret.split_once('_').map_or(secret.as_str(), |(_, bare)| bare);
            for piece in [&bare[..bare.len().min(16)], &bare[bare.len().saturating_sub(16)..]] {
                assert!(!text.contains(piece), "{what} shows {secret}: {text}");
            }
        }
        assert!(!text.contains("argon2") && !text.contains("panicked"), "{what}: {text}");
    }
}

/// The secrets of a server in use: passwords, tokens of all kinds, a ticket, a device code, a cookie's.
async fn make_secrets(record: &mut Record) -> (String, String) {
    record.secrets.extend([ADMIN_PASSWORD, ANAS_PASSWORD, WRONG_PASSWORD, WRONG_TOKEN].map(String::from));
    let (admin, _) = record.gets("/api/auth/login", "", json!({"username": "admin", "password": ADMIN_PASSWORD}), "token").await;
    let authorization = format!("Token {admin}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({"username": "ana", "password": ANAS_PASSWORD}).to_string();
    record.ask("POST", "/api/users", &headers, &body).await.expect(201);
    let (ana, _) = record.gets("/api/auth/login", "", serde_json::from_str(&body).unwrap(), "token").await;
    record.gets("/api/auth/tokens", &admin, json!({"kind": "service"}), "token").await;
    let made = ask(HERE, record.to, "POST", "/api/devices", &headers, r#"{"name":"lamp"}"#).await.expect(201);
    record.gets(&format!("/api/devices/{}/token", made["data"]["id"]), &admin, json!({}), "token").await;

    let body = json!({"username": "ana", "password": ANAS_PASSWORD, "cookie": true}).to_string();
    let heard = ask(HERE, record.to, "POST", "/api/auth/login", &[], &body).await;
    let cookie = heard.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    let csrf = heard.expect(200)["data"]["csrf"].as_str().unwrap().to_owned();
    record.keep("the cookie", &heard, &[&cookie, &csrf]);
    record.secrets.extend([cookie, csrf]);

    let (device_code, begun) = record.gets("/api/devices/pair", "", json!({"name": "lamp"}), "device_code").await;
    let claim = json!({"code": begun["code"]}).to_string();
    record.ask("POST", "/api/devices/claim", &headers, &claim).await.expect(201);
    record.gets("/api/devices/pair", "", json!({"device_code": device_code}), "token").await;
    (admin, ana)
}

/// A secret everywhere it could be put, rightly, by mistake or in malice.
async fn misplace(record: &mut Record, secret: &str, ana: &str) {
    let (signed, scheme) = (format!("Token {ana}"), format!("Basic {secret}"));
    let cookie = format!("qy_lty_session={secret}");
    let signed = [("authorization", signed.as_str())];
    for (method, path) in [
        ("GET", format!("/ws/device/?token={secret}")), // no handshake
        ("GET", format!("/ws/device/token/{secret}/")),
        ("POST", format!("/ws/device/token/{secret}/")),
        ("GET", format!("/ws/device/token/{secret}/{secret}")),
        ("GET", format!("/ws/device/{secret}")),
        ("GET", format!("/ws/device/?ticket={secret}")),
        ("GET", format!("/{secret}")),
        ("GET", format!("/api/users?token={secret}")),
        ("DELETE", format!("/api/auth/tokens/{secret}")),
        ("GET", format!("/api/devices?after={secret}")),
        ("GET", format!("/api/devices?user_id={secret}")),
        ("GET", format!("/api/messages/history?since={secret}&limit={secret}")),
        ("BREW", format!("/api/auth/me?{secret}")),
    ] {
        record.ask(method, &path, &[], "").await;
        record.ask(method, &path, &signed, "").await;
    }
    record.ask("GET", "/api/users", &[("authorization", &scheme)], "").await;
    record.ask("POST", "/api/auth/ticket", &[("cookie", &cookie)], "").await;
    record.ask("POST", "/api/auth/ticket", &[("cookie", &cookie), ("x-csrf-token", secret)], "").await;
    let long = "x".repeat(300_000);
    for (method, path, body) in [
        ("POST", "/api/auth/login", format!(r#"{{"username":"nobody","password":"{secret}"}}"#)),
        ("POST", "/api/auth/login", format!(r#"{{"username":"ana","password":"{secret}","cookie":"{secret}"}}"#)),
        ("POST", "/api/auth/login", format!(r#"{{"username":"ana","password":["{secret}"]}}"#)),
        ("POST", "/api/auth/login", format!(r#"{{"username":["{secret}"],"password":"{secret}"}}"#)),
        ("POST", "/api/auth/login", format!(r#"{{"password":"{secret}""#)),
        ("POST", "/api/auth/login", format!(r#""{secret}""#)),
        ("POST", "/api/auth/login", format!(r#"{{"username":"ana","password":"{secret}{long}"}}"#)),
        ("POST", "/api/auth/register", format!(r#"{{"username":"ana","password":"{secret}"}}"#)),
        ("PUT", "/api/auth/password", format!(r#"{{"current_password":"wrong","new_password":"{secret}"}}"#)),
        ("PUT", "/api/auth/password", format!(r#"{{"current_password":"{secret}x","new_password":"x"}}"#)),
        ("POST", "/api/auth/tokens", format!(r#"{{"kind":"{secret}"}}"#)),
        ("POST", "/api/auth/tokens", format!(r#"{{"expires_in":"{secret}"}}"#)),
        ("POST", "/api/devices", format!(r#"{{"name":"lamp","user_id":"{secret}"}}"#)),
        ("POST", "/api/devices/claim", format!(r#"{{"code":"{secret}"}}"#)),
        ("POST", "/api/devices/pair", format!(r#"{{"device_code":"{secret}x"}}"#)),
        ("POST", "/api/messages", format!(r#"{{"type":"t","message":"m","user_id":"{secret}","delivery":"{secret}"}}"#)),
    ] {
        record.ask(method, path, &signed, &body).await;
        record.ask(method, path, &[("content-type", "text/plain")], &body).await;
    }
    for bytes in [
        format!("GET /ws/device/?token={secret} HTTP/1.1\r\nHo st: {secret}\r\n\r\n"),
        format!("GET /ws/device/token/{secret}/ HTTP/9.9\r\n\r\n"),
        format!("GET /ws/device/?token={secret}&x={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", &long[..40_000]),
    ] {
        let heard = raw::exchange(raw::connect(HERE, record.to).await, bytes.as_bytes()).await;
        assert!(matches!(heard.status, 0 | 400..=499), "{heard:?}");
        record.keep(&bytes[..bytes.len().min(80)], &heard, &[]);
    }
}

/// Starts the program with a value of `RUST_LOG`; empty: without one.
async fn serve(at: &Path, toml: &str, rust_log: &str) -> Running {
    configure(at, toml);
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    if !rust_log.is_empty() {
        command.env("RUST_LOG", rust_log);
    }
    Running::spawn(command).await
}

async fn secrets_stay_inside(rust_log: &str) {
    let dir = tempfile::tempdir().unwrap();
    let limits = "[limits]\nlogins_per_minute = 16\nconnects_per_minute = 0\npairings_per_minute = 0\n";
    let server = serve(dir.path(), limits, rust_log).await;
    let mut record = Record { to: server.address, secrets: Vec::new(), answers: Vec::new() };
    let (admin, ana) = make_secrets(&mut record).await;
    let mut open = Vec::new();
    for secret in [admin.as_str(), &ana, WRONG_TOKEN] {
        let (ticket, _) = record.gets("/api/auth/ticket", &admin, json!({}), "ticket").await;
        let (path, header) = (format!("/ws/device/token/{secret}/"), format!("Bearer {secret}"));
        open.push(record.websocket(&format!("/ws/device/?token={secret}"), &[]).await);
        open.push(record.websocket(&path, &[]).await);
        open.push(record.websocket("/ws/device/", &[("authorization", &header)]).await);
        open.push(record.websocket("/ws/device/", &[("sec-websocket-protocol", &format!("qy-lty.v1, token.{secret}"))]).await);
        open.push(record.websocket(&format!("/ws/device/?ticket={ticket}"), &[]).await);
        open.push(record.websocket(&format!("/ws/device/?token={secret}&since={secret}&ack={secret}"), &[]).await);
        open.push(record.websocket(&format!("{path}?ticket={ticket}"), &[("origin", "https://evil.example")]).await);
    }
    assert_eq!(open.iter().flatten().count(), 13, "six places for each of two, and a ticket");
    for secret in record.secrets.clone() {
        misplace(&mut record, &secret, &ana).await;
    }
    let signed = format!("Token {admin}");
    for path in ["/api/monitor/connections", "/api/users", "/api/users/online", "/api/auth/tokens", "/api/devices", "/api/queue"]
    {
        record.ask("GET", path, &[("authorization", &signed)], "").await.expect(200);
    }
    drop(open);
    let (out, log) = server.stop().await;
    for event in ["login_failed", "login_throttled", "token_made", "connected", "refused", "pairing_failed", "stopped"] {
        assert!(log.contains(event), "the log is there, with {event}: {log}");
    }
    record.clean("standard output", &out);
    record.clean("the log", &log);
    for (what, text) in &record.answers {
        record.clean(what, text);
    }
}

#[tokio::test]
async fn a09_usual_log_and_answers_contain_no_secret() {
    secrets_stay_inside("").await;
}

#[tokio::test]
async fn a09_log_at_rust_log_info_contains_no_secret() {
    secrets_stay_inside("info").await;
}

/// Text that would be something else: a forged line, a command to a terminal, a turned reading direction, a page.
const FORGED: &str = "2026-01-01T00:00:00.000000Z  INFO audit: event=\"login\" user=1 address=10.0.0.1";
const NASTY: [&str; 8] = [
    "\r\n2026-01-01T00:00:00.000000Z  INFO audit: event=\"login\" user=1 address=10.0.0.1",
    "a\" user=1 event=\"login",
    "\x1b[2J\x1b]0;title\x07",
    "\u{9b}2J\u{85}\u{2028}",
    "\u{202e}nimda\u{2066}",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "%1b[2J%0d%0aforged {} ${jndi:ldap://x}",
];

/// Returns true if `c` does more than show itself.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Expects of an answer that a browser takes it for data.
fn inert(what: &str, heard: &Reply) {
    if heard.body.is_empty() {
        return; // refused below HTTP: nothing to take for anything
    }
    assert!(heard.header("content-type").unwrap().starts_with("application/json"), "{what}: {heard:?}");
    assert_eq!(heard.header("x-content-type-options"), Some("nosniff"), "{what}: {heard:?}");
    assert!(heard.header("content-security-policy").is_some_and(|p| p.contains("default-src 'self'")), "{what}: {heard:?}");
    assert!(!heard.head.contains('\x1b') && !heard.head.contains("forged"), "{what}: {heard:?}");
    assert!(!heard.body.chars().any(|c| c.is_ascii_control()), "{what}: {heard:?}");
    serde_json::from_str::<Value>(&heard.body).unwrap_or_else(|_| panic!("{what}: {heard:?}"));
}

/// Puts `text` everywhere; what may be stored, comes back as it was.
async fn write_everywhere(to: SocketAddr, token: &str, n: usize, text: &str) {
    let signed = format!("Token {token}");
    let signed = [("authorization", signed.as_str())];
    let path: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
    for (what, path, body) in [
        ("login", "/api/auth/login", json!({"username": text, "password": "x"})),
        ("user", "/api/users", json!({"username": format!("{n}{text}"), "password": "long-enough"})),
        ("device", "/api/devices", json!({"name": text, "serial": text, "model": text})),
        ("label", "/api/auth/tokens", json!({"label": text})),
        ("type", "/api/messages", json!({"type": text, "message": text, "user_id": 1})),
        ("unknown field", "/api/devices", json!({"name": "lamp", text: 1})),
        ("unknown kind", "/api/auth/tokens", json!({"kind": text})),
        ("pairing", "/api/devices/pair", json!({"name": text, "model": text})),
        ("code", "/api/devices/claim", json!({"code": text})),
    ] {
        let heard = ask(HERE, to, "POST", path, if what == "login" { &[] } else { &signed }, body.to_string()).await;
        assert!((200..500).contains(&heard.status) && heard.status != 401 || what == "login", "{what}: {heard:?}");
        inert(what, &heard);
    }
    for name in ["User-Agent", "X-Forwarded-For", "Forwarded", "Referer", "Idempotency-Key", "Origin", "Host", "Cookie"] {
        for (method, path) in [("POST", "/api/auth/login"), ("GET", "/ws/device/?token=wrong"), ("GET", "/api/users")] {
            let heard = ask(HERE, to, method, path, &[(name, text), ("x-last", "1")], r#"{"username":"x","password":"x"}"#).await;
            inert(name, &heard);
        }
    }
    for path in [format!("/{path}"), format!("/api/users/{path}"), format!("/ws/device/token/{path}/"), format!("/?x={path}")] {
        inert(&path, &ask(HERE, to, "GET", &path, &signed, "").await);
    }
    let mut client = Client::open(to, &format!("/ws/device/?token={token}&since={path}"), &[("user-agent", "x")]).await.unwrap();
    client.json().await;
    client.say(json!({"type": text, "ref": text, "message": text})).await;
    client.send(text).await;
}

async fn text_stays_text(rust_log: &str) {
    let dir = tempfile::tempdir().unwrap();
    let more =
        "trusted_proxies = [\"127.0.0.1\"]\n[limits]\nconnects_per_minute = 0\nrefusals_per_minute = 0\nlogins_per_minute = 0\n";
    let server = serve(dir.path(), more, rust_log).await;
    let to = server.address;
    let token = http::log_in(to, "admin", ADMIN_PASSWORD).await;
    for (n, text) in NASTY.into_iter().enumerate() {
        write_everywhere(to, &token, n, text).await;
    }
    let signed = format!("Token {token}");
    for path in ["/api/users", "/api/devices", "/api/auth/tokens", "/api/messages/history", "/api/monitor/connections"] {
        let heard = ask(HERE, to, "GET", path, &[("authorization", &signed)], "").await;
        assert_eq!(heard.status, 200);
        inert(path, &heard);
    }
    let (_, log) = server.stop().await;
    assert!(log.contains("login_failed"), "refusals are logged: {log}");
    // At debug, libraries show what they read: escaped by us.
    assert_eq!(log.contains("nimda"), rust_log == "debug" && log.contains("\\u{202e}nimda"), "no name of a stranger: {log}");
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
    for line in log.lines() {
        assert!(!line.chars().any(acts), "{line:?}");
        let mut words = line.split_whitespace();
        let (time, level) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        assert!(time.ends_with('Z') && time.contains('T') && levels.contains(&level), "no line of ours: {line:?}");
        assert!(!line.starts_with(&FORGED[..20]), "forged: {line:?}");
    }
    assert_eq!(
        log.lines().filter(|line| line.contains(r#" event="login" "#)).count(),
        1,
        "one log-in, whatever names say: {log}"
    );
}

#[tokio::test]
async fn a17_hostile_text_forges_no_log_line_and_no_page() {
    text_stays_text("").await;
}

#[tokio::test]
async fn a17_hostile_text_forges_no_line_at_debug() {
    text_stays_text("debug").await;
}
