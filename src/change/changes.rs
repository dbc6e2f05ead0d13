//! The way to change durable state.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::clock::ServiceClock;
use super::log::{self, Settings};
use super::machine::{Event, Machine, Memory, Operation};
use super::outcomes::Outcomes;
use crate::core::time::Timestamp;
use crate::store::{Result, Store, StoreError, Trees};
use crate::telemetry::metrics::Metrics;

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
    /// If the store fails, or holds a record that can't be read.
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
