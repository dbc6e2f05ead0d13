//! The program itself: the first minute, what it refuses to start on, and how it stops.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use common::DEADLINE;
use futures_util::StreamExt;

/// The program with the given arguments in directory `at`.
fn program(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.args(args).current_dir(at).env_remove("QY_LTY_ADMIN_PASSWORD").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A configuration for a free port.
fn configure(at: &Path) {
    std::fs::write(at.join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
}

/// A started server: where it listens, as its log says.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Running {
    async fn start(at: &Path) -> Self {
        configure(at);
        let mut child = program(at, &["serve", "--config", "c.toml"]).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(timeout(DEADLINE, log.read_line(&mut line)).await.unwrap().unwrap(), 0, "the server ended");
            if let Some((_, rest)) = line.split_once("serving address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        Self { child, log, address }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("ends in time").unwrap()
    }

    /// Everything it printed on standard output; it must have ended.
    async fn printed(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }
}

/// Runs the program to its end and returns the exit code and what it said.
async fn outcome(at: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = timeout(DEADLINE, program(at, args).output()).await.expect("ends in time").unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_first_start_prints_a_password_that_works_and_the_second_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Running::start(dir.path()).await;
    let mode = std::fs::metadata(dir.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let address = first.address.clone();
    first.signal("TERM");
    assert_eq!(first.ended().await.code(), Some(0));
    let printed = first.printed().await;
    assert!(printed.contains(&format!("http://{address}")), "{printed}");
    let login = printed.lines().find(|l| l.contains("/api/auth/login")).unwrap().trim();
    let password = login.split(r#""password":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();

    let mut second = Running::start(dir.path()).await;
    // What the printed line asks for, by hand: curl need not be on this machine.
    let body = json!({"username": "admin", "password": password}).to_string();
    let answer = raw_post(&second.address, "/api/auth/login", &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"token\":\"qlt_"), "{answer}");
    second.signal("INT");
    assert_eq!(second.ended().await.code(), Some(0));
    assert_eq!(second.printed().await, "");
    let mut log = String::new();
    second.log.read_to_string(&mut log).await.unwrap();
    assert!(!log.contains(&password));
}

async fn raw_post(address: &str, path: &str, body: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn what_it_does_not_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let refused = async |what: &str| {
        let (code, said) = outcome(at, &["--config", "c.toml"]).await;
        assert_eq!(code, Some(1), "{said}");
        let words = said.lines().last().unwrap_or_default().to_owned();
        assert!(words.starts_with("qy-lty: ") && words.contains(what), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    };

    let running = Running::start(at).await;
    refused("another qy-lty is using").await;
    std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"{}\"\ndata_dir = \"other\"\n", running.address)).unwrap();
    refused("is in use").await;
    assert!(!at.join("other").exists(), "nothing is made where nothing can be served");
    drop(running);

    configure(at);
    std::fs::remove_dir_all(at.join("data")).unwrap();
    std::fs::create_dir(at.join("data")).unwrap();
    std::fs::set_permissions(at.join("data"), std::fs::Permissions::from_mode(0o777)).unwrap();
    refused("can be written by everybody").await;
    std::fs::rename(at.join("data"), at.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at.join("data")).unwrap();
    refused("is a symbolic link").await;
    std::fs::remove_file(at.join("data")).unwrap();
    std::fs::write(at.join("data"), "").unwrap();
    refused("is not a directory").await;

    std::fs::write(at.join("c.toml"), "[limits]\nping_second = 5\n").unwrap();
    refused("c.toml:2: unknown key \"ping_second\"; did you mean \"ping_seconds\"?").await;
    std::fs::remove_file(at.join("c.toml")).unwrap();
    refused("can't read c.toml").await;
    assert_eq!(outcome(at, &["--no-such-flag"]).await.0, Some(2));
}

#[tokio::test]
async fn a_chosen_first_password_is_not_printed_and_must_be_fit() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let bad = program(dir.path(), &["--config", "c.toml"]).env("QY_LTY_ADMIN_PASSWORD", "short").output();
    let bad = timeout(DEADLINE, bad).await.unwrap().unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("at least 8 characters"));
}

#[tokio::test]
async fn stopping_says_1001_to_everybody_and_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let url = format!("ws://{}/ws/device/?token={token}", server.address);
        let mut client = tokio_tungstenite::connect_async(url).await.unwrap().0;
        client.next().await.unwrap().unwrap();
        clients.push(client);
    }
    let start = Instant::now();
    server.signal("TERM");
    for client in &mut clients[..4] {
        // The fifth never reads: it must not hold up the end.
        match timeout(DEADLINE, client.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Nothing was left half done: the data opens again.
    let mut again = Running::start(dir.path()).await;
    again.signal("TERM");
    again.ended().await;
}

/// The first start's token: the password is on standard output, which stays open.
async fn log_in(server: &mut Running) -> String {
    let mut lines = BufReader::new(server.child.stdout.take().unwrap()).lines();
    let password = loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("a password is printed");
        if let Some(rest) = line.trim().strip_prefix("password") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
    };
    let body = json!({"username": "admin", "password": password}).to_string();
    let answer = raw_post(&server.address, "/api/auth/login", &body).await;
    let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    json["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    let url = format!("ws://{}/ws/device/?token={token}", server.address);
    let (_never_reads, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    server.signal("TERM");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        timeout(DEADLINE, server.log.read_line(&mut line)).await.unwrap().unwrap();
    }
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    server.signal("KILL");
    server.ended().await;
    let mut server = Running::start(dir.path()).await;
    let url = format!("ws://{}/ws/device/?token={token}", server.address);
    let mut client = tokio_tungstenite::connect_async(url).await.unwrap().0;
    let hello = timeout(DEADLINE, client.next()).await.unwrap().unwrap().unwrap();
    assert!(hello.into_text().unwrap().contains("connection_status"));
    server.signal("TERM");
    server.ended().await;
}
