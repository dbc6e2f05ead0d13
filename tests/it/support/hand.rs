//! Requests written by hand: from any loopback address, with any bytes in them, to any server; a browser's log-in; and the
//! program with everything kept that it says.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Child;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::program::program;
use super::{Answer, Client, DEADLINE, Server, eventually};

/// Where a request comes from when that does not matter.
pub const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An answer as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// 0 where nothing came.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body, when the status is the expected one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A connection from a loopback address of one's choice.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    timeout(DEADLINE, socket.connect(to)).await.expect("connects in time").unwrap()
}

/// Writes `bytes` and reads until the server closes; whichever of the two fails, what came is what counts.
pub async fn exchange(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> Heard {
    let (mut reader, mut writer) = connect(from, to).await.into_split();
    let mut raw = Vec::new();
    let both = async {
        let reading = async { while matches!(reader.read_buf(&mut raw).await, Ok(n) if n > 0) {} };
        let _ = tokio::join!(reading, writer.write_all(bytes));
    };
    timeout(DEADLINE, both).await.expect("answers in time");
    let text = String::from_utf8_lossy(&raw);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    Heard { status, head: head.to_owned(), body: body.to_owned() }
}

/// One request; JSON unless `headers` name another content type.
pub async fn ask(
    from: Ipv4Addr,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Heard {
    let body = body.as_ref();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        head += "Content-Type: application/json\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    exchange(from, to, &[head.as_bytes(), b"\r\n", body].concat()).await
}

/// One log-in, with further headers.
pub async fn login(from: Ipv4Addr, to: SocketAddr, name: &str, password: &str, headers: &[(&str, &str)]) -> Heard {
    ask(from, to, "POST", "/api/auth/login", headers, json!({"username": name, "password": password}).to_string()).await
}

/// Opens a WebSocket; `headers` go with the handshake.
pub async fn ws(to: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, tungstenite::Error> {
    let mut request = format!("ws://{to}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let connecting = tokio_tungstenite::connect_async(request);
    let (stream, response) = timeout(DEADLINE, connecting).await.expect("connects in time")?;
    Ok(Client { stream, headers: response.headers().clone() })
}

/// What a browser page has after its log-in: what it sends as `Cookie`, and what as `X-CSRF-Token`.
pub struct Browser {
    pub cookie: String,
    pub csrf: String,
}

impl Browser {
    pub async fn log_in(server: &Server, name: &str, password: &str) -> (Self, Answer) {
        let body = json!({"username": name, "password": password, "cookie": true}).to_string();
        let answer = server.http("POST", "/api/auth/login", None, Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let csrf = answer.json["data"]["csrf"].as_str().unwrap().to_owned();
        (Self { cookie, csrf }, answer)
    }

    /// A call with the cookie and `headers`.
    pub async fn call(&self, server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("cookie", self.cookie.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        server.raw_http(method, path, &all, body.as_bytes()).await
    }
}

/// The program, with what it says kept in two files.
pub struct Logged {
    pub child: Child,
    pub address: SocketAddr,
    at: PathBuf,
}

impl Logged {
    /// Starts it in `at` with a configuration that begins in `[server]`, and waits until it serves.
    pub async fn start(at: &Path, toml: &str, env: &[(&str, &str)]) -> Self {
        std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"127.0.0.1:0\"\n{toml}")).unwrap();
        let mut command = program(at, &["serve", "--config", "c.toml"]);
        let file = |name: &str| std::fs::File::create(at.join(name)).unwrap();
        let child = command.envs(env.iter().copied()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
        let mut address = None;
        eventually("the program serves", async || {
            let said = std::fs::read_to_string(at.join("err")).unwrap();
            let found = said.split_once("serving address=").and_then(|(_, rest)| rest.split_once(' '));
            address = found.map(|(address, _)| address.parse().unwrap());
            address.is_some()
        })
        .await;
        Self { child, address: address.unwrap(), at: at.to_owned() }
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Stops it, and gives what it said on standard output and standard error.
    pub async fn said(mut self) -> (Vec<u8>, Vec<u8>) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        assert!(timeout(DEADLINE, self.child.wait()).await.expect("ends in time").unwrap().success());
        (std::fs::read(self.at.join("out")).unwrap(), std::fs::read(self.at.join("err")).unwrap())
    }
}
