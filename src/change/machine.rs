//! Operations, and the state that they change.

use parking_lot::{Mutex, MutexGuard};

use super::clock::Moment;
use super::index::Effects;
use super::keys::StoredKey;
#[cfg(feature = "cluster")]
use super::log::Settings;
use super::memory::Memory;
use super::stage::{Due, Stage};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::store::{Earlier, EndState, Head, Log, PageNumber, Result, Severity, StoreError, Trees};

/// The name of an operation, and where it is made. Implemented by the list of all operations.
pub trait Named: serde::Serialize {
    /// The name of its encoded form.
    const NAME: &'static str;
    /// It concerns this node alone, and is never made by way of a cluster's log.
    const IS_LOCAL: bool;
    /// On several nodes, its caller waits until all have made it: who then asks another node finds it done.
    const IS_AWAITED: bool;
}

/// A change of durable state.
pub trait Operation: Named + Send + 'static {
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

/// An effect of an operation, for reactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The life of a message has ended, or a reader has received it first.
    Ended {
        /// The mailbox.
        recipient: Recipient,
        /// The message.
        id: MessageId,
        /// The end.
        state: EndState,
        /// The sender.
        sender: UserId,
    },
    /// Readers have received so many messages.
    Delivered(u64),
    /// A reader has passed over a message.
    Passed,
    /// So many messages were removed before every reader had them.
    Missed(u64),
    /// So many receipts were removed before their time, since there were too many.
    ReceiptsEvicted(usize),
}

/// The accounts and devices whose connections may have lost their right by a change: reactions close them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Users whose credentials may no longer be accepted.
    pub users: Vec<UserId>,
    /// Devices that were taken from users.
    pub devices_taken: Vec<(UserId, DeviceId)>,
    /// Readers that were forgotten.
    pub readers_forgotten: Vec<(UserId, ClientName)>,
}

impl Touched {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.devices_taken.is_empty() && self.readers_forgotten.is_empty()
    }
}

/// The state that operations change: the trees on disk, the changes of the log that wait for the commit, and the index of the
/// mailboxes in memory.
pub struct Machine<'a> {
    /// The trees.
    pub trees: &'a Trees,
    memory: &'a Mutex<Memory>,
    /// The changes of the log that wait for the commit. Locked for the whole of an operation, so that whoever looks for a message
    /// finds it in the index or its end in a receipt; before the index.
    pub stage: MutexGuard<'a, Stage>,
    events: Vec<Event>,
    touched: Touched,
}

/// The state in memory: what the trees hold, and what waits to be written to them.
#[derive(Debug)]
pub struct State {
    /// The part that is rebuilt at the start.
    pub memory: Mutex<Memory>,
    /// The changes of the log that wait for the commit.
    pub stage: Mutex<Stage>,
}

impl State {
    /// The state of a machine that has nothing to write.
    pub fn new(memory: Memory) -> Self {
        Self { memory: Mutex::new(memory), stage: Mutex::default() }
    }

    /// The limits in force.
    #[cfg(feature = "cluster")]
    pub fn settings(&self) -> Settings {
        let (mailbox, history) = self.memory.lock().index.limits();
        Settings { mailbox, history }
    }

    /// Writes the changes of the log to the trees; before each commit. With [`Due::Later`], leaves what no caller waits for to a
    /// later commit, and returns whether there is any.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write(&self, trees: &Trees, due: Due) -> Result<bool> {
        self.stage.lock().write(Log::new(trees), &self.memory, due)
    }
}

impl<'a> Machine<'a> {
    /// A machine on these parts.
    pub fn new(trees: &'a Trees, state: &'a State) -> Self {
        Self { trees, memory: &state.memory, stage: state.stage.lock(), events: Vec::new(), touched: Touched::default() }
    }

    /// The log.
    pub fn log(&self) -> Log<'a> {
        Log::new(self.trees)
    }

    /// Locks the part in memory. Readers of sizes and cursors wait for it: not to be held across access to the trees.
    pub fn memory(&self) -> MutexGuard<'a, Memory> {
        self.memory.lock()
    }

    /// Makes the log follow the index with the commit.
    ///
    /// # Errors
    /// If the store fails.
    pub fn follow(&mut self, effects: &Effects, moment: Moment) -> Result<()> {
        self.follow_by(effects, moment, Due::Now)
    }

    /// Makes the log follow the index with the commit, or a later one.
    ///
    /// # Errors
    /// If the store fails.
    pub fn follow_by(&mut self, effects: &Effects, moment: Moment, due: Due) -> Result<()> {
        self.stage.follow(Log::new(self.trees), effects, moment, self.memory, due)?;
        for ended in &effects.ended {
            let Head { recipient, id, sender, .. } = ended.head;
            self.events.push(Event::Ended { recipient, id, state: ended.state, sender });
        }
        self.events.extend(effects.passed.iter().map(|_| Event::Passed));
        if effects.delivered > 0 {
            self.events.push(Event::Delivered(effects.delivered));
        }
        if effects.missed > 0 {
            self.events.push(Event::Missed(effects.missed));
        }
        Ok(())
    }

    /// Removes the receipts of a page, or only the `excess` oldest of them, but those of messages that are there; returns their
    /// number.
    ///
    /// # Errors
    /// If the store fails.
    pub fn evict_receipts(&mut self, number: PageNumber, excess: Option<usize>) -> Result<usize> {
        self.stage.evict(Log::new(self.trees), number, excess, self.memory)
    }

    /// Returns what was sent under an idempotency key.
    ///
    /// # Errors
    /// If the store fails.
    pub fn earlier(&self, key: &StoredKey) -> Result<Option<Earlier>> {
        self.stage.earlier(Log::new(self.trees), key)
    }

    /// Removes an idempotency key, written or not.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_key(&mut self, key: &StoredKey) -> Result<()> {
        self.stage.forget(key);
        self.log().forget(key)
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Notes that credentials of `user` may no longer be accepted.
    pub fn touch(&mut self, user: UserId) {
        self.touched.users.push(user);
    }

    /// Notes that `device` was taken from `users`.
    pub fn take(&mut self, device: DeviceId, users: impl IntoIterator<Item = UserId>) {
        self.touched.devices_taken.extend(users.into_iter().map(|user| (user, device)));
    }

    /// Notes that a reader of `user` was forgotten.
    pub fn forget(&mut self, user: UserId, client: ClientName) {
        self.touched.readers_forgotten.push((user, client));
    }

    /// Takes what was touched by the operations that have been applied.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Takes the events of the operations that have been applied.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
