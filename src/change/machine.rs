//! The state that operations change, and the way to it.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::clock::{Moment, ServiceClock};
use super::index::Index;
use super::log;
use super::outcomes::Outcomes;
use super::{Operation, Settings};
use crate::core::ids::{MessageId, Recipient};
use crate::core::time::Timestamp;
use crate::store::{Log, MetaKey, Result, Store, StoreError, Trees};
use crate::telemetry::metrics::Metrics;

/// What an operation on the log has done to messages, for reactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The recipient, or one user of the broadcasts, has received `count` messages up to `upto`.
    Received {
        /// The mailbox.
        recipient: Recipient,
        /// The last of them.
        upto: MessageId,
        /// Their number.
        count: usize,
    },
    /// The life of a message has ended before it was received.
    Expired {
        /// The mailbox.
        recipient: Recipient,
        /// The message.
        id: MessageId,
    },
    /// A message has been removed.
    Removed {
        /// The mailbox.
        recipient: Recipient,
        /// The message.
        id: MessageId,
    },
}

/// The state that operations change: the trees on disk, and the index of the mailboxes in memory.
pub struct Machine<'a> {
    /// The trees.
    pub trees: &'a Trees,
    index: &'a Mutex<Memory>,
    events: Vec<Event>,
}

/// The part of the state that is in memory: rebuilt from the trees at the start.
#[derive(Debug)]
pub struct Memory {
    /// The mailboxes.
    pub index: Index,
    /// Idempotency keys by the time at which they expire.
    pub keys: log::Keys,
    /// The highest message id given.
    pub newest: MessageId,
}

impl<'a> Machine<'a> {
    /// A machine on these parts.
    pub fn new(trees: &'a Trees, index: &'a Mutex<Memory>) -> Self {
        Self { trees, index, events: Vec::new() }
    }

    /// The log.
    pub fn log(&self) -> Log<'a> {
        Log::new(self.trees)
    }

    /// Locks the part in memory. Readers of sizes and cursors wait for it: not to be held across writes to the trees.
    pub fn memory(&self) -> MutexGuard<'a, Memory> {
        self.index.lock()
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Takes the events of the operations that have been applied.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// The way to change durable state; clones share it.
#[derive(Clone)]
pub struct Changes {
    store: Store,
    shared: Arc<Shared>,
}

struct Shared {
    memory: Mutex<Memory>,
    clock: ServiceClock,
    outcomes: Outcomes,
    metrics: Arc<Metrics>,
}

impl Changes {
    /// Loads the part of the state that is in memory: one scan of the log. Blocks.
    ///
    /// # Errors
    /// When the store fails, or holds a record that can't be read.
    pub fn open(store: Store, settings: Settings, metrics: Arc<Metrics>) -> Result<Self> {
        let clock = ServiceClock::open(store.trees(), Timestamp::now())?;
        let memory = log::load(store.trees(), settings, clock.moment())?;
        let shared = Shared { memory: Mutex::new(memory), clock, outcomes: Outcomes::default(), metrics };
        Ok(Self { store, shared: Arc::new(shared) })
    }

    /// Makes a change and waits until it is on disk.
    ///
    /// # Errors
    /// The operation's; [`StoreError::Stopped`] when it did not reach the disk.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, O::Error> {
        self.run_then(operation, |_| ()).await
    }

    /// Makes a change, waits until it is on disk, and then calls `announce` on the writer thread, before anything later is
    /// announced.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_then<O: Operation>(
        &self,
        operation: O,
        announce: impl FnOnce(&mut O::Output) + Send + 'static,
    ) -> Result<O::Output, O::Error> {
        let shared = self.shared.clone();
        self.store.writer().run_then(move |trees| shared.apply(trees, operation), announce).await
    }

    /// Makes the change that `make` returns, on the writer thread some time soon; it reaches the disk with the next commit, within
    /// a second or so. Returns `false` when the queue is full or the store is closing.
    pub fn defer<O: Operation>(&self, make: impl FnOnce() -> O + Send + 'static) -> bool
    where
        StoreError: From<O::Error>,
    {
        let shared = self.shared.clone();
        self.store.writer().run_deferred(move |trees| Ok(shared.apply(trees, make()).map(drop)?))
    }

    /// The index of the mailboxes, for reading.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock()
    }

    /// The service clock.
    pub fn clock(&self) -> &ServiceClock {
        &self.shared.clock
    }

    /// The watchers of single messages.
    pub fn outcomes(&self) -> &Outcomes {
        &self.shared.outcomes
    }
}

impl Shared {
    /// Applies `operation` now, and reacts to its events.
    fn apply<O: Operation>(&self, trees: &Trees, operation: O) -> Result<O::Output, O::Error> {
        let mut machine = Machine::new(trees, &self.memory);
        let outcome = operation.apply(&mut machine, self.clock.moment());
        for event in machine.take_events() {
            match event {
                Event::Received { recipient, upto, count } => {
                    self.metrics.mailbox.delivered.add(count as u64);
                    self.outcomes.received(recipient, upto);
                }
                Event::Expired { recipient, id } => {
                    self.metrics.mailbox.expired.inc();
                    self.outcomes.expired(recipient, id);
                }
                Event::Removed { recipient, id } => self.outcomes.expired(recipient, id),
            }
        }
        outcome
    }
}

/// Proves that the disk accepts writes: makes a tiny change, or, with `write` unset, only commits what has been written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Make a change.
    pub write: bool,
}

impl Operation for Probe {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        if self.write { machine.trees.meta.next(MetaKey::Proofs).map(drop) } else { Ok(()) }
    }
}
