//! The program itself, as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::{ADMIN_PASSWORD, DEADLINE};

/// The program with the given arguments in directory `at`.
pub fn program(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.args(args).current_dir(at).env_remove("RUST_LOG");
    // What is set for the tests themselves, or for another server, is none of its business.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"QY_LTY_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A configuration for a free port.
pub fn configure(at: &Path) {
    std::fs::write(at.join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
}

/// A started server: where it listens, as its log says.
pub struct Running {
    pub child: Child,
    pub log: Option<BufReader<ChildStderr>>,
    pub address: String,
}

impl Running {
    pub async fn start(at: &Path) -> Self {
        configure(at);
        Self::spawn(program(at, &["serve", "--config", "c.toml"])).await
    }

    /// Starts it with more of a configuration and a chosen administrator's password, as in-process servers have it.
    pub async fn configured(at: &Path, more: &str) -> Self {
        std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"127.0.0.1:0\"\n{more}\n")).unwrap();
        let mut command = program(at, &["serve", "--config", "c.toml"]);
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
        Self::spawn(command).await
    }

    /// Waits until the program serves.
    pub async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(timeout(DEADLINE, log.read_line(&mut line)).await.unwrap().unwrap(), 0, "the server ended");
            if let Some((_, rest)) = line.split_once("serving address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        Self { child, log: Some(log), address }
    }

    /// Throws the log away from now on: a full pipe would hold the program up.
    pub fn quiet(mut self) -> Self {
        if let Some(mut log) = self.log.take() {
            tokio::spawn(async move { tokio::io::copy(&mut log, &mut tokio::io::sink()).await });
        }
        self
    }

    /// Keeps the log from now on, line by line.
    pub fn kept(&mut self) -> Arc<Mutex<String>> {
        let kept = Arc::new(Mutex::new(String::new()));
        let (mut log, to) = (self.log.take().unwrap(), kept.clone());
        tokio::spawn(async move {
            let mut line = String::new();
            while log.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                to.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        kept
    }

    pub fn socket_address(&self) -> SocketAddr {
        self.address.parse().unwrap()
    }

    /// Its resident memory in bytes, and the most it has been since [`Running::forget_peak`].
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    /// Lets the peak of its memory start from now.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id().unwrap()), "5").unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("ends in time").unwrap()
    }

    /// Everything it printed on standard output; it must have ended.
    pub async fn printed(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }
}

/// One request, by hand; the whole answer as text.
pub async fn raw_post(address: &str, path: &str, body: &str) -> String {
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

/// The first start's token: the password is on standard output, which stays open.
pub async fn log_in(server: &mut Running) -> String {
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
