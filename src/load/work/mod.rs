//! The workloads.

mod echo;
mod fan_out;
mod idle;
mod mixed;
mod offline;
mod push;
mod storm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;

pub use fan_out::publish_to;
pub use push::{Delivery, push};

use super::ledger::{Inbox, Sent, judge};
use super::population::{Population, Recipient};
use super::process::{Process, connection_room, disk_bytes};
use super::receivers::{Refusals, Shared};
use super::report::Outcome;
use super::{LoadError, Result, Target};

/// A workload, or several with the same connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Connections that do nothing.
    Idle,
    /// Requests and replies on one connection, one and 16 open.
    Echo,
    /// Live messages to everybody.
    FanOut,
    /// Live messages to single recipients.
    PushLive,
    /// Queued messages to single recipients.
    PushQueued,
    /// Messages for absent recipients, who then come.
    Offline,
    /// Connections that all end and come back.
    Storm,
    /// Homes with devices and a program each.
    Mixed,
}

impl Workload {
    /// All, in the order in which they run.
    pub const ALL: [Self; 8] =
        [Self::Idle, Self::Echo, Self::FanOut, Self::PushLive, Self::PushQueued, Self::Offline, Self::Storm, Self::Mixed];

    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Echo => "echo",
            Self::FanOut => "fan-out",
            Self::PushLive => "push-live",
            Self::PushQueued => "push-queued",
            Self::Offline => "offline",
            Self::Storm => "storm",
            Self::Mixed => "mixed",
        }
    }

    /// Returns the one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }
}

/// The sizes of the load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizes {
    /// How long each measurement lasts, in seconds.
    pub seconds: f64,
    /// Connections of `idle`.
    pub connections: usize,
    /// Recipients of `fan-out` and of pushes, and connections of `storm`.
    pub recipients: usize,
    /// Connections of `echo`.
    pub echo: usize,
    /// Connections that push.
    pub senders: usize,
    /// Pushes a second, where they have a rate.
    pub rate: f64,
    /// Broadcasts a second, where they have a rate.
    pub fan_out_rate: f64,
    /// Messages of `offline`.
    pub waiting: usize,
    /// Devices of `mixed`.
    pub devices: usize,
    /// Messages and requests of `mixed` a second.
    pub mixed_rate: f64,
    /// The text of a message, in bytes.
    pub size: usize,
}

impl Sizes {
    /// Those of a whole run.
    pub fn full() -> Self {
        Self {
            seconds: 5.0,
            connections: 10_000,
            recipients: 1000,
            echo: 100,
            senders: 32,
            rate: 1000.0,
            fan_out_rate: 30.0,
            waiting: 100_000,
            devices: 1000,
            mixed_rate: 500.0,
            size: 128,
        }
    }

    /// Those of a run of about 20 seconds.
    pub fn quick() -> Self {
        Self { seconds: 1.2, connections: 2000, waiting: 20_000, ..Self::full() }
    }

    /// Reduces the connections to what this machine has files and ports for; returns a line that says so.
    pub fn fit(&mut self) -> Option<String> {
        let room = connection_room().saturating_sub(2 * self.senders);
        let most = self.connections.max(self.recipients).max(self.devices * 2).max(self.echo);
        if most <= room {
            return None;
        }
        for size in [&mut self.connections, &mut self.recipients, &mut self.echo] {
            *size = (*size).min(room);
        }
        self.devices = self.devices.min(room / 2);
        Some(format!("this process may have {room} connections open at once, not {most}: sizes are reduced; see ulimit -n"))
    }
}

/// Shows how far a load has come.
pub trait Progress: Send + Sync {
    /// Workload `name` is done to `share`, from 0 to 1.
    fn show(&self, name: &str, share: f64);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn show(&self, _: &str, _: f64) {}
}

/// What workloads work with.
pub struct Bench<'a> {
    /// The accounts, and the server.
    pub population: &'a mut Population,
    /// The server's process, where it is one of this machine.
    pub process: Option<Process>,
    /// Its data directory, where it can be read.
    pub data: Option<PathBuf>,
    /// The sizes.
    pub sizes: Sizes,
    /// Who is shown how far it has come.
    pub progress: Arc<dyn Progress>,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("population", &self.population).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Bench<'_> {
    /// Runs a workload; one can have several outcomes.
    ///
    /// # Errors
    /// A server that can't be reached, or fails.
    pub fn run(&mut self, workload: Workload) -> BoxFuture<'_, Result<Vec<Outcome>>> {
        Box::pin(async move {
            self.progress.show(workload.name(), 0.0);
            match workload {
                Workload::Idle => Ok(vec![self.idle(self.sizes.connections).await?]),
                Workload::Echo => Ok(vec![self.echo(1).await?, self.echo(16).await?]),
                Workload::FanOut => Ok(vec![self.fan_out(None).await?, self.fan_out(Some(self.sizes.fan_out_rate)).await?]),
                Workload::PushLive => self.pushes(Delivery::Live).await,
                Workload::PushQueued => self.pushes(Delivery::Queued).await,
                Workload::Offline => self.offline().await,
                Workload::Storm => Ok(vec![self.storm().await?]),
                Workload::Mixed => Ok(vec![self.mixed().await?]),
            }
        })
    }

    fn pushes(&mut self, delivery: Delivery) -> BoxFuture<'_, Result<Vec<Outcome>>> {
        Box::pin(async move {
            let recipients = self.recipients(self.sizes.recipients).await?;
            let most = push(self, delivery, None, &recipients).await?;
            Ok(vec![most, push(self, delivery, Some(self.sizes.rate), &recipients).await?])
        })
    }

    fn target(&self) -> Target {
        self.population.target().clone()
    }

    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.sizes.seconds)
    }

    fn recipients(&mut self, count: usize) -> BoxFuture<'_, Result<Vec<Recipient>>> {
        Box::pin(async move { self.population.recipients(count).await })
    }

    fn store_bytes(&self) -> Option<u64> {
        self.data.as_ref().map(|data| disk_bytes(&data.join("store")))
    }
}

/// Processor time over a while.
#[derive(Debug)]
struct Meter {
    process: Option<Process>,
    server: Option<f64>,
    load: Option<f64>,
    begin: Instant,
}

impl Meter {
    fn start(process: Option<Process>) -> Self {
        let (server, load) = (process.and_then(Process::cpu_seconds), Process::own().cpu_seconds());
        Self { process, server, load, begin: Instant::now() }
    }

    /// Fills in time, rate, and what `messages` have cost.
    fn fill(&self, outcome: &mut Outcome, messages: u64) {
        outcome.seconds = self.begin.elapsed().as_secs_f64();
        outcome.messages = messages;
        outcome.rate = messages as f64 / outcome.seconds;
        let million = |seconds: f64| if messages == 0 { None } else { Some(seconds * 1e6 / messages as f64) };
        let since = |process: Process, before: Option<f64>| Some(process.cpu_seconds()? - before?);
        outcome.cpu_seconds_per_million = self.process.and_then(|process| since(process, self.server)).and_then(million);
        outcome.load_cpu_seconds_per_million = since(Process::own(), self.load).and_then(million);
        outcome.memory_bytes = self.process.and_then(Process::memory);
    }
}

/// Begins an outcome.
fn outcome(name: &str, parameters: &[(&str, f64)]) -> Outcome {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<BTreeMap<_, _>>();
    Outcome { name: name.to_owned(), parameters, ..Outcome::default() }
}

/// Adds what was received, and how connections ended, to an outcome.
fn conclude(outcome: &mut Outcome, shared: &Shared, sent: &[Sent], inboxes: &[Inbox]) {
    outcome.verdict = judge(sent, inboxes);
    outcome.latency_us = shared.latencies.percentiles();
    let mut ended = shared.ended.lock();
    for (setting, count) in std::mem::take(&mut ended.0) {
        *outcome.refused.entry(setting).or_default() += count;
    }
    outcome.note = outcome.note.take().or_else(|| ended.1.take().map(|why| format!("a connection ended: {why}")));
}

/// Adds counts of refusals.
fn merge(into: &mut Refusals, from: Refusals) {
    for (setting, count) in from {
        *into.entry(setting).or_default() += count;
    }
}

/// Tasks whose results are wanted. The runtime sees one type of task, whatever they are: it makes several kilobytes of code for each.
struct Tasks<T> {
    running: JoinSet<()>,
    done: Arc<Mutex<Done<T>>>,
}

/// What has come of tasks.
struct Done<T> {
    results: Vec<T>,
    failure: Option<LoadError>,
}

impl<T: Send + 'static> Tasks<T> {
    fn new() -> Self {
        Self { running: JoinSet::new(), done: Arc::new(Mutex::new(Done { results: Vec::new(), failure: None })) }
    }

    fn spawn(&mut self, task: BoxFuture<'static, Result<T>>) {
        let done = self.done.clone();
        spawn(
            &mut self.running,
            Box::pin(async move {
                let result = task.await;
                let mut done = done.lock();
                match result {
                    Ok(result) => done.results.push(result),
                    Err(error) => done.failure = done.failure.take().or(Some(error)),
                }
            }),
        );
    }

    /// Waits for all, or the first failure; shows meanwhile how far the time has come.
    async fn join(mut self, progress: &Arc<dyn Progress>, name: &str, span: Duration) -> Result<Vec<T>> {
        let done = self.done.clone();
        wait(&mut self.running, &move || done.lock().failure.is_some(), &**progress, name, span).await?;
        let mut done = self.done.lock();
        match done.failure.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut done.results)),
        }
    }
}

fn spawn(tasks: &mut JoinSet<()>, task: BoxFuture<'static, ()>) {
    tasks.spawn(task);
}

/// Waits for all tasks, or for a failure.
fn wait<'a>(
    tasks: &'a mut JoinSet<()>,
    failed: &'a (dyn Fn() -> bool + Send + Sync),
    progress: &'a dyn Progress,
    name: &'a str,
    span: Duration,
) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let begin = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while !failed() {
            tokio::select! {
                done = tasks.join_next() => match done {
                    Some(done) => done.map_err(|error| LoadError::Other(error.to_string()))?,
                    None => break,
                },
                _ = ticks.tick() => progress.show(name, (begin.elapsed().as_secs_f64() / span.as_secs_f64().max(0.001)).min(1.0)),
            }
        }
        Ok(())
    })
}
