//! The mailboxes in memory: messages, readers, and the times at which something is due. No I/O.
//!
//! The index is a function of what is on disk: one that is loaded anew behaves as the one before. Only what receipts say of
//! deliveries that are not proved ([`Index::sent`]), and of readers beyond the first, is lost with the process.
//!
//! Memory: what [`Index::memory_bytes`] counts.
//!
//! `queue` holds the messages of one mailbox, `readers` the places and what moves them, `trim` removes what is of no use any more,
//! `query` answers questions.

mod effects;
mod query;
mod queue;
mod readers;
mod receipts;
mod trim;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::map::IdMap;
use crate::core::time::Timestamp;
use crate::store::{EndState, Head, INLINE_BYTES, Place, ReceiptPage, ReceiptRecord};
use queue::{Entry, Queue};

pub use effects::{Effects, Ended, Passed};
pub use query::{DeliveryState, Listed, Queued, ReaderState, Size, Waiting};
pub use readers::{Ack, Joined, TooManyReaders};
pub use receipts::ReceiptTable;

/// The most messages that one operation works on, so that it takes a few milliseconds; more are left to the next one.
pub const MAX_OPERATION_MESSAGES: usize = 64;
/// A block of which fewer than one message in so many is of use is written anew without the others.
const SHRINK_FACTOR: u32 = 4;
/// The smallest block that is worth that.
const MIN_SHRUNK_MESSAGES: u32 = 8;
/// The most acknowledgements of readers beyond the first, and numbers of deliveries of removed messages, that are kept for receipts.
const MAX_FURTHER_ACKS: usize = 20_000;

/// The memory of a message, in bytes, as all of these measured with a million of them: half of the space in the nodes is unused.
const MESSAGE_BYTES: usize = 100;
/// The memory of a block.
const BLOCK_BYTES: usize = 50;
/// The memory of a reader.
const READER_BYTES: usize = 200;
/// The memory of a user.
const USER_BYTES: usize = 100;
/// The memory of a page of receipts.
const PAGE_BYTES: usize = 100;

/// The use of a block.
#[derive(Debug, Clone, Copy)]
struct BlockUse {
    last: MessageId,
    /// Messages that are of use.
    used: u32,
    /// Messages in the block.
    total: u32,
}

/// The reason for which there is no room for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The mailbox has as much as it may, or as this sender may add to.
    Mailbox,
    /// As much as one sender may cause to wait does, over all mailboxes.
    Sender,
}

/// All mailboxes.
#[derive(Debug)]
pub struct Index {
    limits: MailboxConfig,
    history: HistoryConfig,
    queues: IdMap<Recipient, Queue>,
    /// The number of messages.
    messages: usize,
    /// Bytes of the payloads of the messages that no reader has received, by sender.
    sent: IdMap<UserId, u64>,
    /// Bytes of all payloads.
    bytes: u64,
    /// The number of readers.
    readers: usize,
    places: IdMap<Recipient, Place>,
    /// Every user, with the message after which broadcasts are for it.
    users: IdMap<UserId, MessageId>,
    /// The cursors over the broadcasts, those of users without readers included, and how many stand there.
    cursors: BTreeMap<MessageId, u32>,
    /// The same for the ids up to which nothing is missed.
    marks: BTreeMap<MessageId, u32>,
    blocks: BTreeMap<MessageId, BlockUse>,
    due: BTreeSet<(u64, Recipient)>,
    /// The pages of receipts.
    pub receipts: ReceiptTable,
    /// The times at which readers beyond the first acknowledged.
    further: BTreeMap<(MessageId, u16), Timestamp>,
    /// The numbers of connections that removed messages were written to.
    delivered: BTreeMap<MessageId, u16>,
}

impl Index {
    /// An empty index.
    pub fn new(limits: MailboxConfig, history: HistoryConfig) -> Self {
        Self {
            limits,
            history,
            queues: IdMap::default(),
            messages: 0,
            sent: IdMap::default(),
            bytes: 0,
            readers: 0,
            places: IdMap::default(),
            users: IdMap::default(),
            cursors: BTreeMap::new(),
            marks: BTreeMap::new(),
            blocks: BTreeMap::new(),
            due: BTreeSet::new(),
            receipts: ReceiptTable::default(),
            further: BTreeMap::new(),
            delivered: BTreeMap::new(),
        }
    }

    /// The limits in force.
    #[cfg(feature = "cluster")]
    pub fn limits(&self) -> (MailboxConfig, HistoryConfig) {
        (self.limits.clone(), self.history.clone())
    }

    /// Applies other limits. Mailboxes whose history is too large by them are trimmed by the next sweep.
    pub fn reload(&mut self, limits: MailboxConfig, history: HistoryConfig, now: u64) {
        let changed = self.history != history || self.limits != limits;
        (self.limits, self.history) = (limits, history);
        if changed {
            let with_history = self.queues.iter().filter(|(_, queue)| queue.received() > 0).map(|(&recipient, _)| recipient);
            for recipient in with_history.collect::<Vec<_>>() {
                self.schedule(recipient, now);
            }
        }
    }

    /// Returns the memory that all of it takes, in bytes: an estimate.
    pub fn memory_bytes(&self) -> usize {
        let pages = self.receipts.pages() * PAGE_BYTES;
        let (messages, blocks) = (self.messages * MESSAGE_BYTES, self.blocks.len() * BLOCK_BYTES);
        messages + blocks + self.readers * READER_BYTES + self.users.len() * USER_BYTES + pages
    }

    /// Loads a place found on disk; after the users, and before any message.
    pub fn load_place(&mut self, recipient: Recipient, place: Place) {
        self.change_place(recipient, |loaded| *loaded = place);
    }

    /// Adds a user, for which broadcasts above `joined` are.
    pub fn add_user(&mut self, user: UserId, joined: MessageId) {
        self.unmark(user);
        self.users.insert(user, joined);
        self.mark(user);
    }

    /// Loads a message found on disk, with its receipt where there is one; returns whether it is of use.
    pub fn load(&mut self, head: &Head, receipt: Option<&ReceiptRecord>) -> bool {
        let place = self.places.get(&head.recipient);
        let (front, trimmed) = place.map_or((MessageId(0), MessageId(0)), |place| (place.front, place.trimmed));
        let received = match receipt.map(|record| (record.end, record.service)) {
            // Of a mailbox that was deleted.
            Some((Some(EndState::Acked), _)) if place.is_none() => return false,
            Some((Some(EndState::Acked), at)) if head.id <= front => at,
            // Its cursor did not reach the disk: it is delivered again.
            Some((Some(EndState::Acked) | None, _)) => 0,
            Some((Some(_), _)) => return false,
            None => 0, // receipts of messages in blocks are not removed
        };
        if received > 0 && head.id <= trimmed {
            return false;
        }
        self.insert(head, received);
        if received == 0
            && head.id <= front
            && let Some(queue) = self.queues.get_mut(&head.recipient)
        {
            queue.below_front.insert(head.id);
        }
        // More than may be kept, by limits that were lowered before the restart: the next sweep trims it.
        let many = self.queues.get(&head.recipient).is_some_and(|queue| self.has_long_history(queue, 0, 0));
        self.schedule(
            head.recipient,
            if received == 0 {
                head.expires
            } else if many {
                0
            } else {
                received + self.history.retain
            },
        );
        true
    }

    /// Notes a block of `total` messages, from `first` to `last`, of which `used` are of use.
    pub fn add_block(&mut self, first: MessageId, last: MessageId, used: u32, total: u32) {
        self.blocks.insert(first, BlockUse { last, used, total });
    }

    /// Notes that a block has been written anew, with `count` messages up to `last`.
    pub fn shrink_block(&mut self, first: MessageId, last: MessageId, count: u32) {
        if let Some(block) = self.blocks.get_mut(&first) {
            self.receipts.release(first, block.last);
            *block = BlockUse { last, used: block.used, total: count };
        }
    }

    /// Notes that a block has been removed.
    pub fn remove_block(&mut self, first: MessageId) {
        if let Some(block) = self.blocks.remove(&first) {
            self.receipts.release(first, block.last);
        }
    }

    /// Returns whether no receipt of a page can be removed: that of a message whose block is there tells its state at the next start.
    pub fn holds_all(&self, page: &ReceiptPage) -> bool {
        page.records().iter().all(|record| self.block_of(record.id).is_some())
    }

    /// Returns the first message of the block that holds `id`; `None` where it is in none yet.
    pub fn block_of(&self, id: MessageId) -> Option<MessageId> {
        let (&first, block) = self.blocks.range(..=id).next_back()?;
        (id <= block.last).then_some(first)
    }

    /// Returns whether `id` is still there.
    pub fn contains(&self, recipient: Recipient, id: MessageId) -> bool {
        self.queues.get(&recipient).is_some_and(|queue| queue.entries.contains_key(&id))
    }

    /// Checks that there is room for `bytes` more from `sender` to `recipient`. The last tenth of a mailbox's messages and bytes, rounded
    /// down, is kept for `privileged` senders, which have no bound of their own.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub fn room(&self, recipient: Recipient, sender: UserId, bytes: usize, privileged: bool) -> Result<(), Full> {
        let sent = self.sent.get(&sender).copied().unwrap_or(0);
        let most = self.limits.sender_bytes;
        if !privileged && most > 0 && sent > 0 && sent.saturating_add(bytes as u64) > most {
            return Err(Full::Sender);
        }
        self.room_in(recipient, bytes, privileged)
    }

    /// Checks that `recipient` has room for `bytes` more.
    fn room_in(&self, recipient: Recipient, bytes: usize, privileged: bool) -> Result<(), Full> {
        let Some(queue) = self.queues.get(&recipient) else { return Ok(()) };
        let (all, size) = (self.limits.messages, self.limits.bytes);
        let (for_users, size_for_users) = (all - all / 10, size - size / 10);
        let messages = if privileged { all } else { for_users };
        if messages > 0 && queue.pending >= messages {
            return Err(Full::Mailbox);
        }
        let most = if privileged { size } else { size_for_users };
        let after = queue.bytes + bytes as u64;
        if most == 0 || queue.pending == 0 || after <= most {
            return Ok(());
        }
        // One message is always accepted, and may take more than a user's share: not from the share that is kept.
        let oldest = if privileged { queue.oldest_pending() } else { None };
        let oldest = oldest.and_then(|id| queue.entries.get(&id)).map_or(0, |entry| u64::from(entry.bytes));
        if after - oldest.saturating_sub(size_for_users) <= most { Ok(()) } else { Err(Full::Mailbox) }
    }

    /// Adds a message.
    pub fn append(&mut self, head: &Head) {
        self.insert(head, 0);
        self.schedule(head.recipient, head.expires);
    }

    fn insert(&mut self, head: &Head, received: u64) {
        self.queues.entry(head.recipient).or_default().insert(head.id, Entry::new(head, received));
        self.messages += 1;
        self.bytes += u64::from(head.length);
        if received == 0 {
            *self.sent.entry(head.sender).or_default() += u64::from(head.length);
        }
    }

    /// Notes that a message that was sent by `sender` no longer waits.
    fn waits_no_more(&mut self, sender: UserId, bytes: u32) {
        if let Some(sent) = self.sent.get_mut(&sender) {
            *sent = sent.saturating_sub(bytes.into());
            if *sent == 0 {
                self.sent.remove(&sender);
            }
        }
    }

    /// Bytes of the payloads of all messages.
    pub fn payload_bytes(&self) -> u64 {
        self.bytes
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

    /// Ends the life of a message that no reader has received, and removes it.
    fn end(&mut self, recipient: Recipient, id: MessageId, state: EndState, effects: &mut Effects) {
        let Some(entry) = self.queues.get(&recipient).and_then(|queue| queue.entries.get(&id)) else { return };
        effects.ended.push(Ended { head: entry.head(recipient, id), state, reader: None });
        self.remove(recipient, id, effects);
    }

    /// Removes a message.
    fn remove(&mut self, recipient: Recipient, id: MessageId, effects: &mut Effects) {
        let removed = self.queues.get_mut(&recipient).and_then(|queue| queue.remove(id));
        let Some(entry) = removed else { return };
        self.messages -= 1;
        self.bytes -= u64::from(entry.bytes);
        if !entry.is_received() {
            self.waits_no_more(entry.sender, entry.bytes);
        }
        if entry.deliveries > 0 {
            if self.delivered.len() == MAX_FURTHER_ACKS {
                self.delivered.pop_first();
            }
            self.delivered.insert(id, entry.deliveries);
        }
        effects.removed.push(id);
        effects.pieces.extend(Some(id).filter(|_| entry.bytes as usize > INLINE_BYTES));
        let place = self.place_mut(recipient);
        place.gone = place.gone.max(id);
        effects.places.insert(recipient);
        let Some((&first, block)) = self.blocks.range_mut(..=id).next_back().filter(|(_, block)| id <= block.last) else {
            return;
        };
        block.used = block.used.saturating_sub(1);
        if block.used == 0 {
            effects.freed.push(first); // there until it is removed from the disk, where receipts must go after it
        } else if block.total >= MIN_SHRUNK_MESSAGES && block.used * SHRINK_FACTOR <= block.total {
            block.total = block.used;
            effects.shrunk.push(first);
        }
    }

    /// Takes back a message that no reader has received.
    pub fn cancel(&mut self, recipient: Recipient, id: MessageId) -> Effects {
        let mut effects = Effects::default();
        self.end(recipient, id, EndState::Cancelled, &mut effects);
        effects
    }

    /// Removes the first `most` messages that wait in the mailbox of `recipient`; of a user, also the broadcasts that wait for it.
    /// Returns the number of messages that no reader had received, and whether some are left.
    pub fn clear(&mut self, recipient: Recipient, most: usize, now: u64) -> (usize, bool, Effects) {
        let mut effects = Effects::default();
        let mut pending: Vec<MessageId> = self.queues.get(&recipient).map_or_else(Vec::new, |queue| {
            queue.entries.iter().filter(|(_, entry)| !entry.is_received()).map(|(&id, _)| id).take(most + 1).collect()
        });
        let left = pending.len() > most;
        pending.truncate(most);
        let newest = match pending.last() {
            Some(&last) if left => last,
            _ => self.queues.get(&recipient).map_or(MessageId(0), Queue::newest),
        };
        for &id in &pending {
            self.end(recipient, id, EndState::Cleared, &mut effects);
        }
        let mut count = pending.len();
        if let Recipient::User(user) = recipient {
            let broadcasts = self.queues.get(&Recipient::All).map_or(MessageId(0), Queue::newest);
            count += self.broadcasts_of(user, now).messages;
            self.change_place(recipient, |place| {
                if place.broadcasts < broadcasts {
                    place.cleared = (place.broadcasts, broadcasts);
                }
                place.front = place.front.max(newest);
                place.broadcasts = place.broadcasts.max(broadcasts);
                for reader in &mut place.readers {
                    reader.cursor = reader.cursor.max(newest);
                    reader.broadcasts = reader.broadcasts.max(broadcasts);
                }
            });
            effects.places.insert(recipient);
            self.settle(recipient, now, &mut effects);
            self.clear_reached_broadcasts(&mut effects);
            self.settle(Recipient::All, now, &mut effects);
        }
        (count, left, effects)
    }

    /// Removes `recipient` with everything that is there. What no reader has received is cleared. One that goes on without its messages,
    /// being handed over, is `kept` from having any up to that id.
    pub fn forget(&mut self, recipient: Recipient, kept: Option<MessageId>, now: u64) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<(MessageId, bool)> = self
            .queues
            .get(&recipient)
            .map_or_else(Vec::new, |queue| queue.entries.iter().map(|(&id, entry)| (id, entry.is_received())).collect());
        for (id, received) in ids {
            if received {
                self.remove(recipient, id, &mut effects);
            } else {
                self.end(recipient, id, EndState::Cleared, &mut effects);
            }
        }
        if let Some(due) = self.queues.remove(&recipient).and_then(|queue| queue.due) {
            self.due.remove(&(due, recipient));
        }
        if let Recipient::User(user) = recipient {
            self.unmark(user);
            self.users.remove(&user);
        }
        self.readers -= self.places.remove(&recipient).map_or(0, |place| place.readers.len());
        if let Some(newest) = kept {
            let place = self.place_mut(recipient);
            (place.front, place.trimmed, place.gone) = (newest, newest, newest);
        }
        effects.places.insert(recipient);
        if let Recipient::User(_) = recipient {
            self.clear_reached_broadcasts(&mut effects);
            self.settle(Recipient::All, now, &mut effects);
        }
        effects
    }

    /// Clears the broadcasts that nobody is left to receive.
    fn clear_reached_broadcasts(&mut self, effects: &mut Effects) {
        let reached = self.reached(Recipient::All);
        let Some(queue) = self.queues.get(&Recipient::All) else { return };
        let over = queue.entries.range(..=reached).filter(|(_, entry)| !entry.is_received()).map(|(&id, _)| id);
        for id in over.collect::<Vec<_>>() {
            self.end(Recipient::All, id, EndState::Cleared, effects);
        }
    }

    /// Notes that everything above `after` up to `upto`, but what it has `passed` over, has been written to a connection.
    pub fn sent(&mut self, recipient: Recipient, after: MessageId, upto: MessageId, when: Timestamp, passed: &[MessageId]) {
        if let Some(queue) = self.queues.get_mut(&recipient) {
            queue.sent(after, upto, when, passed);
        }
    }
}
