//! The configuration of the program: its layers, its commands, and what a running server takes up.

use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::program::{Running, program, raw_post};
use crate::support::stub::{Reply, Stub, spoken};
use crate::support::{ADMIN_PASSWORD, Client, DEADLINE, eventually};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Runs the program to its end: exit code, standard output, last line of standard error.
async fn outcome(mut command: tokio::process::Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = timeout(DEADLINE, command.output()).await.expect("ends in time").unwrap();
    let said = String::from_utf8(stderr).unwrap().lines().last().unwrap_or_default().to_owned();
    (status.code(), String::from_utf8(stdout).unwrap(), said)
}

#[tokio::test]
async fn the_default_file_is_printed_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let (code, file, _) = outcome(program(at, &["config", "default"])).await;
    assert_eq!(code, Some(0));
    assert_eq!(file, qy_lty::config::DEFAULT);
    std::fs::write(at.join("c.toml"), &file).unwrap();
    let (code, said, _) = outcome(program(at, &["config", "check", "--config", "c.toml"])).await;
    assert_eq!((code, said.as_str()), (Some(0), "c.toml can be used\n"));
    let (code, said, _) = outcome(program(at, &["config", "check", "--json"])).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(&said).unwrap()),
        (Some(0), json!({"usable": true, "file": null, "missing": []}))
    );
    let (_, shown, _) = outcome(program(at, &["config", "show"])).await;
    assert!(shown.starts_with("[server]\nlisten = \"127.0.0.1:8000\"\ndata_dir = \"data\"\n"), "{shown}");
    assert!(!shown.contains('#'), "nothing is set: {shown}");
    let (_, json, _) = outcome(program(at, &["--json", "config", "default"])).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["limits"]["ping_seconds"], 30);
}

#[tokio::test]
async fn what_is_in_force_and_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[limits]\nping_seconds = 10\nconnections = 5\n[chat]\nkey = \"s3cret\"\n").unwrap();
    let command = |args: &[&str]| {
        let mut command = program(at, args);
        command.env("QY_LTY_CONFIG", "c.toml").env("QY_LTY__LIMITS__PING_SECONDS", "11");
        command.env("QY_LTY__SERVER__ORIGINS", "[\"https://a\"]").env("QY_LTY_QWEATHER_KEY", "hush");
        command.env("QY_LTY__WEATHER__QWEATHER__HOST", "h.example");
        command
    };
    let (code, shown, said) =
        outcome(command(&["config", "show", "--set", "limits.idle_seconds=40", "--listen", "[::1]:9"])).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for line in [
        "listen = \"[::1]:9\"  # --listen",
        "origins = [\"https://a\"]  # QY_LTY__SERVER__ORIGINS",
        "ping_seconds = 11  # QY_LTY__LIMITS__PING_SECONDS",
        "idle_seconds = 40  # --set limits.idle_seconds",
        "connections = 5  # c.toml:3",
        "key = \"(hidden)\"  # c.toml:5",
        "host = \"h.example\"  # QY_LTY__WEATHER__QWEATHER__HOST",
        "key = \"(hidden)\"  # QY_LTY_QWEATHER_KEY",
        "write_seconds = 10",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    let (_, shown, _) = outcome(command(&["config", "show", "--json", "--data-dir", "elsewhere"])).await;
    assert!(!shown.contains("s3cret") && !shown.contains("hush"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["config"]["limits"]["ping_seconds"], &shown["config"]["server"]["data_dir"]),
        (&json!(11), &json!("elsewhere"))
    );
    assert_eq!(
        (&shown["sources"]["limits.connections"], &shown["sources"]["server.data_dir"]),
        (&json!("c.toml:3"), &json!("--data-dir"))
    );
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    for (text, variable, flag, expected) in [
        ("[limits]\n\nping_second = 5\n", "", "", "c.toml:3: unknown key \"ping_second\"; did you mean \"ping_seconds\"?"),
        (
            "",
            "QY_LTY__LIMITS__PNG_SECONDS=5",
            "",
            "QY_LTY__LIMITS__PNG_SECONDS: unknown key \"png_seconds\"; did you mean \"ping_seconds\"?",
        ),
        (
            "",
            "",
            "--set=limits.connections=many",
            "--set limits.connections: must be a whole number from 0 to 4294967295, not the string \"many\"",
        ),
        ("", "", "--listen=nowhere", "--listen: must be an address and port, such as 127.0.0.1:8000"),
        (
            "",
            "",
            "--set=storage.memory_budget=5",
            "--set storage.memory_budget: storage.memory_budget must be at least 50331648 (48 MiB)",
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\n[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"\n",
            "",
            "",
            "can't use no.pem: No such file or directory (os error 2)",
        ),
        ("[log]\nfilter = \"info\"\n[chat]\nurl = \"x\"\n", "", "", "c.toml:4: chat.url must begin with http:// or https://"),
    ] {
        std::fs::write(at.join("c.toml"), text).unwrap();
        for what in [&["config", "check"][..], &["serve"]] {
            let mut command = program(at, what);
            command.args(["--config", "c.toml"]).args([flag].iter().filter(|flag| !flag.is_empty()));
            if let Some((name, value)) = variable.split_once('=') {
                command.env(name, value);
            }
            let (code, printed, said) = outcome(command).await;
            assert_eq!((code, printed.as_str(), said), (Some(1), "", format!("qy-lty: {expected}")), "{what:?}");
        }
    }
    assert!(at.join("data/store").is_dir());
    // No more than what a certificate that can't be read leaves behind: the data directory with an empty store.
    let user = program(at, &["--data-dir", "data", "user", "list", "--json"]);
    let (code, printed, said) = outcome(user).await;
    assert_eq!((code, printed.as_str()), (Some(0), "[]\n"), "{said}");
}

#[tokio::test]
async fn logs_in_json_from_settings_of_all_layers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"first\"\n").unwrap();
    let mut command = program(dir.path(), &["--config", "c.toml", "--listen", "127.0.0.1:0", "--data-dir", "third"]);
    command.env("QY_LTY__SERVER__DATA_DIR", "second").env("QY_LTY__LOG__FORMAT", "json");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("the server ended");
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
        if line["message"] == "serving" {
            assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            assert!(line["data"].as_str().unwrap().ends_with("third"), "{line}");
            break;
        }
    }
    assert!(dir.path().join("third").is_dir() && !dir.path().join("second").exists());
}

/// A running program whose configuration changes.
struct Served {
    dir: tempfile::TempDir,
    running: Running,
    log: Arc<Mutex<String>>,
}

impl Served {
    async fn start(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.toml"), text).unwrap();
        let mut command = program(dir.path(), &["--config", "c.toml", "--listen", "127.0.0.1:0"]);
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
        let mut running = Running::spawn(command).await;
        let log = running.kept();
        Self { dir, running, log }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Changes the file, has it read, and waits until the log says `expected`; returns what was logged meanwhile.
    async fn reload(&self, text: &str, expected: &str) -> String {
        std::fs::write(self.path().join("c.toml"), text).unwrap();
        let before = self.log.lock().unwrap().len();
        self.running.signal("HUP");
        eventually(expected, async || self.log.lock().unwrap()[before..].contains(expected)).await;
        self.log.lock().unwrap()[before..].to_owned()
    }

    async fn token(&self) -> String {
        let body = json!({"username": "admin", "password": ADMIN_PASSWORD}).to_string();
        let answer = raw_post(&self.running.address, "/api/auth/login", &body).await;
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn try_connect(&self, token: &str, origin: &str) -> Result<Client, Error> {
        let mut request = format!("ws://{}/ws/device/?token={token}", self.running.address).into_client_request()?;
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let (stream, response) = timeout(DEADLINE, tokio_tungstenite::connect_async(request)).await.unwrap()?;
        let mut client = Client { stream, headers: response.headers().clone() };
        assert_eq!(client.json().await["type"], "connection_status");
        Ok(client)
    }

    /// The status and the body of a call with a token.
    async fn post(&self, path: &str, token: &str, body: Value) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.running.address).await.unwrap();
        let (address, body) = (&self.running.address, body.to_string());
        let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Token {token}\r\n");
        let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all((head + &rest).as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn get(&self, path: &str, origin: &str) -> String {
        let mut stream = TcpStream::connect(&self.running.address).await.unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n", self.running.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer.to_lowercase()
    }
}

const READ: &str = "the configuration was read again";
const ORIGIN: &str = "https://app.example";

#[tokio::test]
async fn a_running_server_takes_up_what_can_change() {
    let stub = Stub::start(|_| Reply::Events(spoken(&["from the model"]), Duration::ZERO)).await;
    let server = Served::start("[limits]\nmax_message_chars = 1000\nconnects_per_minute = 0\nlogins_per_minute = 0\n").await;
    let token = server.token().await;
    let mut client = server.try_connect(&token, "http://localhost").await.unwrap();
    let long = json!({"type": "chat_message", "message": "x".repeat(50)});
    assert_eq!(client.ask(long.clone()).await["type"], "chat_response");
    assert!(server.try_connect(&token, ORIGIN).await.is_err());
    assert!(!server.get("/healthz", ORIGIN).await.contains("access-control"));

    let chat = format!("[chat]\nresponder = \"openai\"\nmodel = \"m\"\nurl = \"{}\"\n", stub.url("/v1"));
    let limits = "[limits]\nmax_message_chars = 80\nconnects_per_minute = 0\nlogins_per_minute = 0\nconnections_per_user = 3\n";
    let text = format!("{limits}{chat}[server]\norigins = [\"{ORIGIN}\"]\n[log]\nfilter = \"debug\"\n");
    let logged = server.reload(&text, READ).await;
    let changed = "changed=\"chat.model, chat.responder, chat.url, limits.connections_per_user, limits.max_message_chars, log.filter, server.origins\"";
    assert!(logged.contains(changed) && !logged.contains("restart"), "{logged}");
    // The connection that is there: its limit, and who answers it.
    assert_eq!(client.ask(json!({"type": "chat_message", "message": "hi"})).await["message"], "from the model");
    let error = client.ask(json!({"type": "chat_message", "message": "x".repeat(100)})).await;
    assert_eq!(error["code"], "MESSAGE_TOO_LARGE", "{error}");
    // A page of the new origin, over both ways; and the seats, which count who was there before.
    let _second = server.try_connect(&token, ORIGIN).await.unwrap();
    let _third = server.try_connect(&token, ORIGIN).await.unwrap();
    let request = format!("ws://{}/ws/device/?token={token}", server.running.address);
    let stream = timeout(DEADLINE, tokio_tungstenite::connect_async(request)).await.unwrap().unwrap().0;
    let mut fourth = Client { stream, headers: Default::default() };
    assert_eq!(fourth.disconnected().await["code"], 4101);
    assert!(server.get("/healthz", ORIGIN).await.contains(&format!("access-control-allow-origin: {ORIGIN}")));
    assert!(!server.get("/healthz", "https://other.example").await.contains("access-control-allow-origin"));
    eventually("more is logged", async || server.log.lock().unwrap().contains("DEBUG")).await;

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
async fn rules_mailboxes_handlers_and_conversations_follow_the_file() {
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
    let device = server.post("/api/devices", &token, json!({"name": "lamp"})).await.1;
    let device = serde_json::from_str::<Value>(&device).unwrap()["data"]["id"].clone();
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
async fn what_needs_a_restart_is_named_and_what_is_broken_changes_nothing() {
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
        ("[limits]\nmax_message_chars = 100\n[[handler]]\ntype = \"a\"\nurl = \"http://x\"\n", "the handler of a needs a secret"),
    ];
    for (text, expected) in wrong {
        let logged = server.reload(text, expected).await;
        assert!(logged.contains("ERROR") && logged.contains("nothing was changed"), "{logged}");
        refused().await;
    }
    std::fs::remove_file(server.path().join("c.toml")).unwrap();
    server.running.signal("HUP");
    eventually("a missing file", async || server.log.lock().unwrap().contains("can't read c.toml")).await;
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
async fn another_certificate_is_taken_up_at_once_where_it_can_be_used() {
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
