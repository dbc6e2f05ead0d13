//! Sends while many come back at once. `cargo bench --bench storm`
//!
//! 100 devices with 1,000 messages waiting each reconnect together and receive everything, while one sender, whom they have nothing
//! to do with, sends one durable message after another to a user of its own. Printed are the latencies of its sends before and
//! during the storm, the time until everything is received, and the highest memory of the server. Ends with an error where the p99
//! during the storm is 50 ms or more, the memory beyond the default `storage.memory_budget` and 64 KiB for each connection, or a
//! device did not get its messages in order.

#![allow(clippy::missing_docs_in_private_items)]

use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PASSWORD: &str = "storm-password";
const DEVICES: usize = 100;
const WAITING: usize = 1000;
/// Connections that fill the mailboxes.
const FILLERS: usize = 32;
/// The time for which the sender sends undisturbed, before the storm.
const QUIET_SPAN: Duration = Duration::from_secs(4);
/// The longest p99 of the sends during the storm that is good enough.
const P99_BOUND: Duration = Duration::from_millis(50);

/// The default `storage.memory_budget` and what the connections may take beside it.
const MEMORY_BOUND: u64 = (128 << 20) + (64 << 10) * DEVICES as u64;

/// The highest resident memory of a process so far, in bytes, from /proc.
fn highest_memory(server: &Child) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id().ok_or("no server")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
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

    /// Sends a request and returns its answer, which must be a success.
    async fn post(&mut self, path: &str, token: &str, body: &Value) -> Outcome<Value> {
        let body = body.to_string();
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Token {token}\r\n") };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("closed".into());
            }
            // Every answer is one JSON object, and the last thing on the line.
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")
                && let Ok(value) = serde_json::from_slice::<Value>(&self.buffer[at + 4..])
            {
                return if value["status"] == "success" { Ok(value) } else { Err(value.to_string().into()) };
            }
        }
    }
}

/// A device and the token of its own.
struct Device {
    id: u64,
    token: String,
}

async fn start(dir: &Path) -> Outcome<(Child, String)> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = format!(
        "[server]\nlisten = \"{address}\"\ndata_dir = \"{}\"\n[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nlogins_per_minute = 0\nconnects_per_minute = 0\n\
         requests_per_minute = 0\ntrusted_requests_per_minute = 0\ntokens_per_user = 1000\nconnections_per_user = 0\nconnections_per_address = 0\n",
        dir.join("data").display()
    );
    std::fs::write(dir.join("c.toml"), config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    command.arg("serve").arg("--config").arg(dir.join("c.toml")).env("QY_LTY_ADMIN_PASSWORD", PASSWORD).env("RUST_LOG", "warn");
    let mut child = command.stdout(Stdio::null()).kill_on_drop(true).spawn()?;
    while TcpStream::connect(&address).await.is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("the server has ended: {status}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((child, address))
}

/// Creates the devices and fills their mailboxes.
async fn prepare(http: &mut Http, address: &str, admin: &str) -> Outcome<Vec<Device>> {
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let made = http.post("/api/devices", admin, &json!({"name": format!("device{n}")})).await?;
        let id = made["data"]["id"].as_u64().ok_or("no id")?;
        let made = http.post(&format!("/api/devices/{id}/token"), admin, &json!({})).await?;
        devices.push(Device { id, token: made["data"]["token"].as_str().ok_or("no token")?.to_owned() });
    }
    let (ids, begin, mut tasks) =
        (devices.iter().map(|device| device.id).collect::<Arc<[u64]>>(), Instant::now(), JoinSet::new());
    for filler in 0..FILLERS {
        let (address, admin, ids) = (address.to_owned(), admin.to_owned(), ids.clone());
        tasks.spawn(async move {
            let mut http = Http::open(&address).await?;
            let body = json!({"message": "x".repeat(150)});
            for turn in (filler..DEVICES * WAITING).step_by(FILLERS) {
                http.post(&format!("/api/messages/device/{}", ids[turn % DEVICES]), &admin, &body).await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("{} messages queued in {:.1?}", DEVICES * WAITING, begin.elapsed());
    Ok(devices)
}

/// One durable message after another to user `to`, until it is stopped; their latencies.
struct Sender {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Outcome<Vec<Duration>>>,
}

impl Sender {
    fn start(address: &str, token: &str, to: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, token, stopped) = (address.to_owned(), token.to_owned(), stop.clone());
        let send = async move {
            let (mut http, mut taken) = (Http::open(&address).await?, Vec::new());
            let body = json!({"message": "x".repeat(150)});
            while !stopped.load(Ordering::Acquire) {
                let begin = Instant::now();
                http.post(&format!("/api/messages/user/{to}"), &token, &body).await?;
                taken.push(begin.elapsed());
            }
            Ok(taken)
        };
        // A runtime of its own: the receivers of this process must not hold it up.
        let sending = std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send));
        Self { stop, sending }
    }

    fn end(self) -> Outcome<Vec<Duration>> {
        self.stop.store(true, Ordering::Release);
        self.sending.join().map_err(|_| "the sender panicked")?
    }
}

/// Prints the latencies and returns their p99.
fn print(what: &str, mut taken: Vec<Duration>) -> Outcome<Duration> {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    let most = taken.last().ok_or("nothing was sent")?;
    println!("{what:<28} {:>7} sends   p50 {:>9.3?}   p99 {:>9.3?}   max {most:>9.3?}", taken.len(), at(0.5), at(0.99));
    Ok(at(0.99))
}

/// Connects as a device and receives all that waits, in order.
async fn receive(address: String, token: String) -> Outcome<()> {
    let (mut client, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws/device/?token={token}")).await?;
    let (mut last, mut count) = (0, 0);
    while count < WAITING {
        let Ok(text) = client.next().await.ok_or("closed")??.into_text() else { continue };
        let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
        let Some(id) = event["id"].as_u64() else { continue };
        if id <= last {
            return Err(format!("{id} after {last}").into());
        }
        (last, count) = (id, count + 1);
    }
    client.close(None).await?;
    while client.next().await.is_some_and(|message| message.is_ok()) {}
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let (server, address) = start(dir.path()).await?;
    let mut http = Http::open(&address).await?;
    let login = http.post("/api/auth/login", "", &json!({"username": "admin", "password": PASSWORD})).await?;
    let admin = login["token"].as_str().ok_or("no token")?.to_owned();
    let unrelated = http.post("/api/users", &admin, &json!({"username": "unrelated", "password": PASSWORD})).await?;
    let unrelated = unrelated["data"]["id"].as_u64().ok_or("no id")?;
    let devices = prepare(&mut http, &address, &admin).await?;

    let quiet = Sender::start(&address, &admin, unrelated);
    tokio::time::sleep(QUIET_SPAN).await;
    print("quiet", quiet.end()?)?;

    let (sender, begin, mut tasks) = (Sender::start(&address, &admin, unrelated), Instant::now(), JoinSet::new());
    for device in devices {
        tasks.spawn(receive(address.clone(), device.token));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = begin.elapsed();
    let p99 = print("during the storm", sender.end()?)?;
    println!("{DEVICES} devices received {WAITING} each in {took:.1?}");
    let memory = highest_memory(&server)?;
    println!("{} MiB of memory at most", memory >> 20);
    if memory > MEMORY_BOUND {
        return Err(format!("the bound on memory is {} MiB", MEMORY_BOUND >> 20).into());
    }
    if p99 >= P99_BOUND {
        return Err(format!("the p99 of an unrelated send is {p99:.1?}, the bound {P99_BOUND:?}").into());
    }
    Ok(())
}
