//! A power cut, as far as it can be simulated: the server keeps its data on a loop-mounted ext4 image; at a random moment it is
//! stopped (SIGSTOP), the image is copied as the "disk" holds it then, without what only the page cache of that file system
//! has, and the copy is mounted and served. Every accepted message and broadcast must be there, for each of three readers a user, one
//! of which is absent all the while.
//!
//! Needs root and a kernel that mounts; else it says that it was skipped. 10 trials;
//! `QY_LTY_POWER_TRIALS=50 cargo test --release --test it delivery::power_cut -- --nocapture` for more.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::disk::Disk;
use crate::support::load::{Load, PRESENT_READERS, THREE_READERS};
use crate::support::program::Running;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;

/// Starts a server whose data is on a disk, without the limits that a test from one address runs into.
async fn serve(dir: &Path, disk: &Disk) -> Running {
    let data = disk.path.join("data");
    let limits =
        "[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\nrequests_per_minute = 0";
    Running::configured(dir, &format!("data_dir = \"{}\"\n{limits}", data.display())).await
}

/// Runs one trial and returns the number of accepted messages that were compared.
async fn trial(n: u32) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::ext4(dir.path(), 128)?;
    let server = serve(dir.path(), &disk).await;
    let load = Load::with_readers(server.address, 3, &THREE_READERS).await;
    let mut tasks = JoinSet::new();
    if n % 3 == 2 {
        // Idle between sends: nothing else flushes what the last one wrote.
        for to in 0..3 {
            load.send(to, if to == 1 { 150_000 } else { 20 }).await.unwrap();
            load.broadcast(20).await.unwrap();
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..300))).await;
        }
    } else {
        load.publish(&mut tasks, 8, 20, 20);
        if n % 3 == 1 {
            load.come_and_go(&mut tasks, &PRESENT_READERS);
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..1500))).await;
    }
    server.signal("STOP");
    // Responses from before the stop may still be on their way to the records.
    tokio::time::sleep(Duration::from_millis(100)).await;
    load.stop.store(true, Ordering::Release);
    let copy = disk.copy(dir.path());
    server.kill().await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    drop(disk);
    let again = serve(dir.path(), &copy).await;
    *load.address.lock().unwrap() = again.address;
    let total = load.settle().await;
    again.stop().await;
    Some(total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_messages_survive_power_cut() {
    let trials: u32 = std::env::var("QY_LTY_POWER_TRIALS").map_or(10, |n| n.parse().unwrap());
    let mut totals = stream::iter((0..trials).map(trial)).buffer_unordered(2); // a trial mostly waits
    let mut total = 0;
    while let Some(messages) = totals.next().await {
        let Some(messages) = messages else { return }; // no disk can be mounted here
        total += messages;
    }
    println!("{trials} power cuts, {total} accepted messages, 0 lost, every store opened");
    assert!(total as u32 > trials);
}
