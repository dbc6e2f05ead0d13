//! The cost of a durable send. `cargo bench --bench publish`
//!
//! Prints the yardstick (one thread that inserts, flushes and syncs in a loop, on the same disk), and then the server's rate
//! and latency with 1, 16, 64 and 256 HTTP publishers, each waiting for the answer before the next send. Beside each stand two bare
//! loops that write the same messages in the same batches, those that the server's commits had on average: one as the server does,
//! several messages in a value, and one as version 0.1 did, a record and an index entry for each. The server's rate is also limited
//! by HTTP, whose cost on two cores is several times that of either loop. Other numbers of publishers are given as arguments:
//! `cargo bench --bench publish -- 8`.

#![allow(clippy::missing_docs_in_private_items)]

use std::path::Path;
use std::time::{Duration, Instant};

use qy_lty::load::http::Http;
use qy_lty::load::population::Recipient;
use qy_lty::load::{LoadError, OwnServer, OwnServerOptions};
use serde_json::json;
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The time for which each number of publishers publishes.
const SPAN: Duration = Duration::from_secs(4);
/// Mailboxes that are sent to.
const USERS: usize = 64;

/// Rate and latencies.
fn print(what: &str, mut taken: Vec<Duration>, span: Duration) -> f64 {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    let rate = taken.len() as f64 / span.as_secs_f64();
    println!("{what:<28} {rate:>9.0} /s   p50 {:>9.3?}   p99 {:>9.3?}", at(0.5), at(0.99));
    rate
}

/// One thread, one record at a time, flushed and synced.
fn yardstick(dir: &Path) -> Outcome<()> {
    let db = sled::Config::new().path(dir.join("bare")).segment_size(1 << 20).flush_every_ms(None).open()?;
    let file = std::fs::File::open(dir.join("bare/db"))?;
    let (start, mut taken) = (Instant::now(), Vec::new());
    for n in 0u64.. {
        let begin = Instant::now();
        db.insert(n.to_be_bytes(), vec![b'x'; 200])?;
        db.flush()?;
        file.sync_data()?;
        taken.push(begin.elapsed());
        if start.elapsed() > SPAN {
            break;
        }
    }
    print("bare flush + sync_data", taken, start.elapsed());
    Ok(())
}

/// The bytes of a message in the store: its head, and the object with the text that is sent.
const STORED_BYTES: usize = 49 + 235;
/// The longest value that the server writes.
const VALUE_BYTES: usize = 11 * 1024;

/// Writes so many messages from an id on.
type Write = fn(&sled::Db, u64, usize) -> sled::Result<()>;

/// One thread that writes batches of `batch` messages with `write`, flushed and synced. Returns the rate of messages.
fn bare_batches(what: &str, batch: usize, write: Write) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let db = sled::Config::new().path(dir.path()).segment_size(1 << 20).flush_every_ms(None).open()?;
    let file = std::fs::File::open(dir.path().join("db"))?;
    let (start, mut taken, mut first) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < SPAN {
        let begin = Instant::now();
        write(&db, first, batch)?;
        db.flush()?;
        file.sync_data()?;
        first += batch as u64;
        taken.extend(std::iter::repeat_n(begin.elapsed(), batch));
    }
    Ok(print(&format!("{what}, {batch} in a batch"), taken, start.elapsed()))
}

/// Writes messages as the server does: several in a value.
fn write_values(db: &sled::Db, first: u64, batch: usize) -> sled::Result<()> {
    let mut left = batch * STORED_BYTES;
    for key in first.. {
        let bytes = left.min(VALUE_BYTES);
        db.insert(key.to_be_bytes(), vec![b'x'; bytes])?;
        left -= bytes;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Writes messages as version 0.1 did: a record under mailbox and id, and the mailbox under the id.
fn write_records(db: &sled::Db, first: u64, batch: usize) -> sled::Result<()> {
    let (records, mailboxes) = (db.open_tree("records")?, db.open_tree("mailboxes")?);
    for id in first..first + batch as u64 {
        let mailbox = [&[1], (id % USERS as u64).to_be_bytes().as_slice()].concat();
        mailboxes.insert(id.to_be_bytes(), mailbox.as_slice())?;
        records.insert([mailbox, id.to_be_bytes().to_vec()].concat(), vec![b'x'; STORED_BYTES - 17])?;
    }
    Ok(())
}

/// Returns the commits of the server so far, and the sends in them.
async fn commits(http: &mut Http) -> Outcome<(f64, f64)> {
    let page = String::from_utf8_lossy(http.send("GET", "/metrics", b"").await?.1).into_owned();
    let number = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).ok_or("no such metric");
    Ok((number("qy_lty_commit_batch_size_count ")?, number("qy_lty_commit_batch_size_sum ")?))
}

async fn publishers(server: &OwnServer, users: &[Recipient], count: usize) -> Outcome<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (mut http, users) = (Http::new(server.target(), server.admin()), users.to_vec());
        tasks.spawn(async move {
            let (mut taken, start) = (Vec::new(), Instant::now());
            let body = json!({"message": "x".repeat(100)});
            for turn in n.. {
                let begin = Instant::now();
                http.call("POST", &users[turn % users.len()].path, &body).await?;
                taken.push(begin.elapsed());
                if start.elapsed() > SPAN {
                    break;
                }
            }
            Ok::<_, LoadError>(taken)
        });
    }
    let mut all = Vec::new();
    while let Some(taken) = tasks.join_next().await {
        all.extend(taken??);
    }
    Ok(all)
}

// One thread: the machine is the server's.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    yardstick(tempfile::tempdir()?.path())?;
    let server = OwnServer::start(OwnServerOptions::new(env!("CARGO_BIN_EXE_qy-lty"), USERS)).await?;
    let mut http = Http::new(server.target(), server.admin());
    let users = server.population().await?.recipients(USERS).await?;
    let mut single = None;
    let mut counts: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 16, 64, 256];
    }
    for count in counts {
        let (begin, before) = (Instant::now(), commits(&mut http).await?);
        let taken = publishers(&server, &users, count).await?;
        let rate = print(&format!("{count} publishers over HTTP"), taken, begin.elapsed());
        let base = *single.get_or_insert(rate);
        println!("{:<28} {:>9.1} times one publisher", "", rate / base);
        let after = commits(&mut http).await?;
        let batch = ((after.1 - before.1) / (after.0 - before.0)).round().max(1.0) as usize;
        let yardsticks: [(_, Write); 2] = [("values", write_values), ("records", write_records)];
        for (what, write) in yardsticks {
            let bare = bare_batches(what, batch, write)?;
            println!("{:<28} {:>8.0} % of that", "", 100.0 * rate / bare);
        }
    }
    server.stop().await;
    Ok(())
}
