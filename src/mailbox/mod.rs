//! The mailbox: messages are kept until they have been received.
//!
//! # The way of a message
//! **append → commit → announce.** [`Mailbox::send`] appends the message to the log, as an operation on the store's writer thread,
//! which makes it durable together with what else is queued there; only then is the sender answered and the message announced to
//! the hub, in id order. The log is the truth; an announcement only saves a session the look at it.
//!
//! # Invariants
//! - **Accepted means on disk.** `send` returns an id only after the batch that holds it has been synced.
//! - **One order.** Ids rise, from one writer; none is given twice. Sessions read and receive in id order.
//! - **Nothing is visible before it is durable.** Readers look no further than the newest committed id.
//! - **A cursor moves only over received messages.** Everything up to it, in that mailbox, has been written in order to a connection
//!   of that reader and acknowledged by it, or is listed as passed over.
//! - **Bounded.** A mailbox full of messages that no reader has received refuses; its last tenth is kept for administrators and
//!   services. What some reader has is removed before it stops others, and those who lack it are told.
//!
//! Changes of durable state are in [`change`](crate::change); this is the service on top of them. `message` holds messages and
//! receipts, `receipts` finds them, `peek` looks at what waits, `reader` is one session's place in the log, `acks` gathers proofs of receipt, `disk` watches the
//! free space.

mod acks;
mod disk;
mod message;
#[cfg(test)]
mod model;
mod peek;
mod reader;
mod receipts;
#[cfg(test)]
mod shared;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::change::{Append, AppendError, Appended, Cancel, Changes, Clear, Expire, ForgetReader, Settings, Tick, TouchReaders};
use crate::config::{Config, StorageConfig};
use crate::core::client::ClientName;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Connection, Hub};
use crate::store::{EndState, Store, StoreError};
use crate::telemetry::live::ReceiptEvent;
use crate::telemetry::metrics::{Metrics, Refused};
use acks::PendingAcks;
use disk::DiskSpace;
use trouble::Troubles;

pub use crate::change::{CancelError, IdempotencyKey, JoinError, Listed, Outcome, OutcomeSender, Queued, Size};
pub use message::{Accepted, Outgoing, ReaderReceipt, Receipt, Status};
pub use reader::{Gap, LogReader, ReaderOptions, Since, Welcome};
pub use trouble::Ending;

/// The most operations of one sweep: what is left is done by the next one.
const MAX_SWEEP_OPERATIONS: usize = 500;
/// The most messages that are counted as waiting to be written to a connection.
const MAX_LAG: usize = 10_000;
/// The most online readers that one operation notes.
const MAX_TOUCHED_READERS: usize = 256;

/// The reason for which a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The recipient has as many pending messages as it may, or as this sender may add to.
    #[error("the mailbox is full")]
    Full,
    /// As many bytes as one sender may cause to wait (`mailbox.sender_bytes`) do, over all mailboxes.
    #[error("too much of what you have sent waits to be received")]
    SenderFull,
    /// The disk has too little free space to accept anything safely.
    #[error("the disk is nearly full")]
    DiskLow,
    /// The messages that are there take as much memory as they may.
    #[error("the queued messages use up their share of storage.memory_budget")]
    MemoryLow,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AppendError> for MailboxError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::Full,
            AppendError::SenderFull => Self::SenderFull,
            AppendError::KeyReused => Self::KeyReused,
            AppendError::Store(error) => Self::Store(error),
        }
    }
}

/// Tells those who are here of messages that have been committed.
struct Announcer {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// The newest durable id: readers look no further.
    committed: AtomicU64,
}

impl Announcer {
    /// Announces a message, unless it is a repetition; returns whether it did.
    fn announce(&self, recipient: Recipient, sender: UserId, appended: &mut Appended) -> bool {
        let Some(payload) = appended.payload.take() else { return false };
        // Committed before it is announced: a session that receives the announcement can read the message.
        self.committed.fetch_max(appended.id.0, Ordering::AcqRel);
        let live = &self.metrics.live;
        if live.traffic.is_watched() {
            live.pushed(recipient, sender, Some(appended.id), &payload);
        }
        if live.receipts.is_watched() {
            live.receipts.publish(ReceiptEvent::of_message(appended.id, recipient, sender, "queued"));
        }
        appended.recipients = self.hub.publish(Arc::new(Announcement::new(recipient, Some(appended.id), payload)));
        true
    }
}

/// The mailbox service.
pub struct Mailbox {
    store: Store,
    changes: Changes,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    announcer: Arc<Announcer>,
    disk: Arc<DiskSpace>,
    /// The limits of mailboxes and history by the configuration.
    settings: Mutex<Settings>,
    /// The disk is nearly full, and nothing is kept in the history.
    is_history_short: AtomicBool,
    storage: StorageConfig,
    acks: Arc<PendingAcks>,
    /// Connections that a message is written to before its reader passes over it; 0: any number.
    max_deliveries: AtomicU16,
    troubles: Troubles,
    /// The time to live of messages whose sender names none, in seconds.
    ttl: AtomicU64,
}

/// Returns the settings of operations that `config` asks for.
pub fn settings(config: &Config) -> Settings {
    Settings { mailbox: config.mailbox.clone(), history: config.history.clone() }
}

impl Mailbox {
    /// A service on top of `changes`, which are those of `store`.
    pub fn new(store: Store, changes: Changes, hub: Arc<Hub>, config: &Config, metrics: Arc<Metrics>) -> Self {
        // Where changes are shared, some may have been made since the start.
        let committed = if changes.is_shared() { changes.memory().newest } else { changes.memory().newest_loaded };
        let committed = committed.0.into();
        let announcer = Arc::new(Announcer { hub: hub.clone(), metrics: metrics.clone(), committed });
        #[cfg(feature = "cluster")]
        {
            let announcer = announcer.clone();
            changes.set_announcer(move |recipient, sender, appended| {
                announcer.announce(recipient, sender, appended);
            });
        }
        let room_inside = {
            let (store, changes) = (store.clone(), changes.clone());
            move || store.room_inside(changes.memory().index.payload_bytes())
        };
        Self {
            store,
            changes: changes.clone(),
            hub,
            metrics,
            storage: config.storage.clone(),
            disk: DiskSpace::new(&config.server.data_dir, config.storage.min_free_bytes, room_inside),
            settings: Mutex::new(settings(config)),
            is_history_short: AtomicBool::new(false),
            acks: PendingAcks::new(changes.clone()),
            max_deliveries: AtomicU16::new(config.mailbox.max_deliveries),
            troubles: Troubles::default(),
            announcer,
            ttl: AtomicU64::new(config.mailbox.ttl),
        }
    }

    /// Applies other limits. History beyond them is removed by the next sweep; pending messages stay until they expire.
    pub fn reload(&self, config: &Config) {
        self.ttl.store(config.mailbox.ttl, Ordering::Relaxed);
        self.max_deliveries.store(config.mailbox.max_deliveries, Ordering::Relaxed);
        let settings = settings(config);
        let is_same = std::mem::replace(&mut *self.settings.lock(), settings.clone()) == settings;
        if is_same && self.changes.is_shared() {
            return; // another node may have set others since, for all
        }
        self.is_history_short.store(false, Ordering::Relaxed); // the next sweep looks
        if !self.changes.defer(move || settings, drop) {
            tracing::warn!("mailbox limits not applied: the store accepts no writes; reload again");
        }
    }

    /// Returns the memory of the index of the mailboxes, in bytes: an estimate.
    pub fn index_bytes(&self) -> u64 {
        self.changes.memory().index.memory_bytes() as u64
    }

    /// Returns whether the disk has space enough to accept messages.
    pub fn disk_ok(&self) -> bool {
        self.disk.ok()
    }

    /// Removes the history of all mailboxes while the disk has too little space for messages: what some reader has received stops no
    /// others.
    async fn shorten_history(&self) -> Result<(), StoreError> {
        if self.changes.is_shared() {
            return Ok(()); // the limits are those of all nodes, and the disk is that of one
        }
        let is_low = self.disk.is_low();
        if self.is_history_short.swap(is_low, Ordering::Relaxed) == is_low {
            return Ok(());
        }
        let mut settings = self.settings.lock().clone();
        if is_low {
            tracing::warn!("received messages are not kept for replay until the disk has enough space again");
            (settings.history.retain, settings.history.messages) = (0, 0);
        }
        let limits = settings.mailbox.clone();
        self.changes.run(settings).await?;
        if self.settings.lock().mailbox != limits {
            self.is_history_short.store(!is_low, Ordering::Relaxed); // others came meanwhile: again with the next sweep
        }
        Ok(())
    }

    /// Queues a message: returns once it is on disk and announced.
    ///
    /// # Errors
    /// [`MailboxError`]; except for [`MailboxError::Store`], nothing has been stored then.
    pub async fn send(&self, message: Outgoing) -> Result<Accepted, MailboxError> {
        let Some(held) = self.disk.admit(message.object.len(), message.privileged) else {
            self.metrics.refused.inc(Refused::DiskLow);
            return Err(MailboxError::DiskLow);
        };
        let most = self.storage.max_index_bytes();
        if self.index_bytes() >= if message.privileged { most } else { most - most / 10 } {
            self.metrics.refused.inc(Refused::MemoryLow);
            return Err(MailboxError::MemoryLow);
        }
        let Outgoing { recipient, sender, object, ttl, key, privileged, watcher } = message;
        let ttl = ttl.unwrap_or_else(|| self.ttl.load(Ordering::Relaxed));
        let (announcer, changes) = (self.announcer.clone(), self.changes.clone());
        let announce = move |appended: &mut Appended| {
            let _held = &held; // until it is on the disk, also where the caller waits no more
            if let Some(watcher) = watcher.filter(|_| appended.payload.is_some()) {
                changes.outcomes().watch(recipient, appended.id, watcher); // before anyone can acknowledge it
                // A later operation of the same commit, such as the deletion of the recipient, may have removed it already.
                if !changes.memory().index.is_pending(recipient, appended.id) {
                    changes.outcomes().ended(recipient, appended.id, EndState::Cleared);
                }
            }
            if announcer.announce(recipient, sender, appended) {
                announcer.metrics.mailbox.accepted.inc();
            }
        };
        let operation = Append { recipient, sender, object, ttl, key, privileged };
        let outcome = self.changes.run_then(operation, announce).await.map_err(MailboxError::from);
        match outcome {
            Err(MailboxError::Full) => self.metrics.refused.inc(Refused::MailboxFull),
            Err(MailboxError::SenderFull) => self.metrics.refused.inc(Refused::SenderFull),
            _ => {}
        }
        let Appended { id, recipients, repeated, .. } = outcome?;
        Ok(Accepted { id, recipients, repeated })
    }

    /// Notes that a connection has received everything up to `upto`, but what it has passed over. Reaches the disk within a second or
    /// so: after a crash before that, messages are delivered again.
    pub fn received(&self, reader: &mut LogReader, upto: MessageId) {
        if reader.is_peek() {
            return;
        }
        if self.metrics.live.receipts.is_watched() {
            self.show_received(reader, upto);
        }
        self.acks.add(reader.ack(upto));
    }

    /// Shows what a proof adds to those that were there to the ones who look on.
    fn show_received(&self, reader: &LogReader, upto: MessageId) {
        let (user, client) = reader.reader();
        let proved = self.acks.proved_upto(&reader.key());
        let mut events = Vec::new();
        let memory = self.changes.memory();
        for (mailbox, _) in reader.mailboxes() {
            let after = memory.index.cursor(mailbox, user, client).max(proved);
            for (id, sender) in memory.index.senders(mailbox, after, upto) {
                let has_passed = reader.passed().binary_search(&id).is_ok();
                let status = if has_passed { EndState::Undeliverable } else { EndState::Acked };
                events.push(ReceiptEvent::of_client(id, mailbox, sender, status.name(), (user, client.clone())));
            }
        }
        drop(memory);
        events.into_iter().for_each(|event| self.metrics.live.receipts.publish(event));
    }

    /// Notes that everything above `after` up to `upto` has been written to a connection.
    pub fn written(&self, reader: &LogReader, after: MessageId, upto: MessageId) {
        if reader.is_peek() {
            return;
        }
        let now = Timestamp::now();
        let mut memory = self.changes.memory();
        for (mailbox, start) in reader.mailboxes() {
            memory.index.sent(mailbox, after.max(start), upto, now, reader.passed());
        }
        drop(memory);
        if self.metrics.live.receipts.is_watched() {
            self.show_written(reader, after, upto);
        }
    }

    /// Shows what has been written to a connection to the ones who look on.
    fn show_written(&self, reader: &LogReader, after: MessageId, upto: MessageId) {
        let (user, client) = reader.reader();
        let mut events = Vec::new();
        let memory = self.changes.memory();
        for (mailbox, start) in reader.mailboxes() {
            let written = memory.index.senders(mailbox, after.max(start), upto);
            let written = written.filter(|(id, _)| reader.passed().binary_search(id).is_err());
            events
                .extend(written.map(|(id, sender)| ReceiptEvent::of_client(id, mailbox, sender, "sent", (user, client.clone()))));
        }
        drop(memory);
        events.into_iter().for_each(|event| self.metrics.live.receipts.publish(event));
    }

    /// Returns whether a connection starts with one message in flight: the last one of its reader ended with nothing proved.
    pub fn is_cautious(&self, reader: &LogReader) -> bool {
        !reader.is_peek() && self.troubles.is_cautious(&reader.key())
    }

    /// Notes the end of a connection. A message at which the connections of its reader end again and again is passed over.
    pub fn connection_ended(&self, reader: &mut LogReader, ending: Ending) {
        if reader.is_peek() {
            return;
        }
        if let Some(message) = self.troubles.note(reader.key(), ending) {
            let (user, client) = reader.reader();
            tracing::warn!(%user, %client, message = message.0, "message passed over: the client's connections end at it");
            reader.pass(message);
            self.received(reader, message);
        }
    }

    /// The newest durable message.
    fn committed(&self) -> MessageId {
        MessageId(self.announcer.committed.load(Ordering::Acquire))
    }

    fn max_deliveries(&self) -> u16 {
        self.max_deliveries.load(Ordering::Relaxed)
    }

    /// Counts an acknowledgement of messages that were not in flight.
    pub fn strange_ack(&self) {
        self.metrics.mailbox.unmatched_acks.inc();
    }

    /// Expires messages, removes old history, saves the clock. Call it every second; `thorough` every minute and at the end.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sweep(&self, thorough: bool) -> Result<(), StoreError> {
        self.disk.check();
        self.shorten_history().await?;
        self.store.resize_block_cache(self.storage.message_cache_bytes(self.index_bytes()));
        if thorough {
            for _ in 0..MAX_SWEEP_OPERATIONS {
                let acks = self.acks.take();
                if acks.acks.is_empty() {
                    break;
                }
                let taken = acks.acks.clone();
                match self.changes.run(acks).await {
                    Ok(left) => self.acks.put_back(left),
                    // They may have been applied, which a repetition does not change.
                    Err(error) => {
                        self.acks.put_back(taken);
                        return Err(error);
                    }
                }
            }
            self.touch_readers().await?;
            self.save_clock().await?;
            self.changes.outcomes().remove_closed();
        } else {
            if !self.acks.is_empty() {
                self.acks.submit();
            }
            // A clock that was set: what is saved is wrong now.
            let clock = self.changes.clock();
            if !self.changes.is_shared() && clock.is_outdated(&clock.observe()) {
                self.save_clock().await?;
            }
        }
        for _ in 0..MAX_SWEEP_OPERATIONS {
            // Only where something is due: an idle box must not touch its disk every second.
            if !self.changes.memory().index.is_due(self.changes.clock().now()) || !self.changes.run(Expire {}).await? {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the clocks and saves them.
    async fn save_clock(&self) -> Result<(), StoreError> {
        if self.changes.is_shared() {
            return self.changes.run(Tick { observed: None }).await; // the clock is that of the log
        }
        let observed = self.changes.clock().observe();
        self.changes.run(Tick { observed: Some(observed) }).await?;
        self.changes.clock().accept(self.store.trees(), &observed)
    }

    /// Notes that the readers which are online are in use.
    async fn touch_readers(&self) -> Result<(), StoreError> {
        let mut online = self.hub.presence().readers();
        let now = self.changes.clock().now();
        online.retain(|(user, client)| self.changes.memory().index.must_join(*user, client, now));
        for readers in online.chunks(MAX_TOUCHED_READERS) {
            self.changes.run(TouchReaders { readers: readers.to_vec() }).await?;
        }
        Ok(())
    }

    /// Returns up to `limit` readers of a user whose names are behind `after`, in the order of their names.
    pub fn readers(&self, user: UserId, after: &str, limit: usize) -> Vec<Listed> {
        let now = self.changes.clock().now();
        self.changes.memory().index.readers(user, after, limit, now)
    }

    /// Returns the number of messages that wait to be written to a connection, up to [`MAX_LAG`].
    pub fn lag(&self, connection: &Connection) -> usize {
        let (now, at) = (self.changes.clock().now(), MessageId(connection.position().load(Ordering::Relaxed)));
        let reader = (connection.identity.user_id, connection.reader.as_ref());
        let memory = self.changes.memory();
        connection.mailboxes().fold(0, |lag, to| lag + memory.index.waiting_above(to, reader, at, now, MAX_LAG - lag))
    }

    /// Forgets a reader of a user, whose connections are closed.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none of that name; else when the store fails.
    pub async fn forget_reader(&self, user: UserId, client: ClientName) -> Result<(), StoreError> {
        self.changes.run(ForgetReader { user, client }).await
    }

    /// Returns whether a user has a reader of that name.
    pub fn has_reader(&self, user: UserId, client: &ClientName) -> bool {
        self.changes.memory().index.has_reader(user, client)
    }

    /// The number of readers.
    pub fn reader_count(&self) -> usize {
        self.changes.memory().index.reader_count()
    }

    /// The number of receipts.
    pub fn receipt_count(&self) -> usize {
        self.changes.memory().index.receipts.len()
    }

    /// Takes back a message that no reader has received.
    ///
    /// # Errors
    /// [`CancelError::NotWaiting`]; else when the store fails.
    pub async fn cancel(&self, recipient: Recipient, id: MessageId) -> Result<(), CancelError> {
        self.changes.run(Cancel { recipient, id }).await
    }

    /// Returns the size of a mailbox; that of a user includes its share of the broadcasts.
    pub fn size(&self, recipient: Recipient) -> Size {
        let now = self.changes.clock().now();
        self.changes.memory().index.size(recipient, now)
    }

    /// Returns the number of mailboxes with pending messages, and their sizes together.
    pub fn total(&self) -> (usize, Size) {
        self.changes.memory().index.total()
    }

    /// Returns the number of readers of a mailbox: of a user's, its clients; of the broadcasts, those of all users.
    pub fn readers_of(&self, recipient: Recipient) -> usize {
        self.changes.memory().index.readers_of(recipient)
    }

    /// Returns the sizes of up to `limit` mailboxes with pending messages, behind `after` in the order of recipients.
    pub fn sizes(&self, after: Option<Recipient>, limit: usize) -> Vec<(Recipient, Size)> {
        let now = self.changes.clock().now();
        self.changes.memory().index.sizes(after, limit, now)
    }

    /// Clears a mailbox, or all: what waits there is not delivered. Returns the number of messages.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn clear(&self, recipient: Option<Recipient>) -> Result<usize, StoreError> {
        if let Some(recipient) = recipient {
            return self.clear_one(recipient).await;
        }
        // The broadcasts first: they are in every user's share. One operation a mailbox, so that none takes long.
        let waiting = self.sizes(None, usize::MAX);
        let mut count = 0;
        for recipient in waiting.into_iter().rev().map(|(recipient, _)| recipient) {
            count += self.clear_one(recipient).await?;
        }
        Ok(count)
    }

    async fn clear_one(&self, recipient: Recipient) -> Result<usize, StoreError> {
        // As many as there are now: others can be sent as fast as these are cleared.
        let (waiting, mut count) = (self.size(recipient).messages, 0);
        loop {
            let (cleared, left) = self.changes.run(Clear { recipient }).await?;
            count += cleared;
            if !left || count >= waiting {
                return Ok(count);
            }
        }
    }
}
