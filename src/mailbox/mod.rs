//! The mailbox: messages that wait until they have been received.
//!
//! # The way of a message
//! **append → commit → announce.** [`Mailbox::send`] has the store's writer thread give the message an id, put it into the log,
//! and make it durable together with what else was waiting; only then is the sender answered and the message announced to the
//! hub, in id order. The log is the truth; an announcement only saves a session the look.
//!
//! # Invariants
//! - **Accepted means on disk.** `send` returns an id only after the batch that holds it has been synced.
//! - **One order.** Ids rise, from one writer; none is given twice, not even when a crash takes back the message that bore it
//!   (numbers are reserved on disk before they are given). What a session reads or hears is in id order.
//! - **Nothing is seen before it is durable.** Readers look no further than the newest committed id.
//! - **The cursor moves only over what was received.** Everything up to it, in that mailbox, has been written in order to one
//!   connection and acknowledged by it.
//! - **Bounded.** A mailbox that is full refuses; nothing is dropped.
//!
//! `message` is what goes in and comes out; `jobs` is what runs on the writer thread; `state` holds sizes, cursors and what is
//! due in memory, rebuilt by one scan at the start; `clock` counts lives; `feed` is one session's place in the log; `watch` tells
//! who wants to know what became of a message.

mod clock;
mod disk;
mod jobs;
mod message;
#[cfg(test)]
mod model;
mod reader;
mod state;
mod watch;

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::Config;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::hub::Hub;
use crate::store::{Log, Reader, Severity, Store, StoreError, Stored, User};
use crate::telemetry::metrics::{Metrics, Refused};
use clock::ServiceClock;
use disk::DiskSpace;
use jobs::{RESERVED, append, apply, end_lives, forget_keys, free_broadcasts, take_acks};
use state::{Stand, State};
use watch::Watches;

pub use message::{Accepted, IdempotencyKey, Outgoing, Receipt, Status};
pub use reader::{LogReader, Welcome};
pub use state::Size;
pub use watch::{Outcome, OutcomeSender};

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The recipient has as many waiting as it may.
    #[error("the mailbox is full")]
    Full,
    /// The disk has too little room left to take anything safely.
    #[error("the disk is nearly full")]
    DiskLow,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for MailboxError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// The parts that change on the writer thread.
struct Books {
    state: State,
    next: u64,
    reserved: u64,
    /// Idempotency keys by the end of their time.
    remembered: VecDeque<(u64, [u8; 32])>,
}

/// What the service and its jobs on the writer thread share.
struct Shared {
    books: Mutex<Books>,
    clock: ServiceClock,
    /// The newest id that is durable: readers look no further.
    committed: AtomicU64,
    /// Acknowledgements on their way to the writer thread: the highest for each reader.
    acks: Mutex<HashMap<Reader, (MessageId, MessageId)>>,
    acks_submitted: AtomicBool,
    metrics: Arc<Metrics>,
    watches: Watches,
    /// Seconds that a message waits when its sender does not say.
    ttl: AtomicU64,
}

/// The mailbox service.
pub struct Mailbox {
    store: Store,
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    disk: DiskSpace,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }
}

impl Mailbox {
    /// Opens the mailboxes in `store`: one scan of the log. Blocks.
    ///
    /// # Errors
    /// When the store fails, or holds a record that can't be read.
    pub fn open(store: Store, hub: Arc<Hub>, config: &Config, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let log = store.log();
        log.sweep_leftovers()?;
        let clock = ServiceClock::open(log, Timestamp::now())?;
        let now = clock.now();
        let mut state = State::new(config.mailbox.clone(), config.history.clone());
        // The newest message that ever was, as far as anything of it is left.
        let mut newest = log.newest()?.max(log.newest_purged()?).0;
        for cursor in log.cursors() {
            let (reader, upto) = cursor?;
            state.load_cursor(reader, upto);
            newest = newest.max(upto.0);
        }
        for entry in log.heads() {
            let (recipient, head) = entry?;
            state.load(recipient, &head, now);
        }
        // What belongs to nobody any more: its owner was removed, and the process ended before its mailbox was.
        let mut orphans = Vec::new();
        for recipient in state.recipients() {
            if !log.knows(recipient)? {
                orphans.push(recipient);
            }
        }
        let remembered: Result<BTreeMap<_, _>, StoreError> =
            log.remembered().map(|r| r.map(|(k, e)| ((e.until, k), ()))).collect();
        let remembered = remembered?.into_keys().collect();
        let reserved = log.number(RESERVED)?.max(newest);
        let committed = AtomicU64::new(newest);
        let shared = Shared {
            books: Mutex::new(Books { state, next: reserved + 1, reserved, remembered }),
            clock,
            committed,
            acks: Mutex::default(),
            acks_submitted: AtomicBool::new(false),
            metrics,
            watches: Watches::default(),
            ttl: AtomicU64::new(config.mailbox.ttl),
        };
        for recipient in orphans {
            let effects = shared.books().state.forget(recipient);
            apply(&shared, log, &effects)?;
            log.forget_recipient(recipient)?;
        }
        let disk = DiskSpace::new(&config.server.data_dir, config.storage.min_free_bytes);
        Ok(Self { store, hub, shared: Arc::new(shared), disk })
    }

    /// Takes up other numbers. What is kept already is measured by them, too, and goes with the next sweep where it is too
    /// much. What waits stays until the end of its life.
    pub fn reload(&self, config: &Config) {
        self.shared.ttl.store(config.mailbox.ttl, Ordering::Relaxed);
        let now = self.shared.clock.now();
        self.shared.books().state.reload(config.mailbox.clone(), config.history.clone(), now);
    }

    /// Whether the disk has room enough to take messages.
    pub fn disk_ok(&self) -> bool {
        self.disk.ok()
    }

    /// Queues a message: returns once it is on disk and announced.
    ///
    /// # Errors
    /// [`MailboxError`]; except for [`MailboxError::Store`], nothing has been stored then.
    pub async fn send(&self, message: Outgoing) -> Result<Accepted, MailboxError> {
        // A look costs a microsecond, and a fast writer fills a small disk within the second between two sweeps.
        self.disk.look();
        if !self.disk.ok() {
            self.shared.metrics.refused.inc(Refused::DiskLow);
            return Err(MailboxError::DiskLow);
        }
        let (shared, hub) = (self.shared.clone(), self.hub.clone());
        let announcer = self.shared.clone();
        let sent = self.store.commit(
            move |log| append(&shared, log, message),
            move |accepted: &mut Accepted| {
                if let Some(announcement) = accepted.announcement.take() {
                    // Committed before it is announced: who hears of it can read it.
                    announcer.committed.fetch_max(accepted.id.0, Ordering::AcqRel);
                    accepted.recipients = hub.publish(announcement);
                    announcer.metrics.mailbox.accepted.inc();
                }
            },
        );
        let outcome = sent.await;
        if matches!(outcome, Err(MailboxError::Full)) {
            self.shared.metrics.refused.inc(Refused::MailboxFull);
        }
        outcome
    }

    /// Notes that a connection has received everything up to `upto` for each of `readers`; `joined` is where a user without a
    /// cursor begins. Reaches the disk within a second or so: a crash before that makes messages come again.
    pub fn received(&self, readers: &[Reader], upto: MessageId, joined: MessageId) {
        let mut acks = self.shared.acks.lock();
        for &reader in readers {
            let entry = acks.entry(reader).or_insert((upto, joined));
            entry.0 = entry.0.max(upto);
        }
        drop(acks);
        self.submit_acks();
    }

    fn submit_acks(&self) {
        if self.shared.acks_submitted.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.shared.clone();
        if !self.store.commit_later(move |log| take_acks(&shared, log)) {
            // The queue is full: the next acknowledgement or the next sweep tries again.
            self.shared.acks_submitted.store(false, Ordering::Release);
        }
    }

    /// Notes that everything up to `upto` has been written to a connection.
    pub fn written(&self, readers: &[Reader], upto: MessageId) {
        let now = Timestamp::now();
        let mut books = self.shared.books();
        for reader in readers {
            books.state.sent(reader.recipient(), upto, now);
        }
    }

    /// Counts an acknowledgement that nobody had asked for.
    pub fn strange_ack(&self) {
        self.shared.metrics.mailbox.strange_acks.inc();
    }

    /// Ends lives, lets go of history, saves the clock. Call it every second; `thorough` every minute and at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, thorough: bool) -> Result<(), StoreError> {
        self.disk.look();
        if !self.shared.acks.lock().is_empty() {
            self.submit_acks();
        }
        let shared = self.shared.clone();
        if !thorough {
            // Only where something is due: an idle box must not touch its disk every second.
            if shared.books().state.is_due(shared.clock.now()) {
                self.store.commit_later(move |log| end_lives(&shared, log));
            }
            return Ok(());
        }
        let change = move |log: Log<'_>| {
            end_lives(&shared, log)?;
            take_acks(&shared, log)?;
            free_broadcasts(&shared, log)?;
            forget_keys(&shared, log, shared.clock.now())?;
            shared.clock.save(log)
        };
        self.store.commit(change, |()| ()).await?;
        self.shared.watches.forget_closed();
        Ok(())
    }

    /// The receipt of a message.
    ///
    /// # Errors
    /// When the store fails.
    pub fn receipt(&self, id: MessageId) -> Result<Option<Receipt>, StoreError> {
        if id.0 > self.shared.committed.load(Ordering::Acquire) {
            return Ok(None);
        }
        let log = self.store.log();
        // The books first: what they call gone is gone, or marked as expired, in the log that is read after them.
        let Some(recipient) = log.recipient(id)? else { return Ok(None) };
        let stand = self.shared.books().state.stand(recipient, id);
        let Some((_, Stored { head, .. })) = log.get(id)? else { return Ok(None) };
        let received = if recipient == Recipient::All { Some(self.listeners_who_have(id)?) } else { None };
        let status = match stand {
            _ if head.expired => Status::Expired,
            // Taken out of the books a moment ago, and not yet marked in the log: it was not received.
            Stand::Gone => Status::Expired,
            Stand::Queued => Status::Queued,
            Stand::Sent(when) => Status::Sent(when),
            Stand::Received => Status::Acked(log.received_at(recipient, id)?),
        };
        let (now, end) = (self.shared.clock.now(), head.expires);
        let expires_at = match end.checked_sub(now) {
            Some(left) => Timestamp::now().plus_seconds(left),
            None => Timestamp::now().minus(std::time::Duration::from_secs(now - end)),
        };
        Ok(Some(Receipt { recipient, head, status, expires_at, received }))
    }

    /// How many of the users that a broadcast was for have received it.
    fn listeners_who_have(&self, id: MessageId) -> Result<usize, StoreError> {
        let users: Vec<_> = self.store.log().listeners().collect::<Result<_, _>>()?;
        let books = self.shared.books();
        let has =
            |&(user, joined): &(UserId, MessageId)| joined < id && books.state.cursor(Reader::Broadcasts(user), joined) >= id;
        Ok(users.iter().filter(|user| has(user)).count())
    }

    /// Up to `limit` messages above `since` that are still there, of any of `recipients`, in id order.
    ///
    /// # Errors
    /// When the store fails.
    pub fn history(&self, recipients: &[Recipient], since: MessageId, limit: usize) -> Result<(Vec<Stored>, bool), StoreError> {
        let upto = MessageId(self.shared.committed.load(Ordering::Acquire));
        let log = self.store.log();
        let mut found = Vec::new();
        for &recipient in recipients {
            for message in log.read(recipient, since, upto).take(limit + 1) {
                found.push(message?);
            }
        }
        found.sort_by_key(|m| m.head.id);
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// The size of a mailbox.
    pub fn size(&self, recipient: Recipient) -> Size {
        self.shared.books().state.size(recipient)
    }

    /// How many mailboxes have something in them, and their sizes together.
    pub fn total(&self) -> (usize, Size) {
        self.shared.books().state.total()
    }

    /// The sizes of up to `limit` mailboxes with something in them, behind `after` in the order of recipients.
    pub fn sizes(&self, after: Option<Recipient>, limit: usize) -> Vec<(Recipient, Size)> {
        self.shared.books().state.sizes(after, limit)
    }

    /// When a message that waits was taken.
    ///
    /// # Errors
    /// When the store fails.
    pub fn taken_at(&self, id: MessageId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.store.log().get(id)?.map(|(_, message)| message.head.created))
    }

    /// Lets go of everything that waits in a mailbox, or in all of them; returns how many messages.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear(&self, recipient: Option<Recipient>) -> Result<usize, StoreError> {
        let shared = self.shared.clone();
        let change = move |log: Log<'_>| {
            let which = recipient.map_or_else(|| shared.books().state.waiting_recipients(), |one| vec![one]);
            let mut count = 0;
            for one in which {
                let effects = shared.books().state.clear(one);
                count += effects.purged.len();
                apply(&shared, log, &effects)?;
            }
            Ok(count)
        };
        self.store.commit(change, |_| ()).await
    }

    /// Removes what belongs to a recipient that is no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(&self, recipient: Recipient) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let change = move |log: Log<'_>| {
            let effects = shared.books().state.forget(recipient);
            apply(&shared, log, &effects)?;
            log.forget_recipient(recipient)
        };
        self.store.commit(change, |()| ()).await
    }

    /// Begins a session's way through the log.
    pub fn reader(
        &self,
        user: &User,
        device: Option<crate::core::ids::DeviceId>,
        since: Option<MessageId>,
    ) -> (LogReader, Welcome) {
        reader::begin(self, user, device, since)
    }
}
