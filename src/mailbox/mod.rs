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
//! - **The cursor moves only over received messages.** Everything up to it, in that mailbox, has been written in order to one
//!   connection and acknowledged by it.
//! - **Bounded.** A full mailbox refuses; nothing is dropped.
//!
//! Changes of durable state are in [`change`](crate::change); this is the service on top of them. `message` holds messages and
//! receipts, `reader` is one session's place in the log, `disk` watches the free space.

mod disk;
mod message;
#[cfg(test)]
mod model;
mod reader;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::change::{Acknowledge, Append, AppendError, Appended, Changes, Clear, DeliveryState, Expire, Settings, Tick};
use crate::config::Config;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Hub};
use crate::store::{Reader, Store, StoreError, Stored};
use crate::telemetry::metrics::{Metrics, Refused};
use disk::DiskSpace;

pub use crate::change::{IdempotencyKey, Outcome, OutcomeSender, Size};
pub use message::{Accepted, Outgoing, Receipt, Status};
pub use reader::{LogReader, Welcome};

/// The reason for which a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The recipient has as many pending messages as it may.
    #[error("the mailbox is full")]
    Full,
    /// The disk has too little free space to accept anything safely.
    #[error("the disk is nearly full")]
    DiskLow,
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
            AppendError::KeyReused => Self::KeyReused,
            AppendError::Store(error) => Self::Store(error),
        }
    }
}

/// Acknowledgements on their way to the writer thread: for each reader the highest id, and the id at which a user without a cursor
/// begins.
#[derive(Default)]
struct PendingAcks {
    acks: Mutex<HashMap<Reader, (MessageId, MessageId)>>,
    /// Set while an operation that takes them is queued.
    submitted: AtomicBool,
}

impl PendingAcks {
    fn take(&self) -> Acknowledge {
        // First the flag: an acknowledgement that comes from here on submits anew.
        self.submitted.store(false, Ordering::Release);
        let taken = std::mem::take(&mut *self.acks.lock());
        let mut acks: Vec<_> = taken.into_iter().map(|(reader, (upto, joined))| (reader, upto, joined)).collect();
        acks.sort_unstable();
        Acknowledge { acks }
    }
}

/// The mailbox service.
pub struct Mailbox {
    store: Store,
    changes: Changes,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    disk: DiskSpace,
    acks: Arc<PendingAcks>,
    /// The newest durable id: readers look no further.
    committed: Arc<AtomicU64>,
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
        let committed = changes.memory().newest_loaded.0;
        Self {
            store,
            changes,
            hub,
            metrics,
            disk: DiskSpace::new(&config.server.data_dir, config.storage.min_free_bytes),
            acks: Arc::default(),
            committed: Arc::new(AtomicU64::new(committed)),
            ttl: AtomicU64::new(config.mailbox.ttl),
        }
    }

    /// Applies other limits. History beyond them is removed by the next sweep; pending messages stay until they expire.
    pub fn reload(&self, config: &Config) {
        self.ttl.store(config.mailbox.ttl, Ordering::Relaxed);
        let settings = settings(config);
        if !self.changes.defer(move || settings) {
            tracing::warn!("mailbox limits not applied: the store accepts no writes; reload again");
        }
    }

    /// Returns whether the disk has space enough to accept messages.
    pub fn disk_ok(&self) -> bool {
        self.disk.ok()
    }

    /// Queues a message: returns once it is on disk and announced.
    ///
    /// # Errors
    /// [`MailboxError`]; except for [`MailboxError::Store`], nothing has been stored then.
    pub async fn send(&self, message: Outgoing) -> Result<Accepted, MailboxError> {
        // The check costs a microsecond, and a fast writer fills a small disk within the second between two sweeps.
        self.disk.check();
        if !self.disk.ok() {
            self.metrics.refused.inc(Refused::DiskLow);
            return Err(MailboxError::DiskLow);
        }
        let Outgoing { recipient, sender, object, ttl, key, watcher } = message;
        let ttl = ttl.unwrap_or_else(|| self.ttl.load(Ordering::Relaxed));
        let (hub, committed, metrics) = (self.hub.clone(), self.committed.clone(), self.metrics.clone());
        let changes = self.changes.clone();
        let announce = move |appended: &mut Appended| {
            let Some(payload) = appended.payload.take() else { return };
            if let Some(watcher) = watcher {
                changes.outcomes().watch(recipient, appended.id, watcher); // before anyone can acknowledge it
                // A later operation of the same commit, such as the deletion of the recipient, may have removed it already.
                if !changes.memory().index.is_pending(recipient, appended.id) {
                    changes.outcomes().expired(recipient, appended.id);
                }
            }
            // Committed before it is announced: a session that receives the announcement can read the message.
            committed.fetch_max(appended.id.0, Ordering::AcqRel);
            appended.recipients = hub.publish(Arc::new(Announcement::new(recipient, Some(appended.id), payload)));
            metrics.mailbox.accepted.inc();
        };
        let operation = Append { recipient, sender, object, ttl, key };
        let outcome = self.changes.run_then(operation, announce).await.map_err(MailboxError::from);
        if matches!(outcome, Err(MailboxError::Full)) {
            self.metrics.refused.inc(Refused::MailboxFull);
        }
        let Appended { id, recipients, repeated, .. } = outcome?;
        Ok(Accepted { id, recipients, repeated })
    }

    /// Notes that a connection has received everything up to `upto` for each of `readers`; `joined` is the id at which a user
    /// without a cursor begins. Reaches the disk within a second or so: after a crash before that, messages are delivered again.
    pub fn received(&self, readers: &[Reader], upto: MessageId, joined: MessageId) {
        let mut acks = self.acks.acks.lock();
        for &reader in readers {
            let entry = acks.entry(reader).or_insert((upto, joined));
            entry.0 = entry.0.max(upto);
        }
        drop(acks);
        self.submit_acks();
    }

    fn submit_acks(&self) {
        if self.acks.submitted.swap(true, Ordering::AcqRel) {
            return;
        }
        let acks = self.acks.clone();
        if !self.changes.defer(move || acks.take()) {
            // The queue is full: the next acknowledgement or the next sweep tries again.
            self.acks.submitted.store(false, Ordering::Release);
        }
    }

    /// Notes that everything up to `upto` has been written to a connection.
    pub fn written(&self, readers: &[Reader], upto: MessageId) {
        let now = Timestamp::now();
        let mut memory = self.changes.memory();
        for reader in readers {
            memory.index.sent(reader.recipient(), upto, now);
        }
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
        if thorough {
            let acks = self.acks.take();
            if !acks.acks.is_empty() {
                self.changes.run(acks).await?;
            }
            self.changes.run(Tick {}).await?;
            self.changes.outcomes().remove_closed();
            return Ok(());
        }
        if !self.acks.acks.lock().is_empty() {
            self.submit_acks();
        }
        // Only where something is due: an idle box must not touch its disk every second.
        if self.changes.memory().index.is_due(self.changes.clock().now()) {
            self.changes.defer(|| Expire {});
        }
        Ok(())
    }

    /// Returns the receipt of a message.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipt(&self, id: MessageId) -> Result<Option<Receipt>, StoreError> {
        if id.0 > self.committed.load(Ordering::Acquire) {
            return Ok(None);
        }
        let log = self.store.log();
        // The index first: a message that it calls gone is gone, or marked as expired, in the log that is read after it.
        let Some(recipient) = log.recipient(id)? else { return Ok(None) };
        let state = self.changes.memory().index.delivery_state(recipient, id);
        let Some((_, Stored { head, .. })) = log.get(id)? else { return Ok(None) };
        let (received, received_at) = match recipient {
            Recipient::All => (Some(self.listeners_who_have(id)?), None),
            _ => (None, log.received_at(recipient, id)?.map(|when| when.wall)),
        };
        let status = match state {
            _ if head.expired => Status::Expired,
            // Removed from the index a moment ago, and not yet marked in the log: it was not received.
            DeliveryState::Gone => Status::Expired,
            DeliveryState::Queued => Status::Queued,
            DeliveryState::Sent(when) => Status::Sent(when),
            DeliveryState::Received => Status::Acked(received_at),
        };
        let (now, end) = (self.changes.clock().now(), head.expires);
        let expires_at = match end.checked_sub(now) {
            Some(left) => Timestamp::now().plus_seconds(left),
            None => Timestamp::now().minus(std::time::Duration::from_secs(now - end)),
        };
        Ok(Some(Receipt { recipient, head, status, expires_at, received }))
    }

    /// Returns the number of users that a broadcast was for and that have received it.
    fn listeners_who_have(&self, id: MessageId) -> Result<usize, StoreError> {
        let users: Vec<_> = self.store.log().listeners().collect::<Result<_, _>>()?;
        let memory = self.changes.memory();
        let has =
            |&(user, joined): &(UserId, MessageId)| joined < id && memory.index.cursor(Reader::Broadcasts(user), joined) >= id;
        Ok(users.iter().filter(|user| has(user)).count())
    }

    /// Returns up to `limit` messages above `since` that are still there, of any of `recipients`, in id order, and whether there
    /// are more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn history(&self, recipients: &[Recipient], since: MessageId, limit: usize) -> Result<(Vec<Stored>, bool), StoreError> {
        let upto = MessageId(self.committed.load(Ordering::Acquire));
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

    /// Returns the size of a mailbox.
    pub fn size(&self, recipient: Recipient) -> Size {
        self.changes.memory().index.size(recipient)
    }

    /// Returns the number of mailboxes with pending messages, and their sizes together.
    pub fn total(&self) -> (usize, Size) {
        self.changes.memory().index.total()
    }

    /// Returns the sizes of up to `limit` mailboxes with pending messages, behind `after` in the order of recipients.
    pub fn sizes(&self, after: Option<Recipient>, limit: usize) -> Vec<(Recipient, Size)> {
        self.changes.memory().index.sizes(after, limit)
    }

    /// Returns the time at which a message was accepted, if it is still there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn taken_at(&self, id: MessageId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.store.log().get(id)?.map(|(_, message)| message.head.created))
    }

    /// Removes the pending messages of a mailbox, or of all; returns their number.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn clear(&self, recipient: Option<Recipient>) -> Result<usize, StoreError> {
        self.changes.run(Clear { recipient }).await
    }
}
