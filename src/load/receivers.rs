//! Connections that receive, and what they count.

use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::latency::Latencies;
use super::ledger::{Inbox, Received};
use super::mark::{Mark, Marks};
use super::ws::Socket;
use super::{LoadError, Result, Target};

/// Refusals by limits: how many, by the setting to change.
pub type Refusals = BTreeMap<String, u64>;

/// Refusals after which no further connection is tried.
const ENOUGH_REFUSALS: u64 = 20;
/// The interval at which the count is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The time without any message after which no more is waited for.
const SILENCE: Duration = Duration::from_secs(10);
/// The time for answers to the last pings, with which messages are acknowledged.
const ACKNOWLEDGEMENT_TIME: Duration = Duration::from_millis(200);

/// Counts a refusal.
///
/// # Errors
/// An error that is none.
pub fn refused(refusals: &mut Refusals, error: LoadError) -> Result<()> {
    match error.refusal() {
        Some(refusal) => {
            *refusals.entry(refusal.setting.to_owned()).or_default() += 1;
            Ok(())
        }
        None => Err(error),
    }
}

/// Opens connections, at most `at_once` at the same time; each comes back with its place in `tokens`. Refused ones are counted; after
/// some of them the others are not tried.
///
/// # Errors
/// A connection that failed for another reason.
pub fn connect<'a>(
    target: &'a Target,
    tokens: Vec<String>,
    at_once: usize,
    refusals: &'a mut Refusals,
) -> BoxFuture<'a, Result<Vec<(usize, Socket)>>> {
    Box::pin(async move {
        let (mut sockets, mut tasks) = (Vec::new(), JoinSet::new());
        let mut tokens = tokens.into_iter().enumerate();
        let mut refused_here = 0;
        loop {
            while tasks.len() < at_once
                && refused_here < ENOUGH_REFUSALS
                && let Some((at, token)) = tokens.next()
            {
                let target = target.clone();
                tasks.spawn(async move { (at, Socket::connect(&target, &token, "").await) });
            }
            let Some(done) = tasks.join_next().await else { break };
            match done.map_err(|error| LoadError::Other(error.to_string()))? {
                (at, Ok(socket)) => sockets.push((at, socket)),
                (_, Err(error)) => {
                    refused(refusals, error)?;
                    refused_here += 1;
                }
            }
        }
        sockets.sort_by_key(|(at, _)| *at);
        Ok(sockets)
    })
}

/// The messages that may be open, sent and not received.
#[derive(Debug)]
pub enum Flow {
    /// Any number.
    Free,
    /// A delivery is open until its recipient has it: those that may be begun still.
    Window(Semaphore),
}

/// What the connections of one workload share.
#[derive(Debug)]
pub struct Shared {
    /// The marks of the run.
    pub marks: Marks,
    /// The beginning of the run.
    pub epoch: Instant,
    /// From sending, or being due, to receiving.
    pub latencies: Latencies,
    /// The messages received, each once.
    pub received: AtomicU64,
    /// The messages that may be open.
    pub flow: Flow,
    /// Connections that ended before their time: refusals, and the first other reason.
    pub ended: Mutex<(Refusals, Option<String>)>,
}

impl Shared {
    /// For a new run.
    pub fn new(flow: Flow) -> Arc<Self> {
        Arc::new(Self {
            marks: Marks::new(),
            epoch: Instant::now(),
            latencies: Latencies::new(),
            received: AtomicU64::new(0),
            flow,
            ended: Mutex::default(),
        })
    }

    /// Returns the time since the beginning, in nanoseconds.
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts a message that connection `at` has received; returns its mark where it is new.
    pub fn record(&self, at: usize, text: &[u8], inbox: &mut Inbox) -> Option<Mark> {
        // An error has the `ref` of its request, and is no reply.
        let mark = self.marks.find(text).filter(|_| !text.starts_with(br#"{"type":"error""#))?;
        if inbox.record(mark) != Received::New {
            return None;
        }
        self.latencies.record(at, Duration::from_nanos(self.now().saturating_sub(mark.nanos)));
        match &self.flow {
            Flow::Free => {}
            Flow::Window(permits) => permits.add_permits(1),
        }
        self.received.fetch_add(1, Ordering::AcqRel);
        Some(mark)
    }

    /// Notes the end of a connection.
    pub fn note_end(&self, error: &LoadError) {
        let mut ended = self.ended.lock();
        match error.refusal() {
            Some(refusal) => *ended.0.entry(refusal.setting.to_owned()).or_default() += 1,
            None => {
                ended.1.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Waits until `expected` messages were received, or none has come for a while.
    pub fn wait_for(&self, expected: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (mut last, mut since) = (self.received.load(Ordering::Acquire), Instant::now());
            while last < expected && since.elapsed() < SILENCE {
                sleep(POLL_INTERVAL).await;
                let now = self.received.load(Ordering::Acquire);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
            }
        })
    }
}

/// A task for each connection, which receives until it is ended.
#[derive(Debug)]
pub struct Receivers {
    inboxes: Vec<Arc<Mutex<Inbox>>>,
    tasks: JoinSet<()>,
}

impl Receivers {
    /// Receives on `sockets`; the number of each is that of its recipient.
    pub fn start(sockets: Vec<(usize, Socket)>, shared: &Arc<Shared>) -> Self {
        let (mut inboxes, mut tasks) = (Vec::new(), JoinSet::new());
        for (at, mut socket) in sockets {
            let inbox = Arc::new(Mutex::new(Inbox::new(at as u32)));
            inboxes.push(inbox.clone());
            let shared = shared.clone();
            tasks.spawn(async move {
                loop {
                    match socket.next().await {
                        Ok(text) => shared.record(at, text, &mut inbox.lock()),
                        Err(error) => break shared.note_end(&error),
                    };
                }
            });
        }
        Self { inboxes, tasks }
    }

    /// Returns how many connections there are.
    pub fn count(&self) -> usize {
        self.inboxes.len()
    }

    /// Ends the connections, after the last messages were acknowledged, and returns what they received.
    pub fn end(mut self) -> BoxFuture<'static, Vec<Inbox>> {
        Box::pin(async move {
            sleep(ACKNOWLEDGEMENT_TIME).await;
            self.tasks.shutdown().await;
            self.inboxes.into_iter().map(|inbox| std::mem::take(&mut *inbox.lock())).collect()
        })
    }
}
