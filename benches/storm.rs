//! Sends while many come back at once. `cargo bench --bench storm`
//!
//! 100 devices with 1,000 messages waiting each reconnect together and receive everything, while one sender, whom they have nothing
//! to do with, sends one durable message after another to a user of its own. Printed are the latencies of its sends before and
//! during the storm, the time until everything is received, and the highest memory of the server. Ends with an error where the p99
//! during the storm is 50 ms or more, the memory beyond the default `storage.memory_budget` and 64 KiB for each connection, or a
//! device did not get its messages in order.

#![allow(clippy::missing_docs_in_private_items)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qy_lty::load::http::Http;
use qy_lty::load::population::Recipient;
use qy_lty::load::ws::Socket;
use qy_lty::load::{LoadError, OwnServer, OwnServerOptions, Target};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

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

/// Fills the mailboxes of the devices.
async fn fill(server: &OwnServer, devices: &[Recipient]) -> Outcome<()> {
    let (paths, begin, mut tasks) =
        (devices.iter().map(|device| device.path.clone()).collect::<Arc<[String]>>(), Instant::now(), JoinSet::new());
    for filler in 0..FILLERS {
        let (mut http, paths) = (Http::new(server.target(), server.admin()), paths.clone());
        tasks.spawn(async move {
            let body = json!({"message": "x".repeat(150)});
            for turn in (filler..DEVICES * WAITING).step_by(FILLERS) {
                http.call("POST", &paths[turn % DEVICES], &body).await?;
            }
            Ok::<_, LoadError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("{} messages queued in {:.1?}", DEVICES * WAITING, begin.elapsed());
    Ok(())
}

/// One durable message after another to user `to`, until it is stopped; their latencies.
struct Sender {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Outcome<Vec<Duration>>>,
}

impl Sender {
    fn start(server: &OwnServer, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut http, path, stopped) = (Http::new(server.target(), server.admin()), path.to_owned(), stop.clone());
        let send = async move {
            let mut taken = Vec::new();
            let body = json!({"message": "x".repeat(150)});
            while !stopped.load(Ordering::Acquire) {
                let begin = Instant::now();
                http.call("POST", &path, &body).await?;
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
async fn receive(target: Target, token: String) -> Outcome<()> {
    let mut client = Socket::connect(&target, &token, "").await?;
    let (mut last, mut count) = (0, 0);
    while count < WAITING {
        let Some(id) = serde_json::from_slice::<Value>(client.next().await?).ok().and_then(|event| event["id"].as_u64()) else {
            continue;
        };
        if id <= last {
            return Err(format!("{id} after {last}").into());
        }
        (last, count) = (id, count + 1);
    }
    client.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let server = OwnServer::start(OwnServerOptions::new(env!("CARGO_BIN_EXE_qy-lty"), DEVICES + 1)).await?;
    let outcome = measure(&server).await;
    server.stop().await;
    outcome
}

async fn measure(server: &OwnServer) -> Outcome<()> {
    let mut population = server.population().await?;
    let unrelated = population.recipients(DEVICES + 1).await?.remove(DEVICES).path;
    let devices: Vec<Recipient> = population.homes(DEVICES).await?.into_iter().flat_map(|home| home.devices).collect();
    fill(server, &devices).await?;

    let quiet = Sender::start(server, &unrelated);
    tokio::time::sleep(QUIET_SPAN).await;
    print("quiet", quiet.end()?)?;

    let (sender, begin, mut tasks) = (Sender::start(server, &unrelated), Instant::now(), JoinSet::new());
    for device in devices {
        tasks.spawn(receive(server.target().clone(), device.token));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = begin.elapsed();
    let p99 = print("during the storm", sender.end()?)?;
    println!("{DEVICES} devices received {WAITING} each in {took:.1?}");
    let memory = server.process()?.highest_memory().ok_or("no memory figure")?;
    println!("{} MiB of memory at most", memory >> 20);
    if memory > MEMORY_BOUND {
        return Err(format!("the bound on memory is {} MiB", MEMORY_BOUND >> 20).into());
    }
    if p99 >= P99_BOUND {
        return Err(format!("the p99 of an unrelated send is {p99:.1?}, the bound {P99_BOUND:?}").into());
    }
    Ok(())
}
