//! `kill -9` at random moments, while publishers publish, two readers a user come and go and a third one is absent: every accepted
//! message and broadcast arrives at each of them, in order.
//!
//! 20 cycles; `QY_LTY_CRASH_CYCLES=200 cargo test --release --test it delivery::crash -- --nocapture` for more.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::load::{Load, PRESENT_READERS, THREE_READERS};
use crate::support::program::Running;
use tokio::task::JoinSet;

/// The settings of a server without the limits that a test from one address runs into.
const ROOMY: &str =
    "[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\nrequests_per_minute = 0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_messages_survive_sigkill() {
    let cycles: u32 = std::env::var("QY_LTY_CRASH_CYCLES").map_or(20, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::configured(dir.path(), ROOMY).await;
    let load = Load::with_readers(server.address, 4, &THREE_READERS).await;
    let mut tasks = JoinSet::new();
    load.publish(&mut tasks, 8, 50, 20);
    load.come_and_go(&mut tasks, &PRESENT_READERS);
    let mut slowest = Duration::ZERO;
    for _ in 0..cycles {
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..300))).await;
        server.kill().await;
        let start = Instant::now();
        server = Running::configured(dir.path(), ROOMY).await;
        slowest = slowest.max(start.elapsed());
        *load.address.lock().unwrap() = server.address;
    }
    load.stop.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let total = load.settle().await;
    println!("{cycles} cycles, {total} accepted messages, 0 lost; slowest restart {slowest:?}");
    assert!(total as u32 > cycles, "the test must have sent something");
    server.stop().await;
}
