//! Memory of idle connections, and the time to start. `cargo bench --bench footprint`
//!
//! Starts the real binary on a data directory with 100 users, opens 20 connections for each (2,000), and divides the growth of
//! its resident memory by their number. Then restarts it ten times on the same data and takes the time from `exec` to the
//! first accepted connection. Both are printed and not compared with bounds, since machines differ.

#![allow(clippy::missing_docs_in_private_items)]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Users, and connections for each of them.
const USERS: usize = 100;
const EACH: usize = 20;
/// Restarts of which the median is printed.
const STARTS: usize = 10;
/// The password of the bench's administrator.
const PASSWORD: &str = "footprint-password";

struct Server {
    child: Child,
    address: SocketAddr,
    /// From `exec` to the first accepted connection.
    start: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(dir: &Path) -> Outcome<Self> {
        // A port that was free a moment ago: the time until a connection is accepted must not wait for the log to name it.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = format!(
            "[server]\nlisten = \"{address}\"\ndata_dir = \"{}\"\n[limits]\nconnections_per_address = 0\nconnects_per_minute = 0\nlogins_per_minute = 0\n",
            dir.join("data").display()
        );
        std::fs::write(dir.join("c.toml"), config)?;
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_qy-lty"))
            .args(["serve", "--config"])
            .arg(dir.join("c.toml"))
            .env("QY_LTY_ADMIN_PASSWORD", PASSWORD)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let mut server = Self { child, address, start: Duration::ZERO };
        // A connection waits in the kernel's queue while the store opens; it is accepted when it is answered.
        while server.request("GET", "/healthz", None, "").is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("the server did not start".into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        server.start = began.elapsed();
        Ok(server)
    }

    fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Outcome<serde_json::Value> {
        let mut stream = TcpStream::connect(self.address)?;
        let authorization = token.map(|t| format!("Authorization: Token {t}\r\n")).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").ok_or("no answer")?.1;
        Ok(serde_json::from_str(body)?)
    }

    fn login(&self, name: &str) -> Outcome<String> {
        let body = serde_json::json!({"username": name, "password": PASSWORD}).to_string();
        let answer = self.request("POST", "/api/auth/login", None, &body)?;
        Ok(answer["token"].as_str().ok_or("no token")?.to_owned())
    }

    /// Resident memory in bytes, from /proc.
    fn rss(&self) -> Outcome<usize> {
        let status = std::fs::File::open(format!("/proc/{}/status", self.child.id()))?;
        for line in BufReader::new(status).lines() {
            if let Some(rest) = line?.strip_prefix("VmRSS:") {
                return Ok(rest.trim().trim_end_matches(" kB").parse::<usize>()? * 1024);
            }
        }
        Err("no VmRSS".into())
    }

    fn open(&self, token: &str) -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(
            stream,
            "GET /ws/device/?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
        while !seen.windows(9).any(|w| w == b"\"pending\"") {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Err(String::from_utf8_lossy(&seen).into_owned().into());
            }
            seen.extend_from_slice(&buffer[..n]);
        }
        Ok(stream)
    }
}

fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(dir.path())?;
    let admin = server.login("admin")?;
    let mut tokens = Vec::new();
    for n in 0..USERS {
        let name = format!("user{n}");
        let body = serde_json::json!({"username": name, "password": PASSWORD}).to_string();
        server.request("POST", "/api/users", Some(&admin), &body)?;
        tokens.push(server.login(&name)?);
    }
    // Anew: hashing all those passwords has left free memory behind, in which the connections would hide.
    drop(server);
    let server = Server::start(dir.path())?;
    // The first few connections pay for code and tables that all share.
    let warm: Vec<TcpStream> = tokens.iter().map(|t| server.open(t)).collect::<Outcome<_>>()?;
    drop(warm);
    std::thread::sleep(Duration::from_secs(1));
    let before = server.rss()?;
    let mut open = Vec::new();
    for token in &tokens {
        for _ in 0..EACH {
            open.push(server.open(token)?);
        }
    }
    let after = server.rss()?;
    println!("memory before   {:>8} KiB", before / 1024);
    println!("with {:>5} idle {:>8} KiB", open.len(), after / 1024);
    println!("a connection    {:>8} bytes", after.saturating_sub(before) / open.len());
    drop(open);
    drop(server);

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Server::start(dir.path())?.start);
    }
    starts.sort();
    println!("start to the first answer on existing data: median {:?}, slowest {:?}", starts[STARTS / 2], starts[STARTS - 1]);
    Ok(())
}
