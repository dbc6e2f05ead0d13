//! Operations, and the state that they change.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use super::clock::Moment;
use super::index::Index;
use crate::core::ids::{MessageId, Recipient};
use crate::store::{Log, Severity, StoreError, Trees};

/// Idempotency keys by the time at which they expire.
pub type Keys = BTreeSet<(u64, [u8; 32])>;

/// A change of durable state.
pub trait Operation: Send + 'static {
    /// The result of a change that was made.
    type Output: Send + 'static;
    /// The error of a change that was not made.
    type Error: From<StoreError> + Severity + Send + 'static;

    /// Makes the change at `moment`. Runs on the writer thread, one operation at a time; moments never go back.
    ///
    /// # Errors
    /// If the change is refused or the store fails.
    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Self::Output, Self::Error>;
}

/// An effect of an operation on messages, for reactions.
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
    pub keys: Keys,
    /// The highest message id given.
    pub newest: MessageId,
    /// The highest id of a message that was kept at the start. Lower than that given where messages were lost to a restore.
    pub newest_loaded: MessageId,
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
