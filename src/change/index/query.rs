//! Questions to the index.

use std::collections::BTreeSet;

use super::Index;
use super::queue::{Entry, Queue};
use crate::core::client::ClientName;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::{Head, Place};

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

impl Size {
    /// Adds the messages of another mailbox.
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }
}

/// The state of a message that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// No reader has received it, and it was written to no connection.
    Queued,
    /// It was written to a connection at this time.
    Sent(Timestamp),
    /// A reader has received it.
    Received,
    /// It is not there.
    Gone,
}

/// A message as it waits for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The message.
    pub id: MessageId,
    /// The first message of its block.
    pub block: MessageId,
    /// Bytes of payload.
    pub bytes: u32,
    /// The number of connections that it was written to.
    pub deliveries: u16,
    /// A reader has received it.
    pub received: bool,
    /// The end of its life, in seconds of the service clock.
    pub expires: u64,
}

/// A message that no reader of a mailbox has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The message without its payload.
    pub head: Head,
    /// It as it waits.
    pub waiting: Waiting,
}

/// The place of a reader in one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderState {
    /// Everything up to here has been received by the reader.
    pub cursor: MessageId,
    /// The messages that wait for it.
    pub waiting: usize,
    /// The oldest of them.
    pub oldest: Option<MessageId>,
    /// The number of messages that were removed before it had them.
    pub missed: u64,
    /// Nothing up to here that was removed is news to a connection that starts now.
    pub told: MessageId,
    /// Nothing up to here was ever for this reader.
    pub joined: MessageId,
    /// The newest message that is no longer there.
    pub gone: MessageId,
    /// The newest id that this mailbox is known to have had.
    pub newest: MessageId,
}

/// A reader in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub client: ClientName,
    /// Everything up to here has been received.
    pub cursor: MessageId,
    /// The messages that wait for it, broadcasts included.
    pub waiting: usize,
    /// The time of its last connection, to the hour.
    pub connected: Timestamp,
}

impl Index {
    fn place(&self, recipient: Recipient) -> Option<&Place> {
        self.places.get(&recipient)
    }

    /// Returns whether there is a place.
    pub fn has_place(&self, recipient: Recipient) -> bool {
        self.places.contains_key(&recipient)
    }

    /// Returns a copy of a place; `None` where there is none.
    pub fn place_of(&self, recipient: Recipient) -> Option<Place> {
        self.places.get(&recipient).cloned()
    }

    fn pending(&self, recipient: Recipient) -> Size {
        self.queues.get(&recipient).map_or_else(Size::default, |queue| Size {
            messages: queue.pending,
            bytes: queue.bytes,
            oldest: queue.oldest_pending(),
        })
    }

    /// Returns the size of a mailbox: what no reader has received. That of a user includes its share of the broadcasts.
    pub fn size(&self, recipient: Recipient, now: u64) -> Size {
        let mut size = self.pending(recipient);
        if let Recipient::User(user) = recipient {
            size.add(self.broadcasts_of(user, now));
        }
        size
    }

    /// The broadcasts that wait for a user: those that none of its readers has received.
    pub(super) fn broadcasts_of(&self, user: UserId, now: u64) -> Size {
        let mut size = Size::default();
        for (id, entry) in self.share_of(user, MessageId(0), MessageId(u64::MAX), now) {
            size.messages += 1;
            size.bytes += u64::from(entry.bytes);
            size.oldest = size.oldest.or(Some(id));
        }
        size
    }

    /// Returns the broadcasts above `after` up to `upto` that wait for a user, in the order of their ids.
    fn share_of(
        &self,
        user: UserId,
        after: MessageId,
        upto: MessageId,
        now: u64,
    ) -> impl Iterator<Item = (MessageId, Entry)> + '_ {
        let place = self.places.get(&Recipient::User(user)).map_or(MessageId(0), |place| place.broadcasts);
        let front = place.max(self.users.get(&user).copied().unwrap_or_default()).max(after);
        let waiting = self.queues.get(&Recipient::All).into_iter().flat_map(move |queue: &Queue| queue.range(front, upto));
        waiting.filter(move |(_, entry)| !entry.is_over(now))
    }

    /// Returns the number of mailboxes with pending messages, and their sizes together.
    pub fn total(&self) -> (usize, Size) {
        let mut total = (0, Size::default());
        for (&recipient, _) in self.queues.iter().filter(|(_, queue)| queue.pending > 0) {
            total.0 += 1;
            total.1.add(self.pending(recipient));
        }
        total
    }

    /// Returns the number of readers.
    pub fn reader_count(&self) -> usize {
        self.readers
    }

    /// Returns the sizes of up to `limit` mailboxes with pending messages, behind `after` in the order of recipients.
    pub fn sizes(&self, after: Option<Recipient>, limit: usize, now: u64) -> Vec<(Recipient, Size)> {
        let mut waiting = self.waiting_recipients();
        if self.queues.get(&Recipient::All).is_some_and(|queue| !queue.entries.is_empty()) {
            let users = self.users.keys().filter(|&&user| self.broadcasts_of(user, now).messages > 0);
            waiting.extend(users.map(|&user| Recipient::User(user)));
        }
        let behind = waiting.into_iter().filter(|&recipient| after.is_none_or(|after| recipient > after));
        behind.take(limit).map(|recipient| (recipient, self.size(recipient, now))).collect()
    }

    /// Returns the recipients with pending messages, in order.
    pub fn waiting_recipients(&self) -> BTreeSet<Recipient> {
        self.queues.iter().filter(|(_, queue)| queue.pending > 0).map(|(&recipient, _)| recipient).collect()
    }

    /// Returns every recipient with messages or a place, in order.
    pub fn recipients(&self) -> BTreeSet<Recipient> {
        self.queues.keys().chain(self.places.keys()).copied().collect()
    }

    /// Returns whether a message waits to be received by its first reader.
    pub fn is_pending(&self, recipient: Recipient, id: MessageId) -> bool {
        self.entry(recipient, id).is_some_and(|entry| !entry.is_received())
    }

    fn entry(&self, recipient: Recipient, id: MessageId) -> Option<&Entry> {
        self.queues.get(&recipient)?.entries.get(&id)
    }

    /// Returns the state of a message, and the number of connections that it was written to.
    pub fn delivery_state(&self, recipient: Recipient, id: MessageId) -> (DeliveryState, u16) {
        let Some(entry) = self.entry(recipient, id) else {
            return (DeliveryState::Gone, self.delivered.get(&id).copied().unwrap_or(0));
        };
        let sent = self.queues.get(&recipient).and_then(|queue| queue.sent_at(id));
        let state = match sent {
            _ if entry.is_received() => DeliveryState::Received,
            Some(when) => DeliveryState::Sent(when),
            None => DeliveryState::Queued,
        };
        (state, entry.deliveries)
    }

    /// Returns the messages above `after` up to `upto` that are there.
    pub fn messages(&self, recipient: Recipient, after: MessageId, upto: MessageId) -> impl Iterator<Item = Waiting> + '_ {
        let found = self.queues.get(&recipient).into_iter().flat_map(move |queue| queue.range(after, upto));
        found.filter_map(|(id, entry)| self.waiting(id, entry))
    }

    /// Returns a message as it waits for a reader; `None` where its block is being removed.
    fn waiting(&self, id: MessageId, entry: Entry) -> Option<Waiting> {
        let Entry { bytes, deliveries, expires, .. } = entry;
        let block = self.block_of(id)?;
        Some(Waiting { id, block, bytes, deliveries, received: entry.is_received(), expires: expires.into() })
    }

    /// Returns up to `limit` messages of a mailbox above `after` up to `upto` that no reader has received, in the order of their ids;
    /// those of a user with its share of the broadcasts.
    pub fn queued(&self, recipient: Recipient, after: MessageId, upto: MessageId, limit: usize, now: u64) -> Vec<Queued> {
        let own = self.queues.get(&recipient).into_iter().flat_map(|queue| queue.range(after, upto));
        let own = own.filter(|(_, entry)| !entry.is_received() && !entry.is_over(now));
        let queued = |of: Recipient, (id, entry): (MessageId, Entry)| {
            Some(Queued { head: entry.head(of, id), waiting: self.waiting(id, entry)? })
        };
        let mut found: Vec<Queued> = own.filter_map(|entry| queued(recipient, entry)).take(limit).collect();
        if let Recipient::User(user) = recipient {
            let shared = self.share_of(user, after, upto, now).filter_map(|entry| queued(Recipient::All, entry));
            found.extend(shared.take(limit));
            found.sort_unstable_by_key(|queued| queued.head.id);
            found.truncate(limit);
        }
        found
    }

    /// Returns the number of readers of a mailbox: of a user's, its clients; of the broadcasts, those of all users.
    pub fn readers_of(&self, recipient: Recipient) -> usize {
        match recipient {
            Recipient::User(_) => self.place(recipient).map_or(0, |place| place.readers.len()),
            Recipient::Device(_) => 1, // all its connections are one
            Recipient::All => self.readers,
        }
    }

    /// Returns the id above which messages of a mailbox are removed only with a note of it.
    pub fn removed_upto(&self, recipient: Recipient) -> MessageId {
        self.place(recipient).map_or(MessageId(0), |place| place.trimmed)
    }

    /// Returns the cursor of a reader over a mailbox that it reads, the cursor of a new one where there is none of that name; and
    /// the id up to which it has been told of missed messages.
    fn position(&self, recipient: Recipient, user: UserId, client: &ClientName) -> (MessageId, MessageId) {
        let place = self.place(Recipient::User(user));
        let reader = place.and_then(|place| place.reader(client));
        let told = reader.map_or(MessageId(0), |reader| match recipient {
            Recipient::All => reader.told_broadcasts,
            _ => reader.told,
        });
        let cursor = match recipient {
            Recipient::Device(_) => self.place(recipient).map_or(MessageId(0), |place| place.front),
            Recipient::User(_) => reader.map_or_else(|| place.map_or(MessageId(0), |p| p.front), |reader| reader.cursor),
            Recipient::All => {
                let stored = reader.map_or_else(|| place.map_or(MessageId(0), |p| p.broadcasts), |reader| reader.broadcasts);
                stored.max(self.users.get(&user).copied().unwrap_or_default())
            }
        };
        (cursor, told)
    }

    /// Returns the place of a reader in a mailbox that it reads; it has `proved` everything up to an id by a proof that is not applied
    /// yet.
    pub fn reader(&self, recipient: Recipient, user: UserId, client: &ClientName, proved: MessageId, now: u64) -> ReaderState {
        let (cursor, told) = self.position(recipient, user, client);
        let cursor = cursor.max(proved);
        let queue = self.queues.get(&recipient);
        let place = self.place(recipient);
        let mark = cursor.max(told);
        let lost = place.into_iter().flat_map(|place| &place.missed).filter(|missed| missed.upto > mark);
        let (trimmed, front, gone) = place.map_or_else(Default::default, |place| (place.trimmed, place.front, place.gone));
        ReaderState {
            cursor,
            waiting: queue.map_or(0, |queue| queue.waiting(cursor, now)),
            oldest: queue
                .and_then(|queue| queue.range(cursor, MessageId(u64::MAX)).find(|(_, e)| !e.is_over(now)).map(|(id, _)| id)),
            missed: if matches!(recipient, Recipient::Device(_)) { 0 } else { lost.map(|missed| missed.count).sum() },
            told: trimmed.max(told),
            joined: if recipient == Recipient::All { self.users.get(&user).copied().unwrap_or_default() } else { MessageId(0) },
            gone,
            newest: queue.map_or(MessageId(0), Queue::newest).max(front).max(gone).max(cursor),
        }
    }

    /// Returns the id up to which a reader has received everything of a mailbox that it reads.
    pub fn cursor(&self, recipient: Recipient, user: UserId, client: &ClientName) -> MessageId {
        self.position(recipient, user, client).0
    }

    /// Returns the messages above `after` up to `upto` that are there, with their senders.
    pub fn senders(
        &self,
        recipient: Recipient,
        after: MessageId,
        upto: MessageId,
    ) -> impl Iterator<Item = (MessageId, UserId)> + '_ {
        let found = self.queues.get(&recipient).into_iter().flat_map(move |queue| queue.range(after, upto));
        found.map(|(id, entry)| (id, entry.sender))
    }

    /// Returns the number of messages of a mailbox above `after` that a reader of it has not received, up to `most`; without a name,
    /// those that no reader of the user has.
    pub fn waiting_above(
        &self,
        recipient: Recipient,
        (user, client): (UserId, Option<&ClientName>),
        after: MessageId,
        now: u64,
        most: usize,
    ) -> usize {
        let Some(queue) = self.queues.get(&recipient).filter(|queue| queue.newest() > after) else { return 0 };
        let cursor = match client {
            Some(client) => self.position(recipient, user, client).0,
            None => self.place(recipient).map_or(MessageId(0), |place| place.front),
        };
        queue.range(after.max(cursor), MessageId(u64::MAX)).filter(|(_, entry)| !entry.is_over(now)).take(most).count()
    }

    /// Returns whether a user has a reader of that name.
    pub fn has_reader(&self, user: UserId, client: &ClientName) -> bool {
        self.place(Recipient::User(user)).is_some_and(|place| place.reader(client).is_some())
    }

    /// Returns whether there is such a user.
    pub fn has_user(&self, user: UserId) -> bool {
        self.users.contains_key(&user)
    }

    /// Returns up to `limit` readers of a user whose names are behind `after`, in the order of their names.
    pub fn readers(&self, user: UserId, after: &str, limit: usize, now: u64) -> Vec<Listed> {
        let readers = self.place(Recipient::User(user)).into_iter().flat_map(|place| &place.readers);
        let mut readers: Vec<_> = readers.filter(|reader| reader.client.as_str() > after).collect();
        readers.sort_unstable_by(|a, b| a.client.cmp(&b.client));
        readers.truncate(limit); // before the messages of each are counted
        let listed = readers.into_iter().map(|reader| {
            let waiting = [Recipient::User(user), Recipient::All]
                .map(|to| self.reader(to, user, &reader.client, MessageId(0), now).waiting);
            let cursor = reader.cursor.max(reader.broadcasts);
            Listed {
                client: reader.client.clone(),
                cursor,
                waiting: waiting.iter().sum(),
                connected: Timestamp::from_unix_micros(reader.connected_at),
            }
        });
        listed.collect()
    }

    /// Returns the readers that have received a message of their user, by number, with the time where it is known: that of readers
    /// beyond the first is, for a while.
    pub fn acks(&self, user: UserId, id: MessageId) -> Vec<(u16, ClientName, bool, Option<Timestamp>)> {
        let readers = self.place(Recipient::User(user)).into_iter().flat_map(|place| &place.readers);
        let times = |number: u16| self.further.get(&(id, number)).copied();
        readers.map(|r| (r.number, r.client.clone(), r.cursor >= id, times(r.number))).collect()
    }

    /// Returns the number of users that a broadcast was for and that have received it.
    pub fn users_who_have(&self, id: MessageId) -> usize {
        let has = |(user, joined): (&UserId, &MessageId)| {
            let received = |place: &Place| place.broadcasts >= id && !(place.cleared.0 < id && id <= place.cleared.1);
            *joined < id && self.place(Recipient::User(*user)).is_some_and(received)
        };
        self.users.iter().filter(|&(user, joined)| has((user, joined))).count()
    }
}
