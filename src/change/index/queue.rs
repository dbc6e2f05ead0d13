//! The messages of one mailbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::Head;

/// The moments of sending that are kept for a mailbox, for receipts; older ones are merged.
const MAX_SENT_MOMENTS: usize = 16;

/// A message that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// End of its life, in seconds of the service clock.
    pub(super) expires: u32,
    /// Bytes of payload.
    pub(super) bytes: u32,
    /// The time at which a reader received it first, in seconds of the service clock; 0: none has.
    pub(super) received: u32,
    /// The number of connections that it was written to.
    pub(super) deliveries: u16,
    /// Its time to live, in seconds.
    ttl: u32,
    /// Its sender.
    pub(super) sender: UserId,
    /// The time at which it was accepted, in microseconds since 1970.
    created: i64,
}

impl Entry {
    /// An entry of a message that a reader received first at `received`, in seconds of the service clock; 0: none has.
    pub(super) fn new(head: &Head, received: u64) -> Self {
        let &Head { sender, expires, ttl, created, length, .. } = head;
        let (expires, received) = (short(expires), short(received));
        Self { expires, bytes: length, received, deliveries: 0, ttl, sender, created: created.unix_micros() }
    }

    /// Returns the message without its payload.
    pub(super) fn head(&self, recipient: Recipient, id: MessageId) -> Head {
        let &Self { expires, bytes, ttl, sender, created, .. } = self;
        let created = Timestamp::from_unix_micros(created);
        Head { id, recipient, sender, expires: expires.into(), ttl, created, length: bytes }
    }

    /// Returns whether a reader has received it.
    pub(super) fn is_received(&self) -> bool {
        self.received > 0
    }

    /// Returns whether its life has ended by `now`.
    pub(super) fn is_over(&self, now: u64) -> bool {
        u64::from(self.expires) <= now
    }
}

/// One mailbox.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: BTreeMap<MessageId, Entry>,
    /// The number of messages that no reader has received.
    pub(super) pending: usize,
    /// Bytes of their payloads.
    pub(super) bytes: u64,
    /// Bytes of the payloads of the others.
    pub(super) kept_bytes: u64,
    /// Those of them that a reader has gone past: it has passed over them, or they were not for it. The others still have to.
    pub(super) below_front: BTreeSet<MessageId>,
    /// Ids up to which messages were written to a connection, with the time.
    sent: VecDeque<(MessageId, Timestamp)>,
    /// Nothing of this mailbox is due before this moment.
    pub(super) due: Option<u64>,
}

/// Returns the ids above `after` up to and including `upto`; an empty range where there is none.
pub(super) fn above(after: MessageId, upto: MessageId) -> RangeInclusive<MessageId> {
    if after < upto { MessageId(after.0 + 1)..=upto } else { MessageId(1)..=MessageId(0) }
}

/// Returns `seconds` in the short form of the entries.
pub(super) fn short(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

impl Queue {
    /// Adds a message.
    pub(super) fn insert(&mut self, id: MessageId, entry: Entry) {
        if !entry.is_received() {
            self.pending += 1;
            self.bytes += u64::from(entry.bytes);
        } else {
            self.kept_bytes += u64::from(entry.bytes);
        }
        self.entries.insert(id, entry);
    }

    /// Removes a message.
    pub(super) fn remove(&mut self, id: MessageId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if !entry.is_received() {
            self.pending -= 1;
            self.bytes -= u64::from(entry.bytes);
            self.below_front.remove(&id);
        } else {
            self.kept_bytes -= u64::from(entry.bytes);
        }
        Some(entry)
    }

    /// Marks a message that is there as received at `now`.
    pub(super) fn receive(&mut self, id: MessageId, now: u64) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.is_received()) else { return };
        entry.received = short(now).max(1);
        self.pending -= 1;
        self.bytes -= u64::from(entry.bytes);
        self.kept_bytes += u64::from(entry.bytes);
        self.below_front.remove(&id);
    }

    /// Returns the number of messages that some reader has received.
    pub(super) fn received(&self) -> usize {
        self.entries.len() - self.pending
    }

    /// Returns the oldest message that some reader has received.
    pub(super) fn oldest_received(&self) -> Option<(MessageId, Entry)> {
        if self.received() == 0 {
            return None;
        }
        self.entries.iter().find(|(_, entry)| entry.is_received()).map(|(&id, &entry)| (id, entry))
    }

    /// Returns the oldest message that no reader has received.
    pub(super) fn oldest_pending(&self) -> Option<MessageId> {
        if self.pending == 0 {
            return None;
        }
        self.entries.iter().find(|(_, entry)| !entry.is_received()).map(|(&id, _)| id)
    }

    /// Returns the newest message.
    pub(super) fn newest(&self) -> MessageId {
        self.entries.last_key_value().map_or(MessageId(0), |(&id, _)| id)
    }

    /// Returns the messages above `after` up to `upto`.
    pub(super) fn range(&self, after: MessageId, upto: MessageId) -> impl DoubleEndedIterator<Item = (MessageId, Entry)> + '_ {
        let range = above(after, upto);
        let found = (range.start() <= range.end()).then(|| self.entries.range(range));
        found.into_iter().flatten().map(|(&id, &entry)| (id, entry))
    }

    /// Returns the number of messages above `after` that are alive at `now`.
    pub(super) fn waiting(&self, after: MessageId, now: u64) -> usize {
        self.range(after, MessageId(u64::MAX)).filter(|(_, entry)| !entry.is_over(now)).count()
    }

    /// Returns the time at which the next of the messages that no reader has received expires.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.entries.values().filter(|entry| !entry.is_received()).map(|entry| u64::from(entry.expires)).min()
    }

    /// Notes that the messages above `after` up to `upto`, but the `passed` ones, have been written to a connection at `when`.
    pub(super) fn sent(&mut self, after: MessageId, upto: MessageId, when: Timestamp, passed: &[MessageId]) {
        let range = above(after, upto);
        if range.start() > range.end() {
            return;
        }
        let mut any = false;
        for (_, entry) in self.entries.range_mut(range).filter(|(id, _)| passed.binary_search(id).is_err()) {
            entry.deliveries = entry.deliveries.saturating_add(1);
            any = true;
        }
        if any && self.sent.back().is_none_or(|&(last, _)| last < upto) {
            if self.sent.len() == MAX_SENT_MOMENTS {
                self.sent.pop_front();
            }
            self.sent.push_back((upto, when));
        }
    }

    /// Returns the time at which a message was first written to a connection.
    pub(super) fn sent_at(&self, id: MessageId) -> Option<Timestamp> {
        let written = self.entries.get(&id).is_some_and(|entry| entry.deliveries > 0);
        self.sent.iter().find(|&&(upto, _)| written && id <= upto).map(|&(_, when)| when)
    }
}
