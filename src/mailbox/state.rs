//! What is known of the mailboxes without looking at the disk: sizes, cursors, what is due. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::{Head, Reader};

/// A message that waits.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// End of its life, in seconds of the service clock.
    expires: u32,
    bytes: u32,
}

/// How many moments of sending are remembered a mailbox: for receipts, the older ones merge.
const SENT_MOMENTS: usize = 16;

/// One mailbox.
#[derive(Debug, Default)]
struct Queue {
    cursor: MessageId,
    /// Above the cursor and alive. For broadcasts: alive.
    pending: BTreeMap<MessageId, Pending>,
    bytes: u64,
    /// Received or expired, but still there; by time.
    kept: VecDeque<(MessageId, u64)>,
    /// Written to some connection up to this id, and when.
    sent: VecDeque<(MessageId, Timestamp)>,
    /// Not before this moment is anything of this mailbox due.
    due: Option<u64>,
}

impl Queue {
    /// What waits up to `upto` waits no more, and is kept from `now` on.
    fn keep_upto(&mut self, upto: MessageId, now: u64) {
        let waiting = self.pending.split_off(&above(upto));
        for (id, message) in std::mem::replace(&mut self.pending, waiting) {
            self.bytes -= u64::from(message.bytes);
            self.kept.push_back((id, now));
        }
    }
}

/// A mailbox's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Messages that wait.
    pub messages: usize,
    /// Their payloads' bytes.
    pub bytes: u64,
    /// The oldest of them.
    pub oldest: Option<MessageId>,
}

/// What the log must be made to agree with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// To be marked as expired.
    pub(super) expired: Vec<(Recipient, MessageId)>,
    /// To be removed.
    pub(super) purged: Vec<(Recipient, MessageId)>,
}

/// A mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Queued,
    Sent(Timestamp),
    Received,
    /// It waits no more, and was not received.
    Gone,
}

/// All mailboxes.
#[derive(Debug)]
pub(super) struct State {
    limits: MailboxConfig,
    history: HistoryConfig,
    queues: HashMap<Recipient, Queue>,
    broadcasts: HashMap<UserId, MessageId>,
    due: BTreeSet<(u64, Recipient)>,
}

impl State {
    pub(super) fn new(limits: MailboxConfig, history: HistoryConfig) -> Self {
        Self { limits, history, queues: HashMap::new(), broadcasts: HashMap::new(), due: BTreeSet::new() }
    }

    /// Takes up other numbers, and has every mailbox looked at by them at `now`.
    pub(super) fn reload(&mut self, limits: MailboxConfig, history: HistoryConfig, now: u64) {
        self.limits = limits;
        if self.history == history {
            return;
        }
        self.history = history;
        for recipient in self.queues.iter().filter(|(_, queue)| !queue.kept.is_empty()).map(|(&r, _)| r).collect::<Vec<_>>() {
            self.schedule(recipient, now);
        }
    }

    /// Takes in a cursor found on disk; all of them before any message.
    pub(super) fn load_cursor(&mut self, reader: Reader, upto: MessageId) {
        match reader {
            Reader::Broadcasts(user) => drop(self.broadcasts.insert(user, upto)),
            Reader::User(_) | Reader::Device(_) => self.queues.entry(reader.recipient()).or_default().cursor = upto,
        }
    }

    /// Takes in a message found on disk.
    pub(super) fn load(&mut self, recipient: Recipient, head: &Head, now: u64) {
        let cursor = self.queues.get(&recipient).map_or(MessageId(0), |q| q.cursor);
        if head.expired || head.id <= cursor {
            let queue = self.queues.entry(recipient).or_default();
            queue.kept.push_back((head.id, now));
            self.schedule(recipient, now + self.history.retain);
        } else {
            self.append(recipient, head.id, head.expires, head.length);
        }
    }

    /// Whether `recipient` has room for `bytes` more.
    pub(super) fn room(&self, recipient: Recipient, bytes: usize) -> Result<(), Full> {
        let Some(queue) = self.queues.get(&recipient) else { return Ok(()) };
        let many = self.limits.messages > 0 && queue.pending.len() >= self.limits.messages;
        let large = self.limits.bytes > 0 && !queue.pending.is_empty() && queue.bytes + bytes as u64 > self.limits.bytes;
        if many || large { Err(Full) } else { Ok(()) }
    }

    /// Adds a message.
    pub(super) fn append(&mut self, recipient: Recipient, id: MessageId, expires: u64, bytes: u32) {
        let queue = self.queues.entry(recipient).or_default();
        let short = u32::try_from(expires).unwrap_or(u32::MAX);
        queue.pending.insert(id, Pending { expires: short, bytes });
        queue.bytes += u64::from(bytes);
        self.schedule(recipient, expires);
    }

    /// Sees to it that `recipient` is looked at no later than `when`.
    fn schedule(&mut self, recipient: Recipient, when: u64) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        if queue.due.is_none_or(|due| when < due) {
            if let Some(due) = queue.due.replace(when) {
                self.due.remove(&(due, recipient));
            }
            self.due.insert((when, recipient));
        }
    }

    /// The cursor of `reader`; a user that has none begins at `joined`.
    pub(super) fn cursor(&self, reader: Reader, joined: MessageId) -> MessageId {
        match reader {
            Reader::Broadcasts(user) => self.broadcasts.get(&user).copied().unwrap_or(joined).max(joined),
            Reader::User(_) | Reader::Device(_) => self.queues.get(&reader.recipient()).map_or(MessageId(0), |q| q.cursor),
        }
    }

    /// How many messages wait for `reader`, whose cursor is at `cursor`.
    pub(super) fn waiting(&self, reader: Reader, cursor: MessageId) -> usize {
        self.queues.get(&reader.recipient()).map_or(0, |q| q.pending.range(above(cursor)..).count())
    }

    /// Moves the cursor of `reader` to `upto`, and says over how many messages; `None` when nothing waits below it, or it has
    /// been there.
    pub(super) fn receive(&mut self, reader: Reader, upto: MessageId, joined: MessageId, now: u64) -> Option<(usize, Effects)> {
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

    /// Lets go of what is kept beyond the number that is to be kept.
    fn trim(&mut self, recipient: Recipient, effects: &mut Effects) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        while queue.kept.len() > self.history.messages {
            let Some((id, _)) = queue.kept.pop_front() else { return };
            effects.purged.push((recipient, id));
        }
    }

    /// Whether anything has come to its end by `now`.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.due.first().is_some_and(|&(due, _)| due <= now)
    }

    /// What has come to its end by `now`: lives of messages, and the time for which they are kept.
    pub(super) fn sweep(&mut self, now: u64) -> Effects {
        let mut effects = Effects::default();
        while let Some(&(due, recipient)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            let Some(queue) = self.queues.get_mut(&recipient) else { continue };
            queue.due = None;
            let over: Vec<MessageId> =
                queue.pending.iter().filter(|(_, m)| u64::from(m.expires) <= now).map(|(&id, _)| id).collect();
            for id in over {
                if let Some(message) = queue.pending.remove(&id) {
                    queue.bytes -= u64::from(message.bytes);
                }
                queue.kept.push_back((id, now));
                effects.expired.push((recipient, id));
            }
            while let Some(&(id, at)) = queue.kept.front()
                && at + self.history.retain <= now
            {
                queue.kept.pop_front();
                effects.purged.push((recipient, id));
            }
            let life = queue.pending.values().map(|m| u64::from(m.expires)).min();
            let keep = queue.kept.front().map(|(_, at)| at + self.history.retain);
            let next = life.into_iter().chain(keep).min();
            self.trim(recipient, &mut effects);
            if let Some(next) = next {
                self.schedule(recipient, next);
            }
        }
        effects
    }

    /// Lets go of the broadcasts that every one of `users` has received.
    pub(super) fn free_broadcasts(&mut self, users: impl Iterator<Item = (UserId, MessageId)>, now: u64) -> Effects {
        let all = users.map(|(user, joined)| self.cursor(Reader::Broadcasts(user), joined)).min();
        let (Some(upto), Some(queue)) = (all, self.queues.get_mut(&Recipient::All)) else { return Effects::default() };
        queue.keep_upto(upto, now);
        let mut effects = Effects::default();
        self.trim(Recipient::All, &mut effects);
        self.schedule(Recipient::All, now + self.history.retain);
        effects
    }

    /// Empties the mailbox of `recipient`: what waits is let go.
    pub(super) fn clear(&mut self, recipient: Recipient) -> Effects {
        let Some(queue) = self.queues.get_mut(&recipient) else { return Effects::default() };
        queue.bytes = 0;
        let purged = std::mem::take(&mut queue.pending).into_keys().map(|id| (recipient, id)).collect();
        Effects { expired: Vec::new(), purged }
    }

    /// Forgets `recipient` altogether; everything that is there goes.
    pub(super) fn forget(&mut self, recipient: Recipient) -> Effects {
        if let Recipient::User(user) = recipient {
            self.broadcasts.remove(&user);
        }
        let Some(queue) = self.queues.remove(&recipient) else { return Effects::default() };
        if let Some(due) = queue.due {
            self.due.remove(&(due, recipient));
        }
        let ids = queue.pending.into_keys().chain(queue.kept.into_iter().map(|(id, _)| id));
        Effects { expired: Vec::new(), purged: ids.map(|id| (recipient, id)).collect() }
    }

    /// Notes that everything up to `upto` has been written to a connection.
    pub(super) fn sent(&mut self, recipient: Recipient, upto: MessageId, when: Timestamp) {
        let Some(queue) = self.queues.get_mut(&recipient) else { return };
        if queue.sent.back().is_none_or(|&(last, _)| last < upto) {
            if queue.sent.len() == SENT_MOMENTS {
                queue.sent.pop_front();
            }
            queue.sent.push_back((upto, when));
        }
    }

    /// Where a message of `recipient` that is neither expired nor gone stands.
    pub(super) fn stand(&self, recipient: Recipient, id: MessageId) -> Stand {
        let Some(queue) = self.queues.get(&recipient) else { return Stand::Received };
        if !queue.pending.contains_key(&id) {
            let received = id <= queue.cursor || recipient == Recipient::All;
            return if received { Stand::Received } else { Stand::Gone };
        }
        queue.sent.iter().find(|&&(upto, _)| id <= upto).map_or(Stand::Queued, |&(_, when)| Stand::Sent(when))
    }

    /// All that have a mailbox, or a cursor over the broadcasts.
    pub(super) fn recipients(&self) -> Vec<Recipient> {
        self.queues.keys().copied().chain(self.broadcasts.keys().map(|&user| Recipient::User(user))).collect()
    }

    /// The oldest message that waits for `reader`, whose cursor is at `cursor`.
    pub(super) fn oldest_waiting(&self, reader: Reader, cursor: MessageId) -> Option<MessageId> {
        self.queues.get(&reader.recipient())?.pending.range(above(cursor)..).next().map(|(&id, _)| id)
    }

    /// The size of a mailbox.
    pub(super) fn size(&self, recipient: Recipient) -> Size {
        self.queues.get(&recipient).map_or_else(Size::default, |q| Size {
            messages: q.pending.len(),
            bytes: q.bytes,
            oldest: q.pending.keys().next().copied(),
        })
    }

    /// Number of mailboxes with something in them, and their sizes together.
    pub(super) fn total(&self) -> (usize, Size) {
        let mut total = (0, Size::default());
        for queue in self.queues.values().filter(|q| !q.pending.is_empty()) {
            total.0 += 1;
            total.1.messages += queue.pending.len();
            total.1.bytes += queue.bytes;
            total.1.oldest = total.1.oldest.into_iter().chain(queue.pending.keys().next().copied()).min();
        }
        total
    }

    /// The sizes of up to `limit` mailboxes with something in them, from `after` on.
    pub(super) fn sizes(&self, after: Option<Recipient>, limit: usize) -> Vec<(Recipient, Size)> {
        let mut waiting = self.waiting_recipients();
        waiting.retain(|&recipient| after.is_none_or(|after| recipient > after));
        waiting.sort_unstable();
        waiting.into_iter().take(limit).map(|recipient| (recipient, self.size(recipient))).collect()
    }

    /// The mailboxes with something in them.
    pub(super) fn waiting_recipients(&self) -> Vec<Recipient> {
        self.queues.iter().filter(|(_, q)| !q.pending.is_empty()).map(|(&r, _)| r).collect()
    }

    /// The oldest message of `recipient` that is kept or waits: below it, receipts are of no use.
    pub(super) fn oldest_kept(&self, recipient: Recipient) -> Option<MessageId> {
        let queue = self.queues.get(&recipient)?;
        queue.kept.iter().map(|&(id, _)| id).chain(queue.pending.keys().copied().take(1)).min()
    }
}

/// The id after `id`.
fn above(id: MessageId) -> MessageId {
    MessageId(id.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Recipient = Recipient::User(UserId(1));
    const READER: Reader = Reader::User(UserId(1));
    const START: MessageId = MessageId(0);

    fn state(messages: usize, keep: usize) -> State {
        let limits = MailboxConfig { messages, ..MailboxConfig::default() };
        State::new(limits, HistoryConfig { retain: 100, messages: keep })
    }

    fn ids(effects: &[(Recipient, MessageId)]) -> Vec<u64> {
        effects.iter().map(|(_, id)| id.0).collect()
    }

    #[test]
    fn bounds_by_number_and_by_bytes() {
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
    fn other_numbers_hold_for_what_is_there() {
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
        assert_eq!(s.size(ME).messages, 1, "what waits stays");
    }

    #[test]
    fn cursors_move_forward_only_and_only_over_something() {
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
        assert_eq!((s.stand(ME, MessageId(5)), s.stand(ME, MessageId(9))), (Stand::Received, Stand::Queued));
    }

    #[test]
    fn kept_by_number_and_by_time() {
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
    fn lives_end_in_any_order() {
        let mut s = state(10, 10);
        s.append(ME, MessageId(1), 30, 7);
        s.append(ME, MessageId(2), 10, 7);
        assert_eq!(s.sweep(9), Effects::default());
        assert_eq!(ids(&s.sweep(10).expired), [2]);
        assert_eq!(s.size(ME).bytes, 7);
        assert_eq!(ids(&s.sweep(35).expired), [1]);
        assert_eq!(ids(&s.sweep(110).purged), [2]);
        assert_eq!(ids(&s.sweep(135).purged), [1]);
        assert!(s.due.is_empty());
    }

    #[test]
    fn broadcasts_wait_for_each_user_by_itself() {
        let mut s = state(10, 10);
        s.append(Recipient::All, MessageId(1), 50, 1);
        s.append(Recipient::All, MessageId(2), 50, 1);
        let (ana, bob) = (Reader::Broadcasts(UserId(1)), Reader::Broadcasts(UserId(2)));
        assert!(s.receive(ana, MessageId(2), START, 0).is_some());
        assert_eq!((s.waiting(ana, s.cursor(ana, START)), s.waiting(bob, s.cursor(bob, START))), (0, 2));
        assert_eq!(s.cursor(bob, MessageId(1)), MessageId(1), "who came later hears only what came after");
        assert_eq!(s.size(Recipient::All).messages, 2);
        s.receive(bob, MessageId(1), START, 0);
        s.free_broadcasts([(UserId(1), START), (UserId(2), START)].into_iter(), 5);
        assert_eq!(s.size(Recipient::All).messages, 1);
        assert_eq!(s.oldest_waiting(bob, s.cursor(bob, START)), Some(MessageId(2)));
    }

    #[test]
    fn forgetting_leaves_nothing() {
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
    fn sending_is_remembered_until_received() {
        let mut s = state(10, 10);
        s.append(ME, MessageId(1), 50, 1);
        let when = Timestamp::from_unix_micros(5);
        s.sent(ME, MessageId(1), when);
        s.sent(ME, MessageId(1), Timestamp::from_unix_micros(9));
        assert_eq!(s.stand(ME, MessageId(1)), Stand::Sent(when));
        assert_eq!(ids(&s.clear(ME).purged), [1]);
        assert_eq!(s.total(), (0, Size::default()));
    }
}
