//! The store after years of messages. `cargo bench --bench churn`
//!
//! 100 users are connected and acknowledge all but the newest 100 messages each, so that 10,000 live messages wait at any time,
//! while 5,000,000 (`QY_LTY_CHURN_SENDS`) are queued for them on a memory budget of 48 MiB (`QY_LTY_CHURN_BUDGET`, in MiB).
//! Printed are the rate, the server's memory at its highest, and what the store takes before and after `qy-lty compact` beside
//! what is in it. Ends with an error where memory was above the budget, or the store is above ten times what is in it.

#![allow(clippy::missing_docs_in_private_items)]

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USERS: u64 = 100;
/// Messages that each user leaves waiting, and how many come before it acknowledges again.
const LIVE: usize = 100;
const STEP: usize = 50;
/// Connections that send.
const SENDERS: u64 = 64;
const PASSWORD: &str = "churn-password";

/// A number from the environment.
fn asked(name: &str, usual: u64) -> Outcome<u64> {
    Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
}

/// A figure of a process's memory, in KiB.
fn memory(pid: u32, name: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(name)).ok_or("no such figure")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// One request on a connection that is kept; the answer, which must be a success.
async fn post(stream: &mut TcpStream, path: &str, token: &str, body: &str) -> Outcome<Value> {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Token {token}\r\n") };
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("closed".into());
        }
        // Every answer is one JSON object, and the last thing on the line.
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
            && let Ok(value) = serde_json::from_slice::<Value>(&buffer[at + 4..])
        {
            return if value["status"] == "success" { Ok(value) } else { Err(value.to_string().into()) };
        }
    }
}

async fn log_in(address: &str, name: &str) -> Outcome<String> {
    let body = json!({"username": name, "password": PASSWORD}).to_string();
    let answer = post(&mut TcpStream::connect(address).await?, "/api/auth/login", "", &body).await?;
    Ok(answer["token"].as_str().ok_or("no token")?.to_owned())
}

/// Receives and acknowledges, always leaving the newest.
async fn receive(address: String, token: String) -> Outcome<()> {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws/device/?ack=client&token={token}")).await?;
    let mut waiting = std::collections::VecDeque::new();
    while let Some(message) = socket.next().await {
        let Ok(text) = message?.into_text() else { continue };
        let Some(id) = serde_json::from_str::<Value>(&text).ok().and_then(|event| event["id"].as_u64()) else { continue };
        waiting.push_back(id);
        if waiting.len() >= LIVE + STEP {
            let done: Vec<u64> = waiting.drain(..waiting.len() - LIVE).collect();
            if let Some(upto) = done.last() {
                socket.send(Message::text(json!({"type": "ack", "message": {"id": upto}}).to_string())).await?;
            }
        }
    }
    Ok(())
}

fn configure(dir: &Path, address: &str, budget: u64) -> std::io::Result<()> {
    let data = dir.join("data");
    let config = format!(
        "[server]\nlisten = \"{address}\"\ndata_dir = \"{}\"\n[storage]\nmemory_budget = {}\n[history]\nmessages = 0\n\
         [limits]\nlogins_per_minute = 0\nconnects_per_minute = 0\ntrusted_requests_per_minute = 0\nmessages_per_minute = 0\n\
         user_messages_per_minute = 0\n",
        data.display(),
        budget << 20
    );
    std::fs::write(dir.join("c.toml"), config)
}

fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.arg("--config").arg(dir.join("c.toml")).args(args).env("QY_LTY_ADMIN_PASSWORD", PASSWORD).env("RUST_LOG", "warn");
    command.env_remove("QY_LTY_CHURN_SENDS").env_remove("QY_LTY_CHURN_BUDGET"); // of this bench, and unknown to the program
    command
}

/// Returns the JSON that a command prints.
fn command_json(dir: &Path, args: &[&str]) -> Outcome<Value> {
    let output = program(dir, &[args, &["--json"]].concat()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Sends everything.
async fn churn(address: &str, sends: u64) -> Outcome<()> {
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let admin = log_in(address, "admin").await?;
    let (mut receivers, mut senders) = (JoinSet::new(), JoinSet::new());
    for n in 0..USERS {
        let name = format!("user{n}");
        let body = json!({"username": name, "password": PASSWORD}).to_string();
        post(&mut stream, "/api/users", &admin, &body).await?;
        receivers.spawn(receive(address.to_owned(), log_in(address, &name).await?));
    }
    let (sent, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    for _ in 0..SENDERS {
        let (sent, address, admin) = (sent.clone(), address.to_owned(), admin.clone());
        senders.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let body = json!({"type": "reading", "message": {"value": 21.5, "note": "x".repeat(100)}}).to_string();
            loop {
                let n = sent.fetch_add(1, Ordering::Relaxed);
                if n >= sends {
                    return Ok::<_, Box<dyn Error + Send + Sync>>(());
                }
                post(&mut stream, &format!("/api/messages/user/{}", n % USERS + 2), &admin, &body).await?;
            }
        });
    }
    loop {
        tokio::select! {
            done = senders.join_next() => match done {
                Some(done) => done??,
                None => break,
            },
            Some(ended) = receivers.join_next() => return Err(format!("a receiver ended: {ended:?}").into()),
        }
    }
    let took = begin.elapsed();
    println!("{sends} messages queued in {took:.1?}, {:.0} a second", sends as f64 / took.as_secs_f64());
    receivers.shutdown().await;
    Ok(())
}

fn stop(server: &mut Child) -> Outcome<()> {
    Command::new("kill").arg(server.id().to_string()).status()?;
    server.wait()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let (sends, budget) = (asked("QY_LTY_CHURN_SENDS", 5_000_000)?, asked("QY_LTY_CHURN_BUDGET", 48)?);
    let dir = tempfile::tempdir()?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    configure(dir.path(), &address, budget)?;
    let mut server = program(dir.path(), &["serve"]).stdout(Stdio::null()).spawn()?;
    let sent = churn(&address, sends).await;
    let highest = memory(server.id(), "VmHWM:").unwrap_or(0);
    let before = command_json(dir.path(), &["status"]);
    stop(&mut server)?;
    sent?;
    let before = before?;
    let (messages, live) = (before["messages"].as_u64().unwrap_or(0), before["bytes"].as_u64().unwrap_or(0).max(1));
    println!("{messages} messages wait, {} KiB of payload", live >> 10);
    println!("memory at its highest {} MiB, budget {budget} MiB", highest >> 10);
    let compacted = command_json(dir.path(), &["compact"])?;
    let (disk, after) = (compacted["before"].as_u64().unwrap_or(0), compacted["after"].as_u64().unwrap_or(u64::MAX));
    let times = |bytes: u64| bytes as f64 / live as f64;
    println!("store before {} KiB ({:.1} times), after {} KiB ({:.1} times)", disk >> 10, times(disk), after >> 10, times(after));
    let wrong = command_json(dir.path(), &["check"])?["wrong"].as_u64();
    if after >= 10 * live || highest >> 10 > budget || wrong != Some(0) {
        return Err("outside of what is promised".into());
    }
    Ok(())
}
