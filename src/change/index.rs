//! The mailboxes in memory: sizes, cursors, and the times at which something is due. No I/O.
//!
//! The index is a function of what is on disk: one that is loaded anew behaves as the one before. Only [`Index::sent`], for
//! receipts, is lost with the process.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::{Head, Reader};

/// A pending message.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// End of its life, in seconds of the service clock.
    expires: u32,
    bytes: u32,
}

/// The moments of sending that are kept for a mailbox, for receipts; older ones are merged.
const MAX_SENT_MOMENTS: usize = 16;

/// One mailbox.
#[derive(Debug, Default)]
struct Queue {
    cursor: MessageId,
    /// Above the cursor and alive. For broadcasts: alive.
    pending: BTreeMap<MessageId, Pending>,
    bytes: u64,
    /// History: received or expired, but still there, in the order of the time from which it is kept, then of the id.
    kept: VecDeque<(u64, MessageId)>,
    /// Ids up to which messages were written to a connection, with the time.
    sent: VecDeque<(MessageId, Timestamp)>,
    /// Nothing of this mailbox is due before this moment.
    due: Option<u64>,
}

impl Queue {
    /// Moves pending messages up to `upto` to the history, kept from `now` on; returns their number.
    fn keep_upto(&mut self, upto: MessageId, now: u64) -> usize {
        let pending = self.pending.split_off(&above(upto));
        let received = std::mem::replace(&mut self.pending, pending);
        let count = received.len();
        for (id, message) in received {
            self.bytes -= u64::from(message.bytes);
            self.keep(id, now);
        }
        count
    }

    /// Adds a message to the history, kept from `at` on.
    fn keep(&mut self, id: MessageId, at: u64) {
        let place = if self.kept.back().is_none_or(|last| *last < (at, id)) {
            self.kept.len()
        } else {
            self.kept.partition_point(|entry| *entry < (at, id))
        };
        self.kept.insert(place, (at, id));
    }
}

/// The size of a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Pending messages.
    pub messages: usize,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The oldest of them.
    pub oldest: Option<MessageId>,
}

/// Changes to the index that the log must follow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Messages to mark as expired.
    pub expired: Vec<(Recipient, MessageId)>,
    /// Messages to remove.
    pub purged: Vec<(Recipient, MessageId)>,
}

/// The error of a mailbox that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The state of a message that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is pending.
    Queued,
    /// It was written to a connection at this time.
    Sent(Timestamp),
    /// It was received.
    Received,
    /// It is pending no longer, and was not received.
    Gone,
}

/// All mailboxes.
#[derive(Debug)]
pub struct Index {
    limits: MailboxConfig,
    history: HistoryConfig,
    queues: HashMap<Recipient, Queue>,
    broadcasts: HashMap<UserId, MessageId>,
    due: BTreeSet<(u64, Recipient)>,
}

impl Index {
    /// An empty index.
    pub fn new(limits: MailboxConfig, history: HistoryConfig) -> Self {
        Self { limits, history, queues: HashMap::new(), broadcasts: HashMap::new(), due: BTreeSet::new() }
    }

    /// Applies other limits. Mailboxes whose history is too large by them are trimmed by the next sweep.
    pub fn reload(&mut self, limits: MailboxConfig, history: HistoryConfig, now: u64) {
        self.limits = limits;
        if self.history == history {
            return;
        }
        self.history = history;
        let with_history = self.queues.iter().filter(|(_, queue)| !queue.kept.is_empty()).map(|(&recipient, _)| recipient);
        for recipient in with_history.collect::<Vec<_>>() {
            self.schedule(recipient, now);
        }
    }

    /// Loads a cursor found on disk; all of them before any message.
    pub fn load_cursor(&mut self, reader: Reader, upto: MessageId) {
        match reader {
            Reader::Broadcasts(user) => drop(self.broadcasts.insert(user, upto)),
            Reader::User(_) | Reader::Device(_) => self.queues.entry(reader.recipient()).or_default().cursor = upto,
        }
    }

    /// Loads the mark of the newest broadcast that everybody has received; before any message.
    pub fn load_broadcasts_received(&mut self, upto: MessageId) {
        self.queues.entry(Recipient::All).or_default().cursor = upto;
    }

    /// Returns whether the message is history by the cursors loaded so far.
    fn is_history(&self, recipient: Recipient, head: &Head) -> bool {
        head.expired || self.queues.get(&recipient).is_some_and(|queue| head.id <= queue.cursor)
    }

    /// Loads a message found on disk; `received_at`, for a received one, is the time from which it is kept.
    pub fn load(&mut self, recipient: Recipient, head: &Head, received_at: u64) {
        if !self.is_history(recipient, head) {
            return self.append(recipient, head.id, head.expires, head.length);
        }
        let (limit, at) = (self.history.messages, if head.expired { head.expires } else { received_at });
        let queue = self.queues.entry(recipient).or_default();
        queue.keep(head.id, at);
        // More than may be kept, by limits that were lowered before the restart: the next sweep trims it.
        let due = if queue.kept.len() > limit { 0 } else { at + self.history.retain };
        self.schedule(recipient, due);
    }

    /// Checks that `recipient` has room for `bytes` more.
    pub fn room(&self, recipient: Recipient, bytes: usize) -> Result<(), Full> {
        let Some(queue) = self.queues.get(&recipient) else { return Ok(()) };
        let many = self.limits.messages > 0 && queue.pending.len() >= self.limits.messages;
        let large = self.limits.bytes > 0 && !queue.pending.is_empty() && queue.bytes + bytes as u64 > self.limits.bytes;
        if many || large { Err(Full) } else { Ok(()) }
    }

    /// Adds a message.
    pub fn append(&mut self, recipient: Recipient, id: MessageId, expires: u64, bytes: u32) {
        let queue = self.queues.entry(recipient).or_default();
        let short = u32::try_from(expires).unwrap_or(u32::MAX);
        queue.pending.insert(id, Pending { expires: short, bytes });
        queue.bytes += u64::from(bytes);
        self.schedule(recipient, expires);
    }

    /// Schedules `recipient` for a sweep no later than `when`.
    fn schedule(&mut self, recipient: Recipient, when: u64) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        if queue.due.is_none_or(|due| when < due) {
            if let Some(due) = queue.due.replace(when) {
                self.due.remove(&(due, recipient));
            }
            self.due.insert((when, recipient));
        }
    }

    /// Returns the cursor of `reader`; a user without one begins at `joined`.
    pub fn cursor(&self, reader: Reader, joined: MessageId) -> MessageId {
        match reader {
            Reader::Broadcasts(user) => self.broadcasts.get(&user).copied().unwrap_or(joined).max(joined),
            Reader::User(_) | Reader::Device(_) => self.queues.get(&reader.recipient()).map_or(MessageId(0), |q| q.cursor),
        }
    }

    /// Returns the number of messages pending for `reader`, whose cursor is at `cursor`.
    pub fn waiting(&self, reader: Reader, cursor: MessageId) -> usize {
        self.queues.get(&reader.recipient()).map_or(0, |q| q.pending.range(above(cursor)..).count())
    }

    /// Moves the cursor of `reader` to `upto`; returns the number of messages that it passed, or `None` when none is pending up to
    /// there or it has been there.
    pub fn receive(&mut self, reader: Reader, upto: MessageId, joined: MessageId, now: u64) -> Option<(usize, Effects)> {
        let cursor = self.cursor(reader, joined);
        let recipient = reader.recipient();
        let queue = self.queues.get_mut(&recipient)?;
        let received = if upto > cursor { queue.pending.range(above(cursor)..=upto).count() } else { 0 };
        if received == 0 {
            return None;
        }
        if let Reader::Broadcasts(user) = reader {
            self.broadcasts.insert(user, upto);
            return Some((received, Effects::default()));
        }
        queue.cursor = upto;
        queue.keep_upto(upto, now);
        let mut effects = Effects::default();
        self.trim(recipient, &mut effects);
        self.schedule(recipient, now + self.history.retain);
        Some((received, effects))
    }

    /// Removes history beyond the number to keep, the oldest first.
    fn trim(&mut self, recipient: Recipient, effects: &mut Effects) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        while queue.kept.len() > self.history.messages {
            let Some((_, id)) = queue.kept.pop_front() else { return };
            effects.purged.push((recipient, id));
        }
    }

    /// Returns whether anything is due by `now`.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.first().is_some_and(|&(due, _)| due <= now)
    }

    /// Expires messages whose life has ended by `now`, and removes history that has been kept for long enough.
    pub fn sweep(&mut self, now: u64) -> Effects {
        let mut effects = Effects::default();
        // By recipient: the times in the schedule depend on the past, and the order of the effects must not.
        let later = self.due.split_off(&(now.saturating_add(1), Recipient::User(UserId(0))));
        let due: BTreeSet<Recipient> =
            std::mem::replace(&mut self.due, later).into_iter().map(|(_, recipient)| recipient).collect();
        for recipient in due {
            let Some(queue) = self.queues.get_mut(&recipient) else { continue };
            queue.due = None;
            let over: Vec<(MessageId, Pending)> =
                queue.pending.iter().filter(|(_, m)| u64::from(m.expires) <= now).map(|(&id, &message)| (id, message)).collect();
            for (id, message) in over {
                queue.pending.remove(&id);
                queue.bytes -= u64::from(message.bytes);
                queue.keep(id, message.expires.into());
                effects.expired.push((recipient, id));
            }
            while let Some(&(at, id)) = queue.kept.front()
                && at + self.history.retain <= now
            {
                queue.kept.pop_front();
                effects.purged.push((recipient, id));
            }
            let expires = queue.pending.values().map(|m| u64::from(m.expires)).min();
            let keep = queue.kept.front().map(|(at, _)| at + self.history.retain);
            let next = expires.into_iter().chain(keep).min();
            self.trim(recipient, &mut effects);
            if let Some(next) = next {
                self.schedule(recipient, next);
            }
        }
        effects
    }

    /// Moves the broadcasts that every one of `users` has received to the history; returns the newest of them, or `None` when
    /// there is none that was pending.
    pub fn free_broadcasts(
        &mut self,
        users: impl Iterator<Item = (UserId, MessageId)>,
        now: u64,
    ) -> Option<(MessageId, Effects)> {
        let upto = users.map(|(user, joined)| self.cursor(Reader::Broadcasts(user), joined)).min()?;
        let queue = self.queues.get_mut(&Recipient::All)?;
        let newest = *queue.pending.range(..=upto).next_back()?.0;
        queue.cursor = newest;
        queue.keep_upto(newest, now);
        let mut effects = Effects::default();
        self.trim(Recipient::All, &mut effects);
        self.schedule(Recipient::All, now + self.history.retain);
        Some((newest, effects))
    }

    /// Removes the pending messages of `recipient`.
    pub fn clear(&mut self, recipient: Recipient) -> Effects {
        let Some(queue) = self.queues.get_mut(&recipient) else { return Effects::default() };
        queue.bytes = 0;
        let purged = std::mem::take(&mut queue.pending).into_keys().map(|id| (recipient, id)).collect();
        Effects { expired: Vec::new(), purged }
    }

    /// Removes `recipient` with everything that is there.
    pub fn forget(&mut self, recipient: Recipient) -> Effects {
        if let Recipient::User(user) = recipient {
            self.broadcasts.remove(&user);
        }
        let Some(queue) = self.queues.remove(&recipient) else { return Effects::default() };
        if let Some(due) = queue.due {
            self.due.remove(&(due, recipient));
        }
        let ids = queue.pending.into_keys().chain(queue.kept.into_iter().map(|(_, id)| id));
        Effects { expired: Vec::new(), purged: ids.map(|id| (recipient, id)).collect() }
    }

    /// Notes that everything up to `upto` has been written to a connection.
    pub fn sent(&mut self, recipient: Recipient, upto: MessageId, when: Timestamp) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        if queue.sent.back().is_none_or(|&(last, _)| last < upto) {
            if queue.sent.len() == MAX_SENT_MOMENTS {
                queue.sent.pop_front();
            }
            queue.sent.push_back((upto, when));
        }
    }

    /// Returns whether a message waits to be received.
    pub fn is_pending(&self, recipient: Recipient, id: MessageId) -> bool {
        self.queues.get(&recipient).is_some_and(|queue| queue.pending.contains_key(&id))
    }

    /// Returns the state of a message of `recipient` that is neither expired nor removed.
    pub fn delivery_state(&self, recipient: Recipient, id: MessageId) -> DeliveryState {
        let Some(queue) = self.queues.get(&recipient) else { return DeliveryState::Received };
        if !queue.pending.contains_key(&id) {
            let received = id <= queue.cursor || recipient == Recipient::All;
            return if received { DeliveryState::Received } else { DeliveryState::Gone };
        }
        queue.sent.iter().find(|&&(upto, _)| id <= upto).map_or(DeliveryState::Queued, |&(_, when)| DeliveryState::Sent(when))
    }

    /// Returns every recipient with a mailbox or a cursor over the broadcasts, in order.
    pub fn recipients(&self) -> Vec<Recipient> {
        let readers = self.broadcasts.keys().map(|&user| Recipient::User(user));
        self.queues.keys().copied().chain(readers).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the oldest message pending for `reader`, whose cursor is at `cursor`.
    pub fn oldest_waiting(&self, reader: Reader, cursor: MessageId) -> Option<MessageId> {
        self.queues.get(&reader.recipient())?.pending.range(above(cursor)..).next().map(|(&id, _)| id)
    }

    /// Returns the size of a mailbox.
    pub fn size(&self, recipient: Recipient) -> Size {
        self.queues.get(&recipient).map_or_else(Size::default, |q| Size {
            messages: q.pending.len(),
            bytes: q.bytes,
            oldest: q.pending.keys().next().copied(),
        })
    }

    /// Returns the number of mailboxes with pending messages, and their sizes together.
    pub fn total(&self) -> (usize, Size) {
        let mut total = (0, Size::default());
        for queue in self.queues.values().filter(|q| !q.pending.is_empty()) {
            total.0 += 1;
            total.1.messages += queue.pending.len();
            total.1.bytes += queue.bytes;
            total.1.oldest = total.1.oldest.into_iter().chain(queue.pending.keys().next().copied()).min();
        }
        total
    }

    /// Returns the sizes of up to `limit` mailboxes with pending messages, behind `after` in the order of recipients.
    pub fn sizes(&self, after: Option<Recipient>, limit: usize) -> Vec<(Recipient, Size)> {
        let mut waiting = self.waiting_recipients();
        waiting.retain(|&recipient| after.is_none_or(|after| recipient > after));
        waiting.into_iter().take(limit).map(|recipient| (recipient, self.size(recipient))).collect()
    }

    /// Returns the recipients with pending messages, in order.
    pub fn waiting_recipients(&self) -> Vec<Recipient> {
        let mut waiting: Vec<Recipient> = self.queues.iter().filter(|(_, q)| !q.pending.is_empty()).map(|(&r, _)| r).collect();
        waiting.sort_unstable();
        waiting
    }

    /// Returns the oldest message of `recipient` in history or pending: below it, receipts are of no use.
    pub fn oldest_kept(&self, recipient: Recipient) -> Option<MessageId> {
        let queue = self.queues.get(&recipient)?;
        queue.kept.iter().map(|&(_, id)| id).chain(queue.pending.keys().copied().take(1)).min()
    }
}

/// Returns the id after `id`.
fn above(id: MessageId) -> MessageId {
    MessageId(id.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Recipient = Recipient::User(UserId(1));
    const READER: Reader = Reader::User(UserId(1));
    const START: MessageId = MessageId(0);

    fn state(messages: usize, keep: usize) -> Index {
        let limits = MailboxConfig { messages, ..MailboxConfig::default() };
        Index::new(limits, HistoryConfig { retain: 100, messages: keep })
    }

    fn ids(effects: &[(Recipient, MessageId)]) -> Vec<u64> {
        effects.iter().map(|(_, id)| id.0).collect()
    }

    #[test]
    fn full_by_number_and_by_bytes() {
        let mut s = state(2, 10);
        s.append(ME, MessageId(1), 50, 10);
        assert_eq!(s.room(ME, 10), Ok(()));
        s.append(ME, MessageId(2), 50, 10);
        assert_eq!(s.room(ME, 0), Err(Full));
        assert_eq!(s.room(Recipient::All, 0), Ok(()));
        assert_eq!(s.receive(READER, MessageId(1), START, 5), Some((1, Effects::default())));
        assert_eq!(s.room(ME, 10), Ok(()));
        let large = usize::try_from(MailboxConfig::default().bytes).unwrap();
        assert_eq!(s.room(ME, large), Err(Full));
        assert_eq!(s.size(ME), Size { messages: 1, bytes: 10, oldest: Some(MessageId(2)) });
    }

    #[test]
    fn reload_applies_to_existing_history() {
        let mut s = state(3, 10);
        for id in 1..=3 {
            s.append(ME, MessageId(id), 1000, 1);
        }
        assert!(s.receive(READER, MessageId(2), START, 50).is_some());
        assert!(s.sweep(60).purged.is_empty(), "kept for 100");
        let limits = MailboxConfig { messages: 1, ..MailboxConfig::default() };
        s.reload(limits, HistoryConfig { retain: 20, messages: 10 }, 65);
        assert_eq!(s.room(ME, 1), Err(Full));
        assert!(s.sweep(65).purged.is_empty());
        assert_eq!(ids(&s.sweep(70).purged), [1, 2]);
        assert_eq!(s.size(ME).messages, 1, "pending messages stay");
    }

    #[test]
    fn cursor_moves_forward_only_and_only_over_messages() {
        let mut s = state(10, 10);
        for id in [3, 5, 9] {
            s.append(ME, MessageId(id), 50, 1);
        }
        assert_eq!(s.receive(READER, MessageId(2), START, 0), None);
        assert!(s.receive(READER, MessageId(6), START, 0).is_some());
        assert_eq!(s.receive(READER, MessageId(6), START, 0), None);
        assert_eq!(s.receive(READER, MessageId(4), START, 0), None);
        assert_eq!(s.cursor(READER, START), MessageId(6));
        assert_eq!(s.waiting(READER, MessageId(6)), 1);
        assert_eq!(
            (s.delivery_state(ME, MessageId(5)), s.delivery_state(ME, MessageId(9))),
            (DeliveryState::Received, DeliveryState::Queued)
        );
    }

    #[test]
    fn history_is_bounded_by_number_and_by_time() {
        let mut s = state(10, 2);
        for id in 1..=4 {
            s.append(ME, MessageId(id), 1000, 1);
        }
        assert_eq!(ids(&s.receive(READER, MessageId(3), START, 10).unwrap().1.purged), [1]);
        assert_eq!(s.sweep(109), Effects::default());
        assert_eq!(ids(&s.sweep(110).purged), [2, 3]);
        assert_eq!(s.oldest_kept(ME), Some(MessageId(4)));
    }

    #[test]
    fn messages_expire_in_any_order() {
        let mut s = state(10, 10);
        s.append(ME, MessageId(1), 30, 7);
        s.append(ME, MessageId(2), 10, 7);
        assert_eq!(s.sweep(9), Effects::default());
        assert_eq!(ids(&s.sweep(10).expired), [2]);
        assert_eq!(s.size(ME).bytes, 7);
        assert_eq!(ids(&s.sweep(35).expired), [1]);
        assert_eq!(ids(&s.sweep(110).purged), [2], "kept from the end of its life");
        assert_eq!(ids(&s.sweep(129).purged), [] as [u64; 0]);
        assert_eq!(ids(&s.sweep(130).purged), [1], "also where the sweep came late");
        assert!(s.due.is_empty());
    }

    #[test]
    fn broadcasts_are_pending_for_each_user_separately() {
        let mut s = state(10, 10);
        s.append(Recipient::All, MessageId(1), 50, 1);
        s.append(Recipient::All, MessageId(2), 50, 1);
        let (ana, bob) = (Reader::Broadcasts(UserId(1)), Reader::Broadcasts(UserId(2)));
        assert!(s.receive(ana, MessageId(2), START, 0).is_some());
        assert_eq!((s.waiting(ana, s.cursor(ana, START)), s.waiting(bob, s.cursor(bob, START))), (0, 2));
        assert_eq!(s.cursor(bob, MessageId(1)), MessageId(1), "broadcasts from before the account are not for it");
        assert_eq!(s.size(Recipient::All).messages, 2);
        s.receive(bob, MessageId(1), START, 0);
        let freed = s.free_broadcasts([(UserId(1), START), (UserId(2), START)].into_iter(), 5);
        assert_eq!(freed, Some((MessageId(1), Effects::default())));
        assert_eq!(s.free_broadcasts([(UserId(1), START), (UserId(2), START)].into_iter(), 5), None);
        assert_eq!(s.size(Recipient::All).messages, 1);
        assert_eq!(s.oldest_waiting(bob, s.cursor(bob, START)), Some(MessageId(2)));
    }

    #[test]
    fn forget_leaves_nothing() {
        let mut s = state(10, 10);
        s.append(ME, MessageId(1), 50, 1);
        s.append(ME, MessageId(2), 50, 1);
        s.receive(READER, MessageId(1), START, 0);
        assert!(!s.is_due(49) && s.is_due(50));
        assert_eq!(ids(&s.forget(ME).purged), [2, 1]);
        assert!(s.due.is_empty() && s.queues.is_empty());
        assert_eq!(s.forget(ME), Effects::default());
    }

    #[test]
    fn sent_state_is_kept_until_received() {
        let mut s = state(10, 10);
        s.append(ME, MessageId(1), 50, 1);
        let when = Timestamp::from_unix_micros(5);
        s.sent(ME, MessageId(1), when);
        s.sent(ME, MessageId(1), Timestamp::from_unix_micros(9));
        assert_eq!(s.delivery_state(ME, MessageId(1)), DeliveryState::Sent(when));
        assert_eq!(ids(&s.clear(ME).purged), [1]);
        assert_eq!(s.total(), (0, Size::default()));
    }
}
