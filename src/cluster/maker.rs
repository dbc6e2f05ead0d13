//! Entries from the operations of this node.
//!
//! # Invariants
//! - At most [`MAX_IN_FLIGHT`] entries of this node are on their way: what comes meanwhile waits for the next one, so that entries grow
//!   by themselves.
//! - An entry is repeated under its name until it has come back, or its node ends: what the engine has taken is never unknown for ever.
//! - The numbers of entries rise. An entry that is overtaken by a later one is passed over by every node; its operations go into another one. What it has
//!   told of snapshots is told again.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::entry::{Control, EntryId, MAX_BYTES, MAX_OPERATIONS};
use super::log::{Log, LogError};
use super::replica::SharedReplica;
use crate::change::{Proposal, ProposalQueue, Proposed};

/// The entries of a node that are on their way at the same time.
const MAX_IN_FLIGHT: usize = 2;
/// The time after which an entry whose appending is not confirmed is sent again.
const RESEND: Duration = Duration::from_secs(1);
/// The time before an entry that was refused is sent again.
const RETRY: Duration = Duration::from_millis(200);
/// The silence of the log after which a node appends an empty entry, and one with a name that is not the first.
const BEAT: Duration = Duration::from_secs(1);
const LATE_BEAT: Duration = Duration::from_secs(2);
/// The time after which each node appends something.
const OWN_BEAT: Duration = Duration::from_secs(60);

/// Makes entries.
pub struct Maker<L> {
    log: L,
    replica: SharedReplica,
    queue: ProposalQueue,
    controls: mpsc::Receiver<Control>,
    /// The number of the last entry.
    n: u64,
    /// An operation that did not fit into the last entry.
    carried: Option<Proposed>,
    /// The time of the last entry.
    last: Instant,
}

impl<L: Log> Maker<L> {
    /// A maker of entries from these queues.
    pub fn new(log: L, replica: SharedReplica, queue: ProposalQueue, controls: mpsc::Receiver<Control>) -> Self {
        Self { log, replica, queue, controls, n: 0, carried: None, last: Instant::now() }
    }

    /// Makes entries until its task is aborted, or its queues are closed.
    pub async fn run(mut self) {
        let mut flights = FuturesUnordered::new();
        loop {
            let has_room = flights.len() < MAX_IN_FLIGHT;
            // From here on, nothing that changes is missed.
            let waiting = self.replica.clone();
            let mut changed = pin!(waiting.waiting.changed.notified());
            changed.as_mut().enable();
            if has_room && (self.carried.is_some() || self.replica.waiting.has_again()) {
                flights.push(self.launch(None, None));
                continue;
            }
            let beat = self.next_beat();
            tokio::select! {
                biased;
                Some(()) = flights.next(), if !flights.is_empty() => {}
                () = changed => {}
                control = self.controls.recv(), if has_room => match control {
                    Some(control) => flights.push(self.launch(None, Some(control))),
                    None => return,
                },
                proposal = self.queue.proposals.recv(), if has_room => match proposal {
                    Some(proposal) => flights.push(self.launch(Some(proposal), None)),
                    None => return,
                },
                () = sleep_until(beat), if has_room => {
                    if self.next_beat() <= Instant::now() {
                        flights.push(self.launch(None, None));
                    }
                }
            }
        }
    }

    /// The time at which this node appends an empty entry.
    fn next_beat(&self) -> Instant {
        let (quiet, is_first) = self.replica.quiet_since(Instant::now());
        let quiet = quiet.map_or(self.last, |quiet| quiet.max(self.last));
        (quiet + if is_first { BEAT } else { LATE_BEAT }).min(self.last + OWN_BEAT)
    }

    /// Makes an entry of what waits, and returns its way into the log.
    fn launch(&mut self, first: Option<Proposal>, control: Option<Control>) -> impl Future<Output = ()> + use<L> {
        self.n += 1;
        self.last = Instant::now();
        let mut entry = self.replica.entry(self.n);
        entry.control = control;
        let operations = self.gather(first);
        entry.ops = operations.iter().map(|operation| operation.text.clone()).collect();
        let id = entry.id();
        self.replica.waiting.insert(self.n, operations);
        fly(self.log.clone(), self.replica.clone(), self.queue.is_full.clone(), id, entry.encode())
    }

    /// Takes the operations of the next entry.
    fn gather(&mut self, first: Option<Proposal>) -> Vec<Proposed> {
        let (mut operations, mut bytes) = (Vec::new(), 0);
        let mut next = first.and_then(Proposal::make);
        while operations.len() < MAX_OPERATIONS {
            let carried = self.carried.take().or_else(|| self.replica.waiting.next_again()).or_else(|| next.take());
            let Some(operation) = carried.or_else(|| self.next_proposed()) else { break };
            let size = operation.text.get().len();
            if bytes + size > MAX_BYTES && !operations.is_empty() {
                self.carried = Some(operation);
                break;
            }
            bytes += size;
            operations.push(operation);
        }
        if let Some(next) = next {
            self.replica.waiting.put_first(next);
        }
        // Proofs of receipt go with what is appended anyway.
        if operations.len() < MAX_OPERATIONS && (!operations.is_empty()) {
            operations.extend(self.replica.changes().riders());
        }
        operations
    }

    fn next_proposed(&mut self) -> Option<Proposed> {
        while let Ok(proposal) = self.queue.proposals.try_recv() {
            if let Some(proposed) = proposal.make() {
                return Some(proposed);
            }
        }
        None
    }
}

/// Appends an entry, as often as it takes, until it has come back.
async fn fly<L: Log>(log: L, replica: SharedReplica, is_full: Arc<AtomicBool>, id: EntryId, bytes: Bytes) {
    loop {
        let mut back = pin!(came_back(&replica, id.n));
        let appended = tokio::select! {
            biased;
            () = &mut back => return,
            appended = timeout(RESEND, log.append(id, bytes.clone())) => appended,
        };
        match appended {
            // The entry itself is seen by the tail.
            Ok(Ok(_)) => {
                is_full.store(false, Ordering::Relaxed);
                if timeout(RESEND, back).await.is_ok() {
                    return;
                }
            }
            Ok(Err(LogError::Full)) => {
                if !is_full.swap(true, Ordering::Relaxed) {
                    tracing::error!("the log is full: nothing can be changed");
                }
                replica.waiting.take(id.n);
                return;
            }
            // It would be refused for ever.
            Ok(Err(LogError::Refused(why))) => {
                tracing::error!(%why, "the engine refuses an entry: what it was to change is not changed");
                replica.waiting.take(id.n);
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "entry not appended");
                sleep(RETRY).await;
            }
            Err(_) => {}
        }
    }
}

/// Completes when the operations of entry `n` wait no longer.
async fn came_back(replica: &SharedReplica, n: u64) {
    loop {
        let mut changed = pin!(replica.waiting.changed.notified());
        changed.as_mut().enable();
        if !replica.waiting.has(n) {
            return;
        }
        changed.await;
    }
}
