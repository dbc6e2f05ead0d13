//! One session's place in the log.
//!
//! A connection reads up to three mailboxes (its user's, its device's, the broadcasts) as one stream in id order. It starts
//! after the cursors of its reader, or where the client asks, reads the messages there, and then follows the announcements, skipping
//! those that it has already written. After a missed announcement it reads again.

use std::sync::atomic::Ordering;

use super::Mailbox;
use super::acks::{Joined, Position};
use crate::change::{Ack, JoinError, JoinReader, ReaderState, Waiting};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::hub::Announcement;
use crate::store::{Blocks, Log, Result, Store};

/// The reader that a connection is, and what it asks for.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// The user.
    pub user: UserId,
    /// The name of the reader.
    pub client: ClientName,
    /// The device whose messages it reads, too.
    pub device: Option<DeviceId>,
    /// Replay what the log still holds after this id.
    pub since: Option<Since>,
    /// The longest payload that the client accepts, in bytes; longer ones are passed over.
    pub max_bytes: Option<u32>,
    /// It only looks on: it proves nothing and moves nothing.
    pub peek: bool,
    /// The connection's position, which the place in the log moves: everything up to there has been read, in all mailboxes.
    pub position: Position,
}

/// An id after which a client asks for a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The epoch that the id is of, where the client says so.
    pub epoch: Option<String>,
    /// The id.
    pub id: MessageId,
}

impl Since {
    /// Parses `<id>` or `<epoch>:<id>`. A malformed one is no position in the log: the client starts at its cursor and is told that
    /// it has not recovered.
    pub fn parse(text: &str) -> Self {
        let (epoch, id) = text.rsplit_once(':').map_or((None, text), |(epoch, id)| (Some(epoch.to_owned()), id));
        Self { epoch, id: id.parse().unwrap_or(MessageId(u64::MAX)) }
    }
}

/// A place in the log, over several mailboxes.
#[derive(Debug)]
pub struct LogReader {
    options: ReaderOptions,
    /// The mailboxes.
    starts: Vec<Start>,
    /// The messages that it has passed over, in the order of their ids.
    passed: Vec<MessageId>,
    /// Keeps messages from being removed before this connection has read them.
    _joined: Joined,
}

/// The start in one mailbox.
#[derive(Debug, Clone, Copy)]
struct Start {
    recipient: Recipient,
    /// Begins after this message.
    after: MessageId,
    /// Everything up to here had been received before: a replay of it does not depend on its life.
    received: MessageId,
    /// The client has been told of messages removed up to here.
    told: MessageId,
}

/// The state of the mailboxes at the start of a session, for its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Up to this id everything had been received before.
    pub last_id: MessageId,
    /// The number of pending messages.
    pub pending: usize,
    /// For a client that asked for a replay, or missed messages: set to whether everything after that id is still there.
    pub recovered: Option<bool>,
    /// The number of messages that were removed before this reader had them.
    pub missed: u64,
}

/// Messages that were removed before a live connection had read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The connection had read up to here.
    pub after: MessageId,
    /// The last of them.
    pub upto: MessageId,
}

/// Consecutive messages of the log.
#[derive(Debug)]
pub struct Batch {
    /// Messages before these that have been removed.
    pub gap: Option<Gap>,
    /// Ids and payloads, in id order.
    pub messages: Vec<(MessageId, Vec<u8>)>,
    /// The place of the reader once they are written.
    pub upto: MessageId,
    /// Set when there are no more.
    pub complete: bool,
}

impl Mailbox {
    /// Opens a session's place in the log: at the cursors, or at `since` where the client asks for more.
    pub fn reader(&self, options: ReaderOptions) -> (LogReader, Welcome) {
        let user = options.user;
        let mut mailboxes = vec![Recipient::User(user), Recipient::All];
        mailboxes.extend(options.device.map(Recipient::Device));
        // Before the cursors are read: what is removed from here on is kept for this connection.
        let at = options.position.clone();
        let joined = self.acks.live.join(mailboxes.clone(), at.clone());
        let now = self.changes.clock().now();
        // A client that returns at once must not get again what it has just proved.
        let proved = self.acks.proved_upto(&(user, options.client.clone(), options.device));
        let states: Vec<(Recipient, ReaderState)> = {
            let memory = self.changes.memory();
            mailboxes.into_iter().map(|to| (to, memory.index.reader(to, user, &options.client, proved, now))).collect()
        };
        let oldest = states.iter().filter_map(|(_, state)| state.oldest).min();
        // The cursors of several mailboxes differ: below the oldest pending message, in any of them, everything has been received.
        let furthest = states.iter().map(|(_, state)| state.cursor).max().unwrap_or(MessageId(0));
        let missed = states.iter().map(|(_, state)| state.missed).sum();
        let recovered = options.since.as_ref().map(|since| missed == 0 && self.has_all_since(since, &states));
        let welcome = Welcome {
            last_id: oldest.map_or(furthest, |id| furthest.min(MessageId(id.0 - 1))),
            pending: states.iter().map(|(_, state)| state.waiting).sum(),
            recovered: recovered.or((missed > 0).then_some(false)),
            missed,
        };
        let since = options.since.as_ref().map_or(MessageId(u64::MAX), |since| since.id);
        let start = |(recipient, state): (Recipient, ReaderState)| {
            // Broadcasts from before the account existed are not replayed.
            let after = since.min(state.cursor).max(state.joined);
            Start { recipient, after, received: state.cursor, told: state.told }
        };
        let starts: Vec<Start> = states.into_iter().map(start).collect();
        at.store(starts.iter().map(|start| start.after.0).min().unwrap_or(0), Ordering::Release);
        (LogReader { options, starts, passed: Vec::new(), _joined: joined }, welcome)
    }

    /// Returns whether every message of a reader's mailboxes after `since` is still there, and `since` is an id that a client of
    /// these mailboxes can know.
    fn has_all_since(&self, since: &Since, states: &[(Recipient, ReaderState)]) -> bool {
        let known = states.iter().map(|(_, state)| state.newest).max().unwrap_or(MessageId(0));
        let same_epoch = since.epoch.as_deref().is_none_or(|epoch| epoch == self.store.epoch());
        let lost = |(_, state): &(Recipient, ReaderState)| state.gone > since.id.max(state.joined);
        // From the beginning: there is nothing that such a client could have missed before.
        let lost_by_restore = since.id > MessageId(0) && self.store.before_restore(since.id);
        same_epoch && since.id <= known && !lost_by_restore && !states.iter().any(lost)
    }
}

impl LogReader {
    fn at(&self) -> MessageId {
        MessageId(self.options.position.load(Ordering::Acquire))
    }

    /// Returns whether it only looks on.
    pub fn is_peek(&self) -> bool {
        self.options.peek
    }

    /// The user, and the reader of its messages.
    pub fn reader(&self) -> (UserId, &ClientName) {
        (self.options.user, &self.options.client)
    }

    /// The reader, with the device whose messages it reads, too.
    pub(super) fn key(&self) -> (UserId, ClientName, Option<DeviceId>) {
        (self.options.user, self.options.client.clone(), self.options.device)
    }

    /// Passes over a message that this session has read.
    pub(super) fn pass(&mut self, id: MessageId) {
        if let Err(at) = self.passed.binary_search(&id) {
            self.passed.insert(at, id);
        }
    }

    /// Returns the mailboxes, each with the id behind which this session begins.
    pub(super) fn mailboxes(&self) -> impl Iterator<Item = (Recipient, MessageId)> + '_ {
        self.starts.iter().map(|start| (start.recipient, start.after))
    }

    /// Returns the proof that everything up to `upto` has been received but what was passed over.
    pub(super) fn ack(&mut self, upto: MessageId) -> Ack {
        let later = self.passed.split_off(self.passed.partition_point(|id| *id <= upto));
        let passed = std::mem::replace(&mut self.passed, later);
        let ReaderOptions { user, client, .. } = &self.options;
        let device = self.options.device.filter(|&id| self.starts.iter().any(|start| start.recipient == Recipient::Device(id)));
        let told = |mailbox| self.starts.iter().find(|start| start.recipient == mailbox).map_or(MessageId(0), |start| start.told);
        let (told, told_broadcasts) = (told(Recipient::User(*user)), told(Recipient::All));
        Ack { user: *user, client: client.clone(), device, upto, told, told_broadcasts, passed }
    }

    /// The messages that were passed over and are not part of a proof yet, in order.
    pub(super) fn passed(&self) -> &[MessageId] {
        &self.passed
    }

    /// Returns the last message that was passed over and is not part of a proof yet.
    pub fn last_passed(&self) -> Option<MessageId> {
        self.passed.last().copied()
    }

    /// Leaves the mailbox of `device`.
    pub fn leave(&mut self, device: DeviceId) {
        self.starts.retain(|start| start.recipient != Recipient::Device(device));
    }

    /// Moves the place to `upto`.
    pub fn advance(&mut self, upto: MessageId) {
        self.options.position.fetch_max(upto.0, Ordering::AcqRel);
    }

    /// Returns whether an announced message has not been read yet.
    pub fn wants(&self, announced: &Announcement) -> bool {
        let Some(id) = announced.id else { return true };
        let start = self.starts.iter().find(|start| start.recipient == announced.recipient);
        start.is_some_and(|start| id > self.at().max(start.after))
    }

    /// Returns whether the client accepts a payload of `bytes`. One that it does not is to be read from the log, which passes over
    /// it.
    pub fn accepts(&self, bytes: usize) -> bool {
        self.options.max_bytes.is_none_or(|max| bytes <= max as usize)
    }

    /// Returns the next messages: as many as fit `max_bytes` and `max_messages`, at least one where there is one. Reads durable
    /// messages only, and skips expired ones and those that the client does not accept.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read(&mut self, mailbox: &Mailbox, max_bytes: usize, max_messages: usize) -> Result<Batch> {
        let committed = mailbox.committed();
        let selection = self.select(mailbox, committed, max_bytes, max_messages);
        self.passed.extend(selection.passed);
        for (mailbox, removed) in selection.told {
            self.starts.iter_mut().filter(|start| start.recipient == mailbox).for_each(|start| start.told = removed);
        }
        let Selection { mut gap, upto, complete, chosen, .. } = selection;
        let ids: Vec<MessageId> = chosen.iter().map(|waiting| waiting.id).collect();
        let messages = load(&mailbox.store, chosen).await?;
        if messages.len() < ids.len() {
            gap = self.removed_meanwhile(mailbox, &ids, &messages).or(gap);
        }
        Ok(Batch { gap, messages, upto, complete })
    }

    /// Returns the gap that messages leave which were removed between their selection and the look into the log; those that were
    /// taken back leave none.
    fn removed_meanwhile(&mut self, mailbox: &Mailbox, ids: &[MessageId], found: &[(MessageId, Vec<u8>)]) -> Option<Gap> {
        let memory = mailbox.changes.memory();
        let removed = self.starts.iter().map(|start| memory.index.removed_upto(start.recipient)).max()?;
        drop(memory);
        let lost = |id: &&MessageId| **id <= removed && found.binary_search_by_key(*id, |(id, _)| *id).is_err();
        let (first, last) = (ids.iter().find(lost)?, ids.iter().rev().find(lost)?);
        self.starts.iter_mut().for_each(|start| start.told = start.told.max(*last));
        Some(Gap { after: MessageId(first.0.saturating_sub(1)), upto: *last })
    }

    /// Merges the mailboxes by id.
    fn select(&self, mailbox: &Mailbox, committed: MessageId, max_bytes: usize, max_messages: usize) -> Selection {
        let (at, now, max_deliveries) = (self.at(), mailbox.changes.clock().now(), mailbox.max_deliveries());
        let memory = mailbox.changes.memory();
        let mut selection =
            Selection { gap: None, told: Vec::new(), chosen: Vec::new(), passed: Vec::new(), upto: at, complete: false };
        for start in &self.starts {
            let (removed, from) = (memory.index.removed_upto(start.recipient), at.max(start.after));
            if removed > start.told && removed > from {
                selection.told.push((start.recipient, removed));
                let gap = selection.gap.get_or_insert(Gap { after: from, upto: removed });
                (gap.after, gap.upto) = (gap.after.min(from), gap.upto.max(removed));
            }
        }
        let sources = self.starts.iter().map(|start| {
            let messages = memory.index.messages(start.recipient, start.after.max(at), committed);
            (messages.peekable(), start)
        });
        let (mut sources, mut bytes): (Vec<_>, usize) = (sources.collect(), 0);
        while selection.chosen.len() < max_messages && bytes < max_bytes {
            let next = sources.iter_mut().enumerate().filter_map(|(n, (source, _))| Some((source.peek()?.id, n))).min();
            let Some((_, n)) = next else {
                selection.complete = true;
                selection.upto = committed.max(at);
                break;
            };
            let (source, start) = &mut sources[n];
            let Some(waiting) = source.next() else { break };
            selection.upto = waiting.id;
            let Waiting { id, expires, deliveries, received, .. } = waiting;
            let replayed = id <= start.received;
            if expires <= now && !replayed {
                continue;
            }
            let tried = max_deliveries > 0 && deliveries >= max_deliveries && !received;
            if !self.accepts(waiting.bytes as usize) || (tried && !replayed) {
                selection.passed.extend(Some(id).filter(|_| !replayed && !self.options.peek));
                continue;
            }
            bytes += waiting.bytes as usize;
            selection.chosen.push(waiting);
        }
        selection
    }
}

/// Returns the ids and payloads of the messages that are still there.
pub(super) async fn load(store: &Store, chosen: Vec<Waiting>) -> Result<Vec<(MessageId, Vec<u8>)>> {
    let mut blocks = Blocks::new(store.log());
    let in_memory = chosen.iter().map(|waiting| blocks.message_in_memory(waiting.block, waiting.id));
    if let Some(messages) = in_memory.map(|found| found.map(|m| (m.head.id, m.payload))).collect() {
        return Ok(messages);
    }
    let load = move |log: Log<'_>| {
        let mut blocks = Blocks::new(log);
        let messages = chosen.iter().map(|waiting| blocks.message(waiting.block, waiting.id));
        // One that was removed a moment ago is skipped.
        let found = messages.filter_map(|message| message.map(|found| found.map(|m| (m.head.id, m.payload))).transpose());
        found.collect()
    };
    store.read(load).await
}

/// The messages to read next.
struct Selection {
    gap: Option<Gap>,
    /// The mailboxes that it is of, and the last message removed from each.
    told: Vec<(Recipient, MessageId)>,
    chosen: Vec<Waiting>,
    passed: Vec<MessageId>,
    upto: MessageId,
    complete: bool,
}

impl Mailbox {
    /// Waits until the reader exists: the first connection of its name adds it. That is not worth a commit of its own, but where
    /// what the reader receives depends on it.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(&self, user: UserId, client: &ClientName) -> Result<(), JoinError> {
        let now = self.changes.clock().now();
        if !self.changes.memory().index.must_join(user, client, now) {
            return Ok(());
        }
        if self.changes.run_soon(JoinReader { user, client: client.clone() }).await? {
            self.changes.commit().await?;
        }
        Ok(())
    }
}
