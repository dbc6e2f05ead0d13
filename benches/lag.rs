//! The cost of a connection that falls far behind. `cargo bench --bench lag`
//!
//! A client connects and stops reading; 100,000 messages are queued for it; then it reads. Printed are the server's memory
//! before, with everything waiting, and at its highest while the client catches up, and whether all came in order.

#![allow(clippy::missing_docs_in_private_items)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qy_lty::load::http::Http;
use qy_lty::load::process::Process;
use qy_lty::load::ws::Socket;
use qy_lty::load::{LoadError, OwnServer, OwnServerOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MESSAGES: u64 = 100_000;

/// Resident memory in KiB.
fn rss(process: Process) -> Outcome<u64> {
    Ok(process.memory().ok_or("no memory figure")? >> 10)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let server = OwnServer::start(OwnServerOptions::new(env!("CARGO_BIN_EXE_qy-lty"), 1)).await?;
    let outcome = measure(&server).await;
    server.stop().await;
    outcome
}

async fn measure(server: &OwnServer) -> Outcome<()> {
    let (target, process) = (server.target(), server.process()?);
    let user = server.population().await?.recipients(1).await?.remove(0);
    let mut client = Socket::connect(target, &user.token, "").await?;
    // A first round, so that what every flow needs once is there.
    Http::new(target, server.admin()).call("POST", &user.path, &json!({"message": "warm"})).await?;
    let before = rss(process)?;

    let (sent, mut tasks, begin) = (Arc::new(AtomicU64::new(1)), JoinSet::new(), Instant::now());
    for _ in 0..64 {
        let (sent, path, mut http) = (sent.clone(), user.path.clone(), Http::new(target, server.admin()));
        tasks.spawn(async move {
            let body = json!({"message": "x".repeat(100)});
            while sent.fetch_add(1, Ordering::Relaxed) < MESSAGES {
                http.call("POST", &path, &body).await?;
            }
            Ok::<_, LoadError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let waiting = rss(process)?;
    println!("{MESSAGES} messages queued in {:.1?}", begin.elapsed());

    let (begin, mut last, mut count, mut highest) = (Instant::now(), 0, 0, waiting);
    while count < MESSAGES {
        let text = tokio::time::timeout(Duration::from_secs(20), client.next()).await??;
        let Some(id) = serde_json::from_slice::<Value>(text).ok().and_then(|event| event["id"].as_u64()) else { continue };
        if id <= last {
            return Err(format!("{id} after {last}").into());
        }
        (last, count) = (id, count + 1);
        if count % 1000 == 0 {
            highest = highest.max(rss(process)?);
        }
    }
    println!("all read in order in {:.1?}", begin.elapsed());
    println!(
        "memory: before {before} KiB, all waiting +{} KiB, highest while reading +{} KiB",
        waiting.saturating_sub(before),
        highest.saturating_sub(before)
    );
    Ok(())
}
