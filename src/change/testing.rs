//! A store with its memory, for the tests of operations.

use parking_lot::{Mutex, MutexGuard};

use super::Settings;
use super::clock::Moment;
use super::load::load;
use super::machine::{Machine, Operation, State, Touched};
use super::memory::Memory;
use super::stage::Due;
use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::time::Timestamp;
use crate::store::Store;

/// A store, and its memory; each operation is committed.
pub struct World {
    dir: tempfile::TempDir,
    pub store: Store,
    pub state: State,
    seconds: u64,
    touched: Mutex<Touched>,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let state = load(store.trees(), settings(), moment(1)).unwrap();
        Self { dir, store, state, seconds: 1, touched: Mutex::default() }
    }

    /// Stops, and starts again.
    pub fn restart(self) -> Self {
        let Self { dir, store, seconds, .. } = self;
        store.close().unwrap();
        drop(store); // frees its lock
        let store = Store::open(&dir.path().join("store")).unwrap();
        let state = load(store.trees(), settings(), moment(seconds)).unwrap();
        Self { dir, store, state, seconds, touched: Mutex::default() }
    }

    /// The moment at which operations are made.
    pub fn now(&self) -> Moment {
        moment(self.seconds)
    }

    /// Lets so many seconds pass.
    pub fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
    }

    /// Makes a change now.
    pub fn run<O: Operation>(&self, operation: O) -> Result<O::Output, O::Error> {
        self.run_at(operation, self.now())
    }

    /// Makes a change at that moment.
    pub fn run_at<O: Operation>(&self, operation: O, moment: Moment) -> Result<O::Output, O::Error> {
        let outcome = {
            let mut machine = Machine::new(self.store.trees(), &self.state);
            let outcome = operation.apply(&mut machine, moment);
            *self.touched.lock() = machine.take_touched();
            outcome
        };
        self.state.write(self.store.trees(), Due::Now).unwrap();
        outcome
    }

    /// What the last operation has touched.
    pub fn touched(&self) -> Touched {
        self.touched.lock().clone()
    }

    /// The part in memory.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.state.memory.lock()
    }
}

fn settings() -> Settings {
    Settings { mailbox: MailboxConfig::default(), history: HistoryConfig::default() }
}

/// The moment so many seconds after the beginning.
fn moment(seconds: u64) -> Moment {
    Moment::test(Timestamp::EPOCH, seconds)
}
