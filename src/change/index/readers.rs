//! Readers: their places, and what moves them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Effects, Ended, Index, MAX_FURTHER_ACKS, Passed};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::{EndState, Place, ReaderPlace};

/// The most users whose readers one operation removes.
const MAX_EXPIRED_READERS: usize = 16;
/// The number of a device's only reader.
const DEVICE_READER: u16 = 0;
/// The shortest time between two notes of a reader's connection, in seconds.
const CONNECTED_PRECISION_SECONDS: u64 = 3600;

/// A proof of receipt by one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The user whose messages, and broadcasts, the connection reads.
    pub user: UserId,
    /// The reader that it is.
    pub client: ClientName,
    /// The device whose messages it reads, too.
    pub device: Option<DeviceId>,
    /// Everything up to here has been received.
    pub upto: MessageId,
    /// The connection has been told of the user's messages that are missed up to here.
    pub told: MessageId,
    /// The same of the broadcasts.
    pub told_broadcasts: MessageId,
    /// Of the messages up to `upto`, those that it has passed over.
    pub passed: Vec<MessageId>,
}

/// What a connection of a reader has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// Nothing: it has connected a short time ago.
    Unchanged,
    /// The time of its last connection.
    Again,
    /// It is new, and the only one of its user.
    First,
    /// It is new, and the user has others.
    Further,
}

/// The user has as many readers as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyReaders;

impl Index {
    /// The place of `recipient`, for changes that move no reader over the broadcasts.
    pub(super) fn place_mut(&mut self, recipient: Recipient) -> &mut Place {
        self.places.entry(recipient).or_default()
    }

    /// Changes the place of `recipient`, and keeps the positions over the broadcasts in step.
    pub(super) fn change_place<R>(&mut self, recipient: Recipient, change: impl FnOnce(&mut Place) -> R) -> R {
        let Recipient::User(user) = recipient else { return change(self.places.entry(recipient).or_default()) };
        let position = |place: &Place| {
            (place.broadcasts, place.readers.iter().map(|r| (r.broadcasts, r.told_broadcasts)).collect::<Vec<_>>())
        };
        let before = self.places.get(&recipient).map(position);
        let mut place = self.places.remove(&recipient).unwrap_or_default();
        self.readers -= place.readers.len();
        let changed = change(&mut place);
        self.readers += place.readers.len();
        if before.as_ref() == Some(&position(&place)) {
            self.places.insert(recipient, place);
            return changed;
        }
        // The old positions are those of the old place.
        if let Some((broadcasts, readers)) = before {
            self.count_positions(user, broadcasts, &readers, false);
        } else {
            self.count_positions(user, MessageId(0), &[], false);
        }
        self.places.insert(recipient, place);
        self.mark(user);
        changed
    }

    /// Adds the positions of a user over the broadcasts.
    pub(super) fn mark(&mut self, user: UserId) {
        self.count_user(user, true);
    }

    /// Removes the positions of a user over the broadcasts.
    pub(super) fn unmark(&mut self, user: UserId) {
        self.count_user(user, false);
    }

    fn count_user(&mut self, user: UserId, add: bool) {
        let place = self.places.get(&Recipient::User(user));
        let broadcasts = place.map_or(MessageId(0), |place| place.broadcasts);
        let readers: Vec<_> =
            place.map_or_else(Vec::new, |p| p.readers.iter().map(|r| (r.broadcasts, r.told_broadcasts)).collect());
        self.count_positions(user, broadcasts, &readers, add);
    }

    /// Adds or removes positions. Those of a user that does not exist do not count.
    fn count_positions(&mut self, user: UserId, broadcasts: MessageId, readers: &[(MessageId, MessageId)], add: bool) {
        let Some(&joined) = self.users.get(&user) else { return };
        let alone = [(broadcasts, MessageId(0))];
        for &(cursor, told) in if readers.is_empty() { &alone } else { readers } {
            let cursor = cursor.max(joined);
            count(&mut self.cursors, cursor, add);
            count(&mut self.marks, cursor.max(told), add);
        }
    }

    /// Returns the id up to which every reader of `recipient` has received everything. Without readers, a user stands where the
    /// first of them will start.
    pub(super) fn reached(&self, recipient: Recipient) -> MessageId {
        let place = self.places.get(&recipient);
        match recipient {
            Recipient::All => self.cursors.first_key_value().map_or(MessageId(u64::MAX), |(&id, _)| id),
            Recipient::Device(_) => place.map_or(MessageId(0), |place| place.front),
            Recipient::User(_) => {
                place.map_or(MessageId(0), |place| place.readers.iter().map(|reader| reader.cursor).min().unwrap_or(place.front))
            }
        }
    }

    /// Returns whether some reader of `recipient` has neither received `id` nor been told that it misses it.
    pub(super) fn misses(&self, recipient: Recipient, id: MessageId) -> bool {
        match recipient {
            Recipient::All => self.marks.first_key_value().is_some_and(|(&mark, _)| mark < id),
            Recipient::Device(_) => false,
            Recipient::User(_) => {
                let place = self.places.get(&recipient);
                place.is_some_and(|place| place.readers.iter().any(|reader| reader.mark() < id))
            }
        }
    }

    /// Returns whether some reader's mark lies from `from` up to, but not at, `to`.
    pub(super) fn mark_between(&self, recipient: Recipient, from: MessageId, to: MessageId) -> bool {
        match recipient {
            Recipient::All => self.marks.range(from..to).next().is_some(),
            Recipient::Device(_) => false,
            Recipient::User(_) => {
                let place = self.places.get(&recipient);
                place.is_some_and(|p| p.readers.iter().any(|r| (from..to).contains(&r.mark())))
            }
        }
    }

    /// Notes that a reader has connected; one that is new starts with what no reader of the user has received.
    ///
    /// # Errors
    /// [`TooManyReaders`].
    pub fn join(&mut self, user: UserId, client: &ClientName, now: u64, wall: Timestamp) -> Result<Joined, TooManyReaders> {
        let recipient = Recipient::User(user);
        let (limit, joined) = (self.limits.readers, self.users.get(&user).copied().unwrap_or_default());
        let place = self.places.get(&recipient);
        if let Some(reader) = place.and_then(|place| place.reader(client)) {
            if reader.connected + CONNECTED_PRECISION_SECONDS > now {
                return Ok(Joined::Unchanged);
            }
            self.change_place(recipient, |place| {
                place.readers.iter_mut().filter(|r| r.client == *client).for_each(|r| {
                    (r.connected, r.connected_at) = (now, wall.unix_micros());
                });
            });
            return Ok(Joined::Again);
        }
        let joined_as = if place.is_none_or(|place| place.readers.is_empty()) { Joined::First } else { Joined::Further };
        let counted = place.map_or(0, |place| place.readers.iter().filter(|reader| !reader.client.is_device()).count());
        if limit > 0 && !client.is_device() && counted >= limit {
            return Err(TooManyReaders);
        }
        self.change_place(recipient, |place| {
            let number = place.next_reader;
            place.next_reader = number.wrapping_add(1);
            place.readers.push(ReaderPlace {
                number,
                client: client.clone(),
                cursor: place.front,
                broadcasts: place.broadcasts.max(joined),
                told: MessageId(0),
                told_broadcasts: MessageId(0),
                connected: now,
                connected_at: wall.unix_micros(),
            });
        });
        Ok(joined_as)
    }

    /// Returns whether a connection of `client` has to be noted at `now`.
    pub fn must_join(&self, user: UserId, client: &ClientName, now: u64) -> bool {
        let reader = self.places.get(&Recipient::User(user)).and_then(|place| place.reader(client));
        reader.is_none_or(|reader| reader.connected + CONNECTED_PRECISION_SECONDS <= now)
    }

    /// Removes the readers of a user that `over` selects; `None` when there is none.
    fn remove_readers(&mut self, user: UserId, now: u64, over: impl Fn(&ReaderPlace) -> bool) -> Option<Effects> {
        let recipient = Recipient::User(user);
        if !self.places.get(&recipient)?.readers.iter().any(&over) {
            return None;
        }
        let mut effects = Effects::default();
        self.change_place(recipient, |place| place.readers.retain(|reader| !over(reader)));
        effects.places.insert(recipient);
        self.settle(recipient, now, &mut effects);
        self.settle(Recipient::All, now, &mut effects);
        Some(effects)
    }

    /// Removes a reader; `None` when there is none of that name.
    pub fn forget_reader(&mut self, user: UserId, client: &ClientName, now: u64) -> Option<Effects> {
        self.remove_readers(user, now, |reader| reader.client == *client)
    }

    /// Removes readers that have not connected for as long as the limits say.
    pub fn expire_readers(&mut self, now: u64) -> Vec<Effects> {
        let seconds = u64::from(self.limits.reader_days) * 86_400;
        let over = |reader: &ReaderPlace| seconds > 0 && reader.connected + seconds <= now;
        let users = self.places.iter().filter(|(_, place)| place.readers.iter().any(over));
        let mut users: Vec<UserId> =
            users.filter_map(|(to, _)| if let Recipient::User(id) = to { Some(*id) } else { None }).collect();
        users.sort_unstable();
        users.truncate(MAX_EXPIRED_READERS);
        users.into_iter().filter_map(|user| self.remove_readers(user, now, over)).collect()
    }

    /// Keeps received messages above `id` for live connections that have not passed them, whatever is received from now on.
    pub fn keep(&mut self, recipient: Recipient, id: Option<MessageId>) {
        self.place_mut(recipient).keep = id;
    }

    /// Forgets what is kept for live connections where they have passed everything. What is not kept any more goes with the next sweep.
    pub fn keep_no_longer(&mut self, recipient: Recipient, now: u64, effects: &mut Effects) {
        let place = self.place_mut(recipient);
        place.keep = place.keep.filter(|&id| id < place.front);
        effects.places.insert(recipient);
        if self.queues.get(&recipient).is_some_and(|queue| self.has_long_history(queue, 0, 0)) {
            self.schedule(recipient, now);
        }
    }

    /// Applies a proof, to at most `budget` messages. Returns the number of messages that it concerned, and whether some are left.
    pub fn acknowledge(&mut self, ack: &Ack, budget: usize, now: u64, wall: Timestamp, effects: &mut Effects) -> (usize, bool) {
        let (mut count, mut more, mut broadcasts) = (0, false, false);
        let user = Recipient::User(ack.user);
        let reader = self.places.get(&user).and_then(|place| place.reader(&ack.client)).cloned();
        if let Some(reader) = &reader {
            let joined = self.users.get(&ack.user).copied().unwrap_or_default();
            let mailboxes = [(user, reader.cursor), (Recipient::All, reader.broadcasts.max(joined))];
            let moved = mailboxes.map(|(to, cursor)| {
                let advanced = self.advance(to, cursor, ack, reader.number, budget.saturating_sub(count), now, wall, effects);
                count += advanced.map_or(0, |(_, n, _)| n);
                more |= advanced.is_some_and(|(.., cut)| cut);
                advanced.map(|(upto, ..)| upto)
            });
            broadcasts = moved[1].is_some();
            self.move_reader(ack, moved, effects);
        }
        if let Some(device) = ack.device {
            let to = Recipient::Device(device);
            let front = self.places.get(&to).map_or(MessageId(0), |place| place.front);
            let advanced = self.advance(to, front, ack, DEVICE_READER, budget.saturating_sub(count), now, wall, effects);
            if let Some((upto, n, cut)) = advanced {
                (count, more) = (count + n, more | cut);
                self.move_front(to, upto);
                effects.places.insert(to);
                self.settle(to, now, effects);
            }
        }
        if reader.is_some() {
            self.settle(user, now, effects);
        }
        if broadcasts {
            self.settle(Recipient::All, now, effects);
        }
        (count, more)
    }

    /// Moves the cursors of a reader over the user's messages and over the broadcasts, where they have passed any.
    fn move_reader(&mut self, ack: &Ack, [messages, broadcasts]: [Option<MessageId>; 2], effects: &mut Effects) {
        let user = Recipient::User(ack.user);
        let told = self
            .places
            .get(&user)
            .and_then(|place| place.reader(&ack.client))
            .is_some_and(|r| r.told < ack.told || r.told_broadcasts < ack.told_broadcasts);
        if messages.is_none() && broadcasts.is_none() && !told {
            return;
        }
        self.change_place(user, |place| {
            place.broadcasts = place.broadcasts.max(broadcasts.unwrap_or_default());
            for reader in place.readers.iter_mut().filter(|reader| reader.client == ack.client) {
                reader.cursor = reader.cursor.max(messages.unwrap_or_default());
                reader.broadcasts = reader.broadcasts.max(broadcasts.unwrap_or_default());
                reader.told = reader.told.max(ack.told);
                reader.told_broadcasts = reader.told_broadcasts.max(ack.told_broadcasts);
            }
        });
        effects.places.insert(user);
        if let Some(upto) = messages {
            self.move_front(user, upto);
        }
        if let Some(upto) = broadcasts {
            self.move_front(Recipient::All, upto);
            effects.places.insert(Recipient::All);
        }
    }

    /// Moves the front of a mailbox, and notes what no reader below it has received.
    fn move_front(&mut self, recipient: Recipient, upto: MessageId) {
        let place = self.place_mut(recipient);
        let before = place.front;
        place.front = before.max(upto);
        if let Some(queue) = self.queues.get_mut(&recipient) {
            let left = queue.range(before, upto).filter(|(_, entry)| !entry.is_received()).map(|(id, _)| id);
            let left: Vec<MessageId> = left.collect();
            queue.below_front.extend(left);
        }
    }

    /// Marks the messages of `recipient` above `cursor` as received; at most `budget` of them. Returns the new cursor, the number of
    /// messages, and whether some are left; `None` where there is none.
    #[expect(clippy::too_many_arguments, reason = "one step of `acknowledge`, for each of its mailboxes")]
    fn advance(
        &mut self,
        recipient: Recipient,
        cursor: MessageId,
        ack: &Ack,
        reader: u16,
        budget: usize,
        now: u64,
        wall: Timestamp,
        effects: &mut Effects,
    ) -> Option<(MessageId, usize, bool)> {
        let mut ids: Vec<_> = self.queues.get(&recipient)?.range(cursor, ack.upto).take(budget + 1).collect();
        let cut = ids.len() > budget;
        ids.truncate(budget);
        let Some(&(last, _)) = ids.last() else { return cut.then_some((cursor, 0, true)) };
        for &(id, entry) in &ids {
            if ack.passed.binary_search(&id).is_ok() {
                effects.passed.push(Passed { head: entry.head(recipient, id), reader });
            } else if entry.is_received() {
                if self.further.len() == MAX_FURTHER_ACKS {
                    self.further.pop_first();
                }
                self.further.insert((id, reader), wall);
                effects.delivered += 1;
            } else if entry.is_over(now) {
                // One that was skipped because its time was up must not count as received.
                self.end(recipient, id, EndState::Expired, effects);
            } else {
                if let Some(queue) = self.queues.get_mut(&recipient) {
                    queue.receive(id, now);
                }
                self.waits_no_more(entry.sender, entry.bytes);
                let head = entry.head(recipient, id);
                effects.ended.push(Ended { head, state: EndState::Acked, reader: Some(reader) });
                effects.delivered += 1;
            }
        }
        self.schedule(recipient, now + self.history.retain);
        Some((if cut { last } else { ack.upto }, ids.len(), cut))
    }

    /// Ends what every reader of `recipient` has passed over, and removes what is of no use to any.
    pub(super) fn settle(&mut self, recipient: Recipient, now: u64, effects: &mut Effects) {
        let Some(queue) = self.queues.get(&recipient) else { return };
        let over: Vec<MessageId> = if queue.below_front.is_empty() {
            Vec::new()
        } else {
            queue.below_front.range(..=self.reached(recipient)).copied().collect()
        };
        for id in over {
            self.end(recipient, id, EndState::Undeliverable, effects);
        }
        self.trim(recipient, now, effects);
    }
}

/// Adds a position to a count of positions, or removes it.
fn count(positions: &mut BTreeMap<MessageId, u32>, at: MessageId, add: bool) {
    let entry = positions.entry(at).or_default();
    *entry = if add { *entry + 1 } else { entry.saturating_sub(1) };
    if *entry == 0 {
        positions.remove(&at);
    }
}
