//! `kill -9` at random moments, while publishers publish and readers come and go: every accepted message arrives, in order.
//!
//! 20 cycles; `QY_LTY_CRASH_CYCLES=200 cargo test --release --test crash -- --nocapture` for more.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::ADMIN_PASSWORD;
use crate::support::load::Load;
use crate::support::program::{Running, program};
use tokio::process::Command;
use tokio::task::JoinSet;

/// A configuration without the limits that a test from one address runs into.
fn configure(at: &Path) {
    let text = "[server]\nlisten = \"127.0.0.1:0\"\n[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\n";
    std::fs::write(at.join("c.toml"), text).unwrap();
}

fn serve(at: &Path) -> Command {
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_message_is_lost() {
    let cycles: u32 = std::env::var("QY_LTY_CRASH_CYCLES").map_or(20, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let mut server = Running::spawn(serve(dir.path())).await.quiet();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 4).await;
    let mut tasks = JoinSet::new();
    load.publish(&mut tasks, 8, 50);
    load.come_and_go(&mut tasks);
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles {
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..300))).await;
        server.signal("KILL");
        server.ended().await;
        let start = Instant::now();
        server = Running::spawn(serve(dir.path())).await.quiet();
        slowest = slowest.max(start.elapsed());
        *load.address.lock().unwrap() = server.address.clone();
    }
    load.stop.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let total = load.settle().await;
    println!("{cycles} cycles, {total} accepted messages, 0 lost; slowest restart {slowest:?}");
    assert!(total as u32 > cycles, "the test must have sent something");
    server.signal("TERM");
    server.ended().await;
}
