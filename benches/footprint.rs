//! Memory of idle connections, and the time to start. `cargo bench --bench footprint`
//!
//! Starts the real binary on a data directory with 100 users, opens 20 connections for each (2,000), and divides the growth of
//! its resident memory by their number. Then restarts it ten times on the same data and takes the time from `exec` to the
//! first answer. Both are printed and not compared with bounds, since machines differ.

#![allow(clippy::missing_docs_in_private_items)]

use std::time::{Duration, Instant};

use qy_lty::load::http::Http;
use qy_lty::load::receivers::{Refusals, connect};
use qy_lty::load::{OwnServer, OwnServerOptions};
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Users, and connections for each of them.
const USERS: usize = 100;
const EACH: usize = 20;
/// Restarts of which the median is printed.
const STARTS: usize = 10;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut server = OwnServer::start(OwnServerOptions::new(env!("CARGO_BIN_EXE_qy-lty"), USERS)).await?;
    let users = server.population().await?.recipients(USERS).await?;
    let open = async |server: &OwnServer, count: usize| {
        let tokens = users.iter().cycle().take(count).map(|user| user.token.clone()).collect();
        connect(server.target(), tokens, 1, &mut Refusals::new()).await
    };
    // The first few connections pay for code and tables that all share.
    drop(open(&server, USERS).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory = |server: &OwnServer| -> Outcome<u64> { Ok(server.process()?.memory().ok_or("no memory figure")?) };
    let before = memory(&server)?;
    let connections = open(&server, USERS * EACH).await?;
    let after = memory(&server)?;
    println!("memory before   {:>8} KiB", before / 1024);
    println!("with {:>5} idle {:>8} KiB", connections.len(), after / 1024);
    println!("a connection    {:>8} bytes", after.saturating_sub(before) / connections.len() as u64);
    drop(connections);

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        server.end().await;
        let begin = Instant::now();
        server.restart().await?;
        Http::new(server.target(), "").call("GET", "/healthz", &Value::Null).await?;
        starts.push(begin.elapsed());
    }
    starts.sort();
    println!("start to the first answer on existing data: median {:?}, slowest {:?}", starts[STARTS / 2], starts[STARTS - 1]);
    server.stop().await;
    Ok(())
}
