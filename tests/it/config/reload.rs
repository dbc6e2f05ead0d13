//! The configuration of a running server: the parts that follow the file, and those that need a restart.

use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_tungstenite::tungstenite::Error;

use crate::support::program::{Running, program};
use crate::support::stub::{Reply, Stub, spoken};
use crate::support::{ADMIN_PASSWORD, Client, eventually, http, raw};

/// A running program whose configuration changes.
struct Served {
    dir: tempfile::TempDir,
    running: Running,
}

impl Served {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.toml"), text).unwrap();
        let mut command = program(dir.path(), &["--config", "c.toml", "--listen", "127.0.0.1:0"]);
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
        Self { dir, running: Running::spawn(command).await }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Changes the file, has it read, and waits until `expected` is in the log; returns what was logged meanwhile.
    async fn reload(&self, text: &str, expected: &str) -> String {
        std::fs::write(self.path().join("c.toml"), text).unwrap();
        let before = self.running.log().len();
        self.running.signal("HUP");
        eventually(expected, async || self.running.log()[before..].contains(expected)).await;
        self.running.log()[before..].to_owned()
    }

    async fn token(&self) -> String {
        http::log_in(self.running.address, "admin", ADMIN_PASSWORD).await
    }

    async fn try_connect(&self, token: &str, origin: &str) -> Result<Client, Error> {
        let path = format!("/ws/device/?token={token}");
        let mut client = Client::open(self.running.address, &path, &[("origin", origin)]).await?;
        assert_eq!(client.json().await["type"], "connection_status");
        Ok(client)
    }

    /// Sends a request with a token; returns the status and the body.
    async fn post(&self, path: &str, token: &str, body: Value) -> (u16, Value) {
        let answer = http::post(self.running.address, path, token, body).await;
        (answer.status.as_u16(), answer.json)
    }

    /// Returns the origin that the answer to a page of `origin` allows.
    async fn allowed_origin(&self, origin: &str) -> Option<String> {
        let answer = http::request(self.running.address, "GET", "/healthz", &[("origin", origin)], b"").await;
        answer.headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    }
}

const READ: &str = "reloaded the configuration";
const ORIGIN: &str = "https://app.example";

#[tokio::test]
async fn reload_applies_live_settings_to_running_server() {
    let stub = Stub::start(|_| Reply::Events(spoken(&["from the model"]), Duration::ZERO)).await;
    let server = Served::start("[limits]\nmax_message_chars = 1000\nconnects_per_minute = 0\nlogins_per_minute = 0\n").await;
    let token = server.token().await;
    let mut client = server.try_connect(&token, "http://localhost").await.unwrap();
    let long = json!({"type": "chat_message", "message": "x".repeat(50)});
    assert_eq!(client.ask(long.clone()).await["type"], "chat_response");
    assert!(server.try_connect(&token, ORIGIN).await.is_err());
    assert_eq!(server.allowed_origin(ORIGIN).await, None);

    let chat = format!("[chat]\nresponder = \"openai\"\nmodel = \"m\"\nurl = \"{}\"\n", stub.url("/v1"));
    let limits = "[limits]\nmax_message_chars = 80\nconnects_per_minute = 0\nlogins_per_minute = 0\nconnections_per_user = 3\n";
    let text = format!("{limits}{chat}[server]\norigins = [\"{ORIGIN}\"]\n[log]\nfilter = \"debug\"\n");
    let logged = server.reload(&text, READ).await;
    let changed = "changed=\"chat.model, chat.responder, chat.url, limits.connections_per_user, limits.max_message_chars, log.filter, server.origins\"";
    assert!(logged.contains(changed) && !logged.contains("restart"), "{logged}");
    // The open connection: its limit, and its responder.
    assert_eq!(client.ask(json!({"type": "chat_message", "message": "hi"})).await["message"], "from the model");
    let error = client.ask(json!({"type": "chat_message", "message": "x".repeat(100)})).await;
    assert_eq!(error["code"], "MESSAGE_TOO_LARGE", "{error}");
    // A page of the new origin, over WebSocket and HTTP; and the limit of connections, which counts those open before.
    let _second = server.try_connect(&token, ORIGIN).await.unwrap();
    let _third = server.try_connect(&token, ORIGIN).await.unwrap();
    let mut fourth = Client::open(server.running.address, &format!("/ws/device/?token={token}"), &[]).await.unwrap();
    assert_eq!(fourth.disconnected().await["code"], 4101);
    assert_eq!(server.allowed_origin(ORIGIN).await.as_deref(), Some(ORIGIN));
    assert_eq!(server.allowed_origin("https://other.example").await, None);
    eventually("more is logged", async || server.running.log().contains("DEBUG")).await;

    // And back.
    let logged = server.reload("[limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\n", READ).await;
    assert!(logged.contains("server.origins"), "{logged}");
    assert!(server.try_connect(&token, ORIGIN).await.is_err());
    assert_eq!(client.ask(long).await["message"], format!("收到消息:{}", "x".repeat(50)));
    assert!(server.reload("", READ).await.contains("limits.connects_per_minute"));
    let logged = server.reload("", "changed=\"nothing\"").await;
    assert_eq!(logged.lines().count(), 1, "{logged}");
}

#[tokio::test]
async fn known_hosts_reload_live() {
    let server = Served::start("").await;
    let page = async |host: &str| {
        let page = raw::request("GET", "/healthz", &[("Host", host), ("Cookie", "a=b")], "");
        raw::exchange(raw::connect(raw::HERE, server.running.address).await, &page).await.status
    };
    assert_eq!([page("qy.example.org").await, page("app.example").await, page("qy.lan").await], [421, 421, 200]);
    let logged = server.reload("[server]\nhosts = [\"qy.example.org\"]\norigins = [\"https://app.example\"]\n", READ).await;
    assert!(logged.contains("changed=\"server.hosts, server.origins\"") && !logged.contains("restart"), "{logged}");
    assert_eq!([page("qy.example.org").await, page("app.example").await], [200, 200]);
    server.reload("", READ).await;
    assert_eq!([page("qy.example.org").await, page("app.example").await], [421, 421]);
}

#[tokio::test]
async fn limits_of_readers_and_receipts_reload_live_and_forget_nothing() {
    let server = Served::start("[mailbox]\nreaders = 2\n").await;
    let token = server.token().await;
    let connect = async |name: &str| {
        let path = format!("/ws/device/?token={token}&client={name}");
        let mut client = Client::open(server.running.address, &path, &[]).await.unwrap();
        client.json().await["code"].as_u64()
    };
    assert_eq!([connect("a").await, connect("b").await, connect("c").await], [None, None, Some(4104)]);
    let more = "[mailbox]\nreaders = 3\nreader_days = 7\nmax_deliveries = 5\n[history]\nreceipts = 10\n";
    let logged = server.reload(more, READ).await;
    let changed = "changed=\"history.receipts, mailbox.max_deliveries, mailbox.reader_days, mailbox.readers\"";
    assert!(logged.contains(changed) && !logged.contains("restart"), "{logged}");
    assert_eq!(connect("c").await, None);
    server.reload("[mailbox]\nreaders = 1\n", READ).await;
    assert_eq!([connect("a").await, connect("b").await, connect("c").await, connect("d").await], [None, None, None, Some(4104)]);
}

#[tokio::test]
async fn reload_changes_registration_mailboxes_and_handlers_and_keeps_conversations() {
    let model = Stub::start(|_| Reply::Events(spoken(&["yes"]), Duration::ZERO)).await;
    let story = Stub::start(|_| Reply::Json(200, r#"{"once":"upon a time"}"#.into())).await;
    let chat = |system: &str| {
        let url = model.url("/v1");
        format!("[chat]\nresponder = \"openai\"\nmodel = \"m\"\nurl = \"{url}\"\nsystem = \"{system}\"\n")
    };
    let server = Served::start(&chat("first")).await;
    let token = server.token().await;
    let mut client = server.try_connect(&token, "http://localhost").await.unwrap();
    let ask = |text: &str| json!({"type": "chat_message", "message": text});
    assert_eq!(client.ask(ask("one")).await["message"], "yes");
    assert_eq!(client.ask(json!({"type": "story", "message": {}})).await["code"], "UNSUPPORTED_TYPE");
    let account = json!({"username": "ana", "password": "long-enough"});
    assert_eq!(server.post("/api/auth/register", "", account.clone()).await.0, 403);
    let device = server.post("/api/devices", &token, json!({"name": "lamp"})).await.1["data"]["id"].clone();
    let send = async || server.post(&format!("/api/messages/device/{device}"), &token, json!({"message": "x"})).await.0;
    assert_eq!([send().await, send().await], [200, 200]);

    let handler = format!("[[handler]]\ntype = \"story\"\nurl = \"{}\"\nsecret = \"s\"\n", story.url("/"));
    let text = format!("{}{handler}[auth]\nregistration = \"open\"\n[mailbox]\nmessages = 2\n", chat("second"));
    let logged = server.reload(&text, READ).await;
    assert!(logged.contains("changed=\"auth.registration, chat.system, handler, mailbox.messages\""), "{logged}");
    assert_eq!(client.ask(json!({"type": "story", "message": {}})).await["data"]["once"], "upon a time");
    assert_eq!(client.ask(ask("two")).await["message"], "yes");
    let said = model.got().last().unwrap().json()["messages"].clone();
    let said: Vec<&str> = said.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["second", "one", "yes", "two"], "the conversation goes on");
    assert_eq!(server.post("/api/auth/register", "", account).await.0, 201);
    assert_eq!(send().await, 507);

    server.reload("", READ).await;
    assert_eq!(client.ask(json!({"type": "story", "message": {}})).await["code"], "UNSUPPORTED_TYPE");
    assert_eq!(send().await, 200);
}

#[tokio::test]
async fn reload_names_settings_that_need_restart_and_ignores_broken_file() {
    let server = Served::start("[limits]\nmax_message_chars = 20\n").await;
    let token = server.token().await;
    let mut client = server.try_connect(&token, "http://localhost").await.unwrap();
    let text = json!({"type": "chat_message", "message": "x".repeat(50)});
    let mut refused = async || assert_eq!(client.ask(text.clone()).await["code"], "MESSAGE_TOO_LARGE");
    refused().await;
    let wrong = [
        ("[limits]\nmax_message_chars = 100\nmax_message_char = 5\n", "c.toml:3: unknown key"),
        ("[limits]\nmax_message_chars = 100\nping_seconds = 500\n", "c.toml:3: limits.ping_seconds must be at least 1"),
        ("[limits]\nmax_message_chars = \n", "c.toml:2: "),
        (
            "[limits]\nmax_message_chars = 100\n[[handler]]\ntype = \"a\"\nurl = \"http://x\"\n",
            "the secret of handler a is missing",
        ),
    ];
    for (text, expected) in wrong {
        let logged = server.reload(text, expected).await;
        assert!(logged.contains("ERROR") && logged.contains("nothing was changed"), "{logged}");
        refused().await;
    }
    std::fs::remove_file(server.path().join("c.toml")).unwrap();
    server.running.signal("HUP");
    eventually("a missing file", async || server.running.log().contains("failed to read c.toml")).await;
    refused().await;

    let text = "[storage]\ncompact_ratio = 13\n[server]\ndata_dir = \"elsewhere\"\nlisten = \"127.0.0.1:9\"\n[tls]\nself_signed = true\n\
                [limits]\nmax_message_chars = 100\n[log]\nformat = \"json\"\n";
    for _ in 0..2 {
        let logged = server.reload(text, READ).await;
        for key in ["storage.compact_ratio", "server.data_dir", "tls.self_signed", "log.format"] {
            let lines = logged.lines().filter(|line| line.contains(&format!("setting=\"{key}\"")));
            let lines: Vec<_> = lines.collect();
            assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("after a restart"), "{key}: {logged}");
        }
        // A flag stands above the file.
        assert!(!logged.contains("server.listen"), "{logged}");
    }
    let mut client = server.try_connect(&token, "http://localhost").await.unwrap();
    assert_eq!(client.ask(json!({"type": "chat_message", "message": "x".repeat(50)})).await["type"], "chat_response");
    assert!(!server.path().join("elsewhere").exists());
}

#[tokio::test]
async fn reload_applies_another_certificate_if_usable() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let [cert_path, key_path] = ["crt", "key"].map(|end| dir.path().join(format!("{name}.{end}")));
        std::fs::write(&cert_path, cert.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        let print = Sha256::digest(cert.der()).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        (format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert_path.display(), key_path.display()), print)
    };
    let ((first, first_print), (second, second_print)) = (write("first"), write("second"));
    let server = Served::start(&first).await;
    let missing = first.replace("first.crt", "none.crt") + "[limits]\nconnections = 1\n";
    let logged = server.reload(&missing, "nothing was changed").await;
    assert!(logged.contains("none.crt"), "{logged}");
    let logged = server.reload(&second, READ).await;
    assert!(logged.contains("changed=\"tls.cert, tls.key\"") && logged.contains(&second_print), "{logged}");
    assert!(!logged.contains(&first_print));
    let logged = server.reload("", READ).await;
    assert!(logged.contains("setting=\"tls.cert\"") && logged.contains("setting=\"tls.key\""), "{logged}");
}

#[tokio::test]
async fn settings_are_listed_with_their_sources_and_follow_a_reload() {
    let text = "[limits]\nping_seconds = 20\nlogins_per_minute = 0\n[chat]\nkey = \"s3cret\"\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), text).unwrap();
    let mut command = program(dir.path(), &["--config", "c.toml", "--listen", "127.0.0.1:0", "--set", "chat.turns=3"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env("QY_LTY__MAILBOX__TTL", "3600");
    let server = Served { dir, running: Running::spawn(command).await };
    let token = server.token().await;
    let shown = async || {
        let answer = http::call(server.running.address, "GET", "/api/settings", &token, "").await;
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        answer.ok()["data"].clone()
    };
    let find = |shown: &Value, key: &str| {
        let setting = shown["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == key);
        let setting = setting.unwrap_or_else(|| panic!("{key}"));
        ["value", "source", "where", "changed", "restart_pending"].map(|field| setting[field].clone())
    };
    let before = shown().await;
    assert_eq!(before["file"], "c.toml");
    for (key, value, source, place) in [
        ("limits.ping_seconds", json!(20), "file", json!("c.toml:2")),
        ("server.listen", json!("127.0.0.1:0"), "flag", json!("--listen")),
        ("chat.turns", json!(3), "flag", json!("--set chat.turns")),
        ("mailbox.ttl", json!(3600), "environment", json!("QY_LTY__MAILBOX__TTL")),
        ("limits.idle_seconds", json!(75), "default", Value::Null),
        ("chat.key", Value::Null, "file", json!("c.toml:5")),
    ] {
        assert_eq!(find(&before, key), [value, json!(source), place, json!(source != "default"), json!(false)], "{key}");
    }
    let secret = before["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == "chat.key").unwrap();
    assert_eq!((&secret["secret"], &secret["set"]), (&json!(true), &json!(true)));
    server.reload("[storage]\ncompact_ratio = 13\n[limits]\nping_seconds = 21\nlogins_per_minute = 0\n", READ).await;
    let after = shown().await;
    assert_eq!(find(&after, "limits.ping_seconds")[..3], [json!(21), json!("file"), json!("c.toml:4")]);
    assert_eq!(find(&after, "storage.compact_ratio"), [json!(20), json!("default"), Value::Null, json!(false), json!(true)]);
    assert_eq!(find(&after, "chat.key")[1], "default");
    server.running.stop().await;
}
