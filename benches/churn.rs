//! The store after years of messages. `cargo bench --bench churn`
//!
//! 100 users are connected and acknowledge all but the newest 100 messages each, so that 10,000 live messages wait at any time,
//! while 5,000,000 (`QY_LTY_CHURN_SENDS`) are queued for them on a memory budget of 48 MiB (`QY_LTY_CHURN_BUDGET`, in MiB).
//! Printed are the rate, the server's memory at its highest, and what the store takes before and after `qy-lty compact` beside
//! what is in it. Ends with an error where memory was above the budget, or the store is above ten times what is in it.

#![allow(clippy::missing_docs_in_private_items)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use qy_lty::load::http::Http;
use qy_lty::load::ws::Socket;
use qy_lty::load::{LoadError, OwnServer, OwnServerOptions, Target};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USERS: usize = 100;
/// Messages that each user leaves waiting, and how many come before it acknowledges again.
const LIVE: usize = 100;
const STEP: usize = 50;
/// Connections that send.
const SENDERS: u64 = 64;

/// A number from the environment.
fn asked(name: &str, usual: u64) -> Outcome<u64> {
    Ok(std::env::var(name).map_or(Ok(usual), |text| text.parse())?)
}

/// Receives and acknowledges, always leaving the newest.
async fn receive(target: Target, token: String) -> Outcome<()> {
    let mut socket = Socket::connect(&target, &token, "&ack=client").await?;
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let event = serde_json::from_slice::<Value>(socket.next().await?);
        let Some(id) = event.ok().and_then(|event| event["id"].as_u64()) else { continue };
        waiting.push_back(id);
        if waiting.len() >= LIVE + STEP {
            let done: Vec<u64> = waiting.drain(..waiting.len() - LIVE).collect();
            if let Some(upto) = done.last() {
                socket.queue(json!({"type": "ack", "message": {"id": upto}}).to_string().as_bytes());
                socket.flush().await?;
            }
        }
    }
}

/// Returns the JSON that a command prints.
async fn command_json(server: &OwnServer, args: &[&str]) -> Outcome<Value> {
    Ok(serde_json::from_str(&server.command(&[args, &["--json"]].concat()).await?)?)
}

/// Sends everything.
async fn churn(server: &OwnServer, sends: u64) -> Outcome<()> {
    let (mut receivers, mut senders) = (JoinSet::new(), JoinSet::new());
    let users = server.population().await?.recipients(USERS).await?;
    for user in &users {
        receivers.spawn(receive(server.target().clone(), user.token.clone()));
    }
    let paths: Arc<[String]> = users.into_iter().map(|user| user.path).collect();
    let (sent, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    for _ in 0..SENDERS {
        let (sent, paths, mut http) = (sent.clone(), paths.clone(), Http::new(server.target(), server.admin()));
        senders.spawn(async move {
            let body = json!({"type": "reading", "message": {"value": 21.5, "note": "x".repeat(100)}});
            loop {
                let n = sent.fetch_add(1, Ordering::Relaxed);
                if n >= sends {
                    return Ok::<_, LoadError>(());
                }
                http.call("POST", &paths[n as usize % USERS], &body).await?;
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

#[tokio::main]
async fn main() -> Outcome<()> {
    let (sends, budget) = (asked("QY_LTY_CHURN_SENDS", 5_000_000)?, asked("QY_LTY_CHURN_BUDGET", 48)?);
    let mut options = OwnServerOptions::new(env!("CARGO_BIN_EXE_qy-lty"), USERS);
    options.settings = vec![format!("storage.memory_budget={}", budget << 20), "history.messages=0".to_owned()];
    let mut server = OwnServer::start(options).await?;
    let sent = churn(&server, sends).await;
    let highest = server.process()?.highest_memory().unwrap_or(0);
    let before = command_json(&server, &["status"]).await;
    server.end().await;
    sent?;
    let before = before?;
    let (messages, live) = (before["messages"].as_u64().unwrap_or(0), before["bytes"].as_u64().unwrap_or(0).max(1));
    println!("{messages} messages wait, {} KiB of payload", live >> 10);
    println!("memory at its highest {} MiB, budget {budget} MiB", highest >> 20);
    let compacted = command_json(&server, &["compact"]).await?;
    let (disk, after) = (compacted["before"].as_u64().unwrap_or(0), compacted["after"].as_u64().unwrap_or(u64::MAX));
    let times = |bytes: u64| bytes as f64 / live as f64;
    println!("store before {} KiB ({:.1} times), after {} KiB ({:.1} times)", disk >> 10, times(disk), after >> 10, times(after));
    let wrong = command_json(&server, &["check"]).await?["wrong"].as_u64();
    if after >= 10 * live || highest >> 20 > budget || wrong != Some(0) {
        return Err("outside of what is promised".into());
    }
    Ok(())
}
