//! Proofs of receipt on their way to the writer thread, and the live connections that have not passed every message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::change::{Ack, Acknowledge, Changes, MAX_OPERATION_MESSAGES, Riders};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::map::IdMap;

/// The time for which the place of the slowest connection is taken for that of the broadcasts: finding it looks at all connections.
const BROADCAST_POSITION_LIFE: Duration = Duration::from_millis(100);

/// The proofs of one reader are merged until they are applied.
pub(super) type Reader = (UserId, ClientName, Option<DeviceId>);

/// The time that a proof waits for a commit that is made anyway, before it causes one.
const MAX_WAIT: Duration = Duration::from_millis(10);

/// Proofs by their readers.
#[derive(Default)]
struct Waiting {
    acks: BTreeMap<Reader, Ack>,
    /// The last reader whose proof was taken: the next one is the first to be taken.
    last: Option<Reader>,
}

impl Waiting {
    fn take(&mut self) -> Vec<Ack> {
        if self.acks.len() <= MAX_OPERATION_MESSAGES {
            self.last = None;
            return std::mem::take(&mut self.acks).into_values().collect();
        }
        let readers: Vec<Reader> = match self.last.take() {
            None => self.acks.keys().take(MAX_OPERATION_MESSAGES).cloned().collect(),
            Some(last) => {
                let following = self.acks.range((Bound::Excluded(&last), Bound::Unbounded));
                let others = self.acks.range(..=&last);
                following.chain(others).map(|(reader, _)| reader).take(MAX_OPERATION_MESSAGES).cloned().collect()
            }
        };
        self.last = readers.last().cloned();
        readers.iter().filter_map(|reader| self.acks.remove(reader)).collect()
    }
}

/// Proofs of receipt that wait to be applied.
pub(super) struct PendingAcks {
    acks: Mutex<Waiting>,
    /// Set while a timer runs, or an operation that takes them is queued.
    submitted: AtomicBool,
    changes: Changes,
    /// The live connections.
    pub(super) live: Arc<Live>,
}

impl PendingAcks {
    pub(super) fn new(changes: Changes) -> Arc<Self> {
        let this = Arc::new(Self {
            acks: Mutex::default(),
            submitted: AtomicBool::new(false),
            changes: changes.clone(),
            live: Arc::default(),
        });
        changes.set_riders(Ride(Arc::downgrade(&this)));
        this
    }

    /// Adds a proof. It is applied with the next commit, or after [`MAX_WAIT`].
    pub(super) fn add(self: &Arc<Self>, ack: Ack) {
        self.merge(ack);
        if !self.submitted.swap(true, Ordering::AcqRel) {
            let this = Arc::downgrade(self); // not to keep the store open
            tokio::spawn(async move {
                tokio::time::sleep(MAX_WAIT).await;
                let Some(this) = this.upgrade() else { return };
                this.submitted.store(false, Ordering::Release);
                this.submit();
            });
        }
    }

    fn merge(&self, ack: Ack) {
        let acks = &mut self.acks.lock().acks;
        let reader = (ack.user, ack.client.clone(), ack.device);
        let Some(earlier) = acks.get_mut(&reader) else {
            acks.insert(reader, ack);
            return;
        };
        // A later proof of the same connection no longer names what an earlier one has passed over.
        let passed: BTreeSet<MessageId> = earlier.passed.iter().chain(&ack.passed).copied().collect();
        earlier.passed = passed.into_iter().collect();
        earlier.upto = ack.upto.max(earlier.upto);
        earlier.told = ack.told.max(earlier.told);
        earlier.told_broadcasts = ack.told_broadcasts.max(earlier.told_broadcasts);
    }

    /// Returns the id up to which a reader has proved everything, by a proof that waits.
    pub(super) fn proved_upto(&self, reader: &Reader) -> MessageId {
        self.acks.lock().acks.get(reader).map_or(MessageId(0), |ack| ack.upto)
    }

    /// Returns whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.acks.lock().acks.is_empty()
    }

    /// Takes as many of them as one operation can apply, those of all readers in turn.
    pub(super) fn take(&self) -> Acknowledge {
        let acks = self.acks.lock().take();
        let keep = self.live.positions(&acks);
        Acknowledge { acks, keep }
    }

    /// Puts back those that an operation has left.
    pub(super) fn put_back(&self, left: Vec<Ack>) {
        left.into_iter().for_each(|ack| self.merge(ack));
    }

    /// Queues an operation that takes them, where there are any and none is queued.
    pub(super) fn submit(self: &Arc<Self>) {
        if self.is_empty() || self.submitted.swap(true, Ordering::AcqRel) {
            return;
        }
        if !self.queue() {
            // The queue is full: the next proof or the next sweep tries again.
            self.submitted.store(false, Ordering::Release);
        }
    }

    /// Queues the operation; returns `false` when the queue is full.
    fn queue(self: &Arc<Self>) -> bool {
        #[cfg(feature = "cluster")]
        if self.changes.is_shared() {
            let taking = self.clone();
            return self.changes.send_riders(move || taking.submitted.store(false, Ordering::Release));
        }
        let (taking, left_over) = (self.clone(), self.clone());
        let make = move || {
            // First the flag: a proof that comes from here on submits anew.
            taking.submitted.store(false, Ordering::Release);
            taking.take()
        };
        let then = move |left: Vec<Ack>| {
            left_over.put_back(left);
            left_over.submit();
        };
        self.changes.defer(make, then)
    }
}

/// The proofs that ride along with commits.
struct Ride(Weak<PendingAcks>);

impl Riders for Ride {
    fn take(&self) -> Option<Acknowledge> {
        let acks = self.0.upgrade().filter(|acks| !acks.is_empty())?;
        let taken = acks.take();
        if taken.acks.len() >= MAX_OPERATION_MESSAGES {
            acks.submit(); // the others
        }
        Some(taken)
    }

    fn put_back(&self, left: Vec<Ack>) {
        if let Some(acks) = self.0.upgrade().filter(|_| !left.is_empty()) {
            acks.put_back(left);
            acks.submit();
        }
    }

    #[cfg(feature = "cluster")]
    fn keep(&self, refused: Vec<Ack>) {
        if let Some(acks) = self.0.upgrade() {
            acks.put_back(refused); // the next proof or the next sweep tries again
        }
    }
}

/// The position of a connection: everything up to there it has taken over to be written.
pub(super) type Position = Arc<AtomicU64>;

/// The positions of the live connections, by mailbox.
#[derive(Debug, Default)]
pub(super) struct Live {
    connections: Mutex<IdMap<Recipient, IdMap<u64, Position>>>,
    next: AtomicU64,
    broadcasts: Mutex<Option<(Instant, Option<MessageId>)>>,
}

impl Live {
    /// Adds a connection that reads these mailboxes.
    pub(super) fn join(self: &Arc<Self>, mailboxes: Vec<Recipient>, position: Position) -> Joined {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = self.connections.lock();
        for &mailbox in &mailboxes {
            connections.entry(mailbox).or_default().insert(number, position.clone());
        }
        drop(connections);
        *self.broadcasts.lock() = None; // it may stand behind all others
        Joined { live: self.clone(), number, mailboxes }
    }

    fn slowest(&self, mailbox: Recipient) -> Option<MessageId> {
        let connections = self.connections.lock();
        let positions = connections.get(&mailbox)?.values().map(|position| position.load(Ordering::Acquire));
        positions.min().map(MessageId)
    }

    /// Returns the position of the slowest connection for each mailbox that `acks` concern.
    fn positions(&self, acks: &[Ack]) -> Vec<(Recipient, Option<MessageId>)> {
        let mailboxes = acks.iter().flat_map(|ack| [Some(Recipient::User(ack.user)), ack.device.map(Recipient::Device)]);
        let mut mailboxes: Vec<Recipient> = mailboxes.flatten().collect();
        mailboxes.sort_unstable();
        mailboxes.dedup();
        let mut keep: Vec<_> = mailboxes.into_iter().map(|mailbox| (mailbox, self.slowest(mailbox))).collect();
        if !acks.is_empty() {
            // Positions only move forward, and a new connection voids the one that is remembered.
            let mut remembered = self.broadcasts.lock();
            let fresh = remembered.filter(|(at, _)| at.elapsed() < BROADCAST_POSITION_LIFE);
            let (_, slowest) = *remembered.insert(fresh.unwrap_or_else(|| (Instant::now(), self.slowest(Recipient::All))));
            keep.push((Recipient::All, slowest));
        }
        keep
    }
}

/// A live connection; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Joined {
    live: Arc<Live>,
    number: u64,
    mailboxes: Vec<Recipient>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut connections = self.live.connections.lock();
        for mailbox in &self.mailboxes {
            if let Some(positions) = connections.get_mut(mailbox) {
                positions.remove(&self.number);
                if positions.is_empty() {
                    connections.remove(mailbox);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn merged_proofs_keep_what_was_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(&dir.path().join("store")).unwrap();
        let settings = crate::mailbox::settings(&crate::config::Config::default());
        let changes = Changes::open(store, settings, crate::telemetry::metrics::Metrics::new(Arc::default())).unwrap();
        let acks = PendingAcks::new(changes);
        let ack = |upto, passed: &[u64]| Ack {
            user: UserId(1),
            client: ClientName::default(),
            device: None,
            upto: MessageId(upto),
            told: MessageId(0),
            told_broadcasts: MessageId(0),
            passed: passed.iter().map(|&id| MessageId(id)).collect(),
        };
        for ack in [ack(10, &[5]), ack(20, &[15]), ack(12, &[])] {
            acks.merge(ack);
        }
        assert_eq!(acks.proved_upto(&(UserId(1), ClientName::default(), None)), MessageId(20));
        assert_eq!(acks.take().acks, [ack(20, &[5, 15])]);
    }

    #[test]
    fn slowest_connection_determines_what_is_kept() {
        let live = Arc::new(Live::default());
        let user = Recipient::User(UserId(1));
        let position = |at| Arc::new(AtomicU64::new(at));
        let (fast, slow) = (position(9), position(3));
        let _fast = live.join(vec![user, Recipient::All], fast);
        let second = live.join(vec![user, Recipient::All], slow.clone());
        let ack = Ack {
            user: UserId(1),
            client: ClientName::default(),
            device: None,
            upto: MessageId(9),
            told: MessageId(0),
            told_broadcasts: MessageId(0),
            passed: vec![],
        };
        assert_eq!(
            live.positions(std::slice::from_ref(&ack)),
            [(user, Some(MessageId(3))), (Recipient::All, Some(MessageId(3)))]
        );
        slow.store(5, Ordering::Release);
        assert_eq!(live.positions(std::slice::from_ref(&ack))[0], (user, Some(MessageId(5))));
        drop(second);
        assert_eq!(live.positions(&[ack])[0], (user, Some(MessageId(9))));
        assert_eq!(live.positions(&[]), []);
    }
}
