//! The removal of messages that are of no use any more.

use std::collections::BTreeSet;

use super::queue::Queue;
use super::{Effects, Index, MAX_OPERATION_MESSAGES};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::store::{EndState, Missed, PageNumber, ReaderPlace};

/// The most entries of missed messages in a place; beyond that the two oldest are merged.
const MAX_MISSED_ENTRIES: usize = 256;
/// The most mailboxes that one sweep looks at.
const MAX_SWEPT_MAILBOXES: usize = 4096;

impl Index {
    /// Returns whether a mailbox keeps more received messages than it may, beside `protected` ones of so many bytes.
    pub(super) fn has_long_history(&self, queue: &Queue, protected: usize, bytes: u64) -> bool {
        let many = queue.received().saturating_sub(protected) > self.history.messages;
        many || self.limits.bytes > 0 && queue.kept_bytes.saturating_sub(bytes) > self.limits.bytes
    }

    /// Returns the oldest received message that is kept for readers or live connections that have not passed it, and the number and the
    /// bytes of messages that are: as many as a mailbox may hold.
    fn protected(&self, recipient: Recipient) -> Option<(MessageId, usize, u64)> {
        let place = self.places.get(&recipient);
        let front = place.map_or(MessageId(0), |place| place.front);
        let keep = place.and_then(|place| place.keep);
        let reached = self.reached(recipient).min(keep.unwrap_or(MessageId(u64::MAX)));
        let queue = self.queues.get(&recipient).filter(|_| reached < front)?;
        let (mut oldest, mut count, mut bytes) = (None, 0, 0_u64);
        for (id, entry) in queue.range(reached, front).rev().filter(|(_, entry)| entry.is_received()) {
            let all = bytes + u64::from(entry.bytes);
            let many = self.limits.messages > 0 && count >= self.limits.messages;
            let large = self.limits.bytes > 0 && count > 0 && all > self.limits.bytes;
            if many || large {
                break;
            }
            (oldest, count, bytes) = (Some(id), count + 1, all);
        }
        oldest.map(|oldest| (oldest, count, bytes))
    }

    /// Removes received messages that have been kept for long enough, or are too many, the oldest first; those that some reader
    /// still has to receive only beyond the bound of the mailbox.
    pub(super) fn trim(&mut self, recipient: Recipient, now: u64, effects: &mut Effects) {
        let aged = |received: u32, retain: u64| u64::from(received) + retain <= now;
        let Some(queue) = self.queues.get(&recipient) else { return };
        let Some((_, oldest)) = queue.oldest_received() else { return };
        if !self.has_long_history(queue, 0, 0) && !aged(oldest.received, self.history.retain) {
            return;
        }
        let (first, count, bytes) = self.protected(recipient).unwrap_or((MessageId(u64::MAX), 0, 0));
        while let Some(queue) = self.queues.get(&recipient)
            && let Some((id, entry)) = queue.oldest_received()
        {
            let needed = id >= first && !entry.is_over(now);
            let many = self.has_long_history(queue, count, bytes);
            if needed || !(many || aged(entry.received, self.history.retain)) {
                return;
            }
            if effects.removed.len() >= MAX_OPERATION_MESSAGES {
                effects.more = true;
                return self.schedule(recipient, now);
            }
            let missed = !entry.is_over(now) && self.misses(recipient, id);
            if missed {
                self.note_missed(recipient, id);
                effects.missed += 1;
            }
            self.place_mut(recipient).trimmed = id;
            self.remove(recipient, id, effects);
        }
    }

    /// Adds a message to the missed ones of a mailbox. Entries that no reader can tell apart are one.
    fn note_missed(&mut self, recipient: Recipient, id: MessageId) {
        let last = self.places.get(&recipient).and_then(|place| place.missed.last()).copied();
        let apart = last.is_none_or(|last| self.mark_between(recipient, last.upto, id));
        let oldest = match recipient {
            Recipient::All => self.marks.first_key_value().map_or(MessageId(u64::MAX), |(&mark, _)| mark),
            _ => {
                let place = self.places.get(&recipient);
                let marks = place.into_iter().flat_map(|place| place.readers.iter().map(ReaderPlace::mark));
                marks.min().unwrap_or(MessageId(u64::MAX))
            }
        };
        let place = self.place_mut(recipient);
        place.missed.retain(|entry| entry.upto > oldest);
        match place.missed.last_mut() {
            Some(last) if !apart => *last = Missed { upto: id, count: last.count + 1 },
            _ => place.missed.push(Missed { upto: id, count: 1 }),
        }
        if place.missed.len() > MAX_MISSED_ENTRIES {
            let first = place.missed.remove(0);
            place.missed[0].count += first.count;
        }
    }

    /// Returns whether anything is due by `now`.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.first().is_some_and(|&(due, _)| due <= now) || self.removable_receipts(now).is_some()
    }

    /// Returns the next page of receipts to remove; where there are too many, with the number of those to remove of all pages.
    pub fn removable_receipts(&self, now: u64) -> Option<(PageNumber, Option<usize>)> {
        // Nothing ends before second 1: in the first seconds of a store no page is old.
        self.receipts.removable(now.saturating_sub(self.history.retain), self.history.receipts)
    }

    /// Expires messages whose life has ended by `now`, and removes history that has been kept for long enough; as many as one
    /// operation may.
    pub fn sweep(&mut self, now: u64) -> Effects {
        let mut effects = Effects::default();
        // By recipient: the times in the schedule depend on the past, and the order of the effects must not.
        let due = self.due.range(..(now + 1, Recipient::User(UserId(0)))).take(MAX_SWEPT_MAILBOXES);
        let due: BTreeSet<Recipient> = due.map(|&(_, recipient)| recipient).collect();
        for recipient in due {
            if effects.size() >= MAX_OPERATION_MESSAGES {
                break;
            }
            self.sweep_one(recipient, now, &mut effects);
        }
        effects.more |= self.due.first().is_some_and(|&(due, _)| due <= now);
        effects
    }

    fn sweep_one(&mut self, recipient: Recipient, now: u64, effects: &mut Effects) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        if let Some(due) = queue.due.take() {
            self.due.remove(&(due, recipient));
        }
        let over = queue.entries.iter().filter(|(_, entry)| !entry.is_received() && entry.is_over(now)).map(|(&id, _)| id);
        let over: Vec<MessageId> = over.take(MAX_OPERATION_MESSAGES).collect();
        let more = over.len() == MAX_OPERATION_MESSAGES;
        for id in over {
            self.end(recipient, id, EndState::Expired, effects);
        }
        self.trim(recipient, now, effects);
        let Some(queue) = self.queues.get(&recipient) else { return };
        if queue.entries.is_empty() {
            self.queues.remove(&recipient);
            return;
        }
        // A received message that is kept for a reader beyond its time in the history is kept until its life ends.
        let kept = queue.oldest_received().map(|(_, entry)| {
            let until = u64::from(entry.received) + self.history.retain;
            if until > now { until } else { u64::from(entry.expires).max(now + 1) }
        });
        if let Some(next) = queue.next_expiry().into_iter().chain(kept).min() {
            self.schedule(recipient, next.max(if more { now } else { now + 1 }));
        }
    }
}
