//! The cost of a durable send. `cargo bench --bench publish`
//!
//! Prints the yardstick (one thread that inserts, flushes and syncs in a loop, on the same disk), and then the server's rate
//! and latency with 1, 16, 64 and 256 HTTP publishers, each waiting for the answer before the next send. Beside each stand two bare
//! loops that write the same messages in the same batches, those that the server's commits had on average: one as the server does,
//! several messages in a value, and one as version 0.1 did, a record and an index entry for each. The server's rate is also limited
//! by HTTP, whose cost on two cores is several times that of either loop. Other numbers of publishers are given as arguments:
//! `cargo bench --bench publish -- 8`.

#![allow(clippy::missing_docs_in_private_items)]

use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PASSWORD: &str = "publish-password";
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

/// A keep-alive connection.
struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    async fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    async fn post(&mut self, path: &str, token: &str, body: &str) -> Outcome<(u16, String)> {
        self.request("POST", path, token, body).await
    }

    async fn request(&mut self, method: &str, path: &str, token: &str, body: &str) -> Outcome<(u16, String)> {
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Token {token}\r\n") };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("closed".into());
            }
            let text = std::str::from_utf8(&self.buffer)?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).ok_or("no length")?;
            if body.len() >= length.parse()? {
                return Ok((head[9..12].parse()?, body.to_owned()));
            }
        }
    }

    async fn json(&mut self, path: &str, token: &str, body: &Value) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.post(path, token, &body.to_string()).await?.1)?)
    }
}

async fn start(dir: &Path) -> Outcome<(Child, String)> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = format!(
        "[server]\nlisten = \"{address}\"\ndata_dir = \"{}\"\n[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nlogins_per_minute = 0\ntrusted_requests_per_minute = 0\nconnections_per_address = 0\n",
        dir.join("data").display()
    );
    std::fs::write(dir.join("c.toml"), config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.arg("serve").arg("--config").arg(dir.join("c.toml")).env("QY_LTY_ADMIN_PASSWORD", PASSWORD).env("RUST_LOG", "warn");
    let child = command.stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    while TcpStream::connect(&address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((child, address))
}

/// Returns the commits of the server so far, and the sends in them.
async fn commits(http: &mut Http, token: &str) -> Outcome<(f64, f64)> {
    let page = http.request("GET", "/metrics", token, "").await?.1;
    let number = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).ok_or("no such metric");
    Ok((number("qy_lty_commit_batch_size_count ")?, number("qy_lty_commit_batch_size_sum ")?))
}

async fn publishers(address: &str, token: &str, users: &[u64], count: usize) -> Outcome<Vec<Duration>> {
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (address, token, users) = (address.to_owned(), token.to_owned(), users.to_vec());
        tasks.spawn(async move {
            let (mut http, mut taken, start) = (Http::open(&address).await?, Vec::new(), Instant::now());
            let body = json!({"message": "x".repeat(100)}).to_string();
            for turn in n.. {
                let begin = Instant::now();
                let (status, answer) =
                    http.post(&format!("/api/messages/user/{}", users[turn % users.len()]), &token, &body).await?;
                if status != 200 {
                    return Err(answer.into());
                }
                taken.push(begin.elapsed());
                if start.elapsed() > SPAN {
                    break;
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(taken)
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
    let dir = tempfile::tempdir()?;
    yardstick(dir.path())?;
    let (_server, address) = start(dir.path()).await?;
    let mut http = Http::open(&address).await?;
    let login = http.json("/api/auth/login", "", &json!({"username": "admin", "password": PASSWORD})).await?;
    let token = login["token"].as_str().ok_or("no token")?.to_owned();
    let mut users = Vec::new();
    for n in 0..USERS {
        let user = json!({"username": format!("user{n}"), "password": PASSWORD});
        users.push(http.json("/api/users", &token, &user).await?["data"]["id"].as_u64().ok_or("no id")?);
    }
    let mut single = None;
    let mut counts: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 16, 64, 256];
    }
    for count in counts {
        let (begin, before) = (Instant::now(), commits(&mut http, &token).await?);
        let taken = publishers(&address, &token, &users, count).await?;
        let rate = print(&format!("{count} publishers over HTTP"), taken, begin.elapsed());
        let base = *single.get_or_insert(rate);
        println!("{:<28} {:>9.1} times one publisher", "", rate / base);
        let after = commits(&mut http, &token).await?;
        let batch = ((after.1 - before.1) / (after.0 - before.0)).round().max(1.0) as usize;
        let yardsticks: [(_, Write); 2] = [("values", write_values), ("records", write_records)];
        for (what, write) in yardsticks {
            let bare = bare_batches(what, batch, write)?;
            println!("{:<28} {:>8.0} % of that", "", 100.0 * rate / bare);
        }
    }
    Ok(())
}
