//! The cost of a connection that falls far behind. `cargo bench --bench lag`
//!
//! A client connects and stops reading; 100,000 messages are queued for it; then it reads. Printed are the server's memory
//! before, with everything waiting, and at its highest while the client catches up, and whether all came in order.

#![allow(clippy::missing_docs_in_private_items)]

use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const MESSAGES: u64 = 100_000;
const PASSWORD: &str = "lag-password";

/// Resident memory of a process in KiB, from /proc.
fn rss(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Sends requests one after another on one connection; the answers are only counted.
async fn request(stream: &mut TcpStream, path: &str, token: &str, body: &str) -> Outcome<Value> {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Token {token}\r\n") };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut buffer = Vec::new();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("closed".into());
        }
        // Every answer is one JSON object, and the last thing on the line.
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
            && let Ok(value) = serde_json::from_slice(&buffer[at + 4..])
        {
            return Ok(value);
        }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = format!(
        "[server]\nlisten = \"{address}\"\ndata_dir = \"{}\"\n[mailbox]\nmessages = 0\nbytes = 0\n",
        dir.path().join("data").display()
    );
    std::fs::write(dir.path().join("c.toml"), config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.arg("serve").arg("--config").arg(dir.path().join("c.toml")).env("QY_LTY_ADMIN_PASSWORD", PASSWORD);
    let mut server = command.env("RUST_LOG", "warn").stdout(Stdio::null()).spawn()?;
    let outcome = measure(&address, server.id()).await;
    server.kill()?;
    server.wait()?;
    outcome
}

async fn measure(address: &str, pid: u32) -> Outcome<()> {
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let login = json!({"username": "admin", "password": PASSWORD}).to_string();
    let token = request(&mut stream, "/api/auth/login", "", &login).await?["token"].as_str().ok_or("no token")?.to_owned();
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws/device/?token={token}")).await?;
    client.next().await.ok_or("closed")??;
    // A first round, so that what every flow needs once is there.
    request(&mut stream, "/api/messages/user/1", &token, r#"{"message":"warm"}"#).await?;
    let before = rss(pid)?;

    let (sent, mut tasks, begin) = (Arc::new(AtomicU64::new(1)), JoinSet::new(), Instant::now());
    for _ in 0..64 {
        let (sent, address, token) = (sent.clone(), address.to_owned(), token.clone());
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let body = json!({"message": "x".repeat(100)}).to_string();
            while sent.fetch_add(1, Ordering::Relaxed) < MESSAGES {
                let answer = request(&mut stream, "/api/messages/user/1", &token, &body).await?;
                if answer["status"] != "success" {
                    return Err(answer.to_string().into());
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let waiting = rss(pid)?;
    println!("{MESSAGES} messages queued in {:.1?}", begin.elapsed());

    let (begin, mut last, mut count, mut highest) = (Instant::now(), 0, 0, waiting);
    while count < MESSAGES {
        let message = tokio::time::timeout(Duration::from_secs(20), client.next()).await?.ok_or("closed")??;
        let Ok(text) = message.into_text() else { continue };
        let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
        let Some(id) = event["id"].as_u64() else { continue };
        if id <= last {
            return Err(format!("{id} after {last}").into());
        }
        (last, count) = (id, count + 1);
        if count % 1000 == 0 {
            highest = highest.max(rss(pid)?);
        }
    }
    println!("all read in order in {:.1?}", begin.elapsed());
    println!(
        "memory: before {before} KiB, all waiting +{} KiB, highest while reading +{} KiB",
        waiting - before,
        highest - before
    );
    Ok(())
}
