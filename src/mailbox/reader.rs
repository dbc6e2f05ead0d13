//! One session's place in the log.
//!
//! A connection reads up to three mailboxes (its user's, its device's, the broadcasts) as one stream in id order. It starts
//! after the cursors, or where the client asks, reads the messages there, and then follows the announcements, skipping those that
//! it has already written. After a missed announcement it reads again.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Mailbox;
use crate::core::ids::{DeviceId, MessageId, Recipient};
use crate::hub::Announcement;
use crate::store::{Reader, Result, Store, StoreError, Stored, User};

/// A place in the log, over several mailboxes.
#[derive(Debug)]
pub struct LogReader {
    /// The mailboxes.
    starts: Vec<Start>,
    /// Everything up to here has been read, in all of them.
    at: MessageId,
    /// The id at which a user without a cursor begins.
    joined: MessageId,
}

/// The start in one mailbox.
#[derive(Debug, Clone, Copy)]
struct Start {
    reader: Reader,
    /// Begins after this message.
    after: MessageId,
    /// Everything up to here had been received before: a replay of it does not depend on its life.
    received: MessageId,
}

/// The state of the mailboxes at the start of a session, for its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Up to this id everything had been received before.
    pub last_id: MessageId,
    /// The number of pending messages.
    pub pending: usize,
    /// For a client that asked for a replay: set to whether everything after that id is still there.
    pub recovered: Option<bool>,
}

/// Consecutive messages of the log.
#[derive(Debug)]
pub struct Batch {
    /// Ids and payloads, in id order.
    pub messages: Vec<(MessageId, Vec<u8>)>,
    /// The place of the reader once they are written.
    pub upto: MessageId,
    /// Set when there are no more.
    pub complete: bool,
}

impl Mailbox {
    /// Opens a session's place in the log: at the cursors, or at `since` where the client asks for more.
    pub fn reader(&self, user: &User, device: Option<DeviceId>, since: Option<MessageId>) -> (LogReader, Welcome) {
        let mut readers = vec![Reader::User(user.id), Reader::Broadcasts(user.id)];
        readers.extend(device.map(Reader::Device));
        let committed = MessageId(self.committed.load(Ordering::Acquire));
        let memory = self.changes.memory();
        let cursors: Vec<(Reader, MessageId)> = readers.iter().map(|&r| (r, memory.index.cursor(r, user.joined))).collect();
        let pending = cursors.iter().map(|&(r, cursor)| memory.index.waiting(r, cursor)).sum();
        let oldest = cursors.iter().filter_map(|&(r, cursor)| memory.index.oldest_waiting(r, cursor)).min();
        drop(memory);
        // The cursors of several mailboxes differ: below the oldest pending message, in any of them, everything has been received.
        let furthest = cursors.iter().map(|c| c.1).max().unwrap_or(MessageId(0));
        let last_id = oldest.map_or(furthest, |id| furthest.min(MessageId(id.0 - 1)));
        let log = self.store.log();
        let recovered = since.map(|since| {
            let there = |r: &Reader| log.purged(r.recipient()).is_ok_and(|gone| gone <= since.max(user.joined));
            since <= committed && readers.iter().all(there)
        });
        let start = |(reader, received): (Reader, MessageId)| {
            let asked = since.map_or(received, |since| since.min(received));
            // Broadcasts from before the account existed are not replayed.
            let after = if matches!(reader, Reader::Broadcasts(_)) { asked.max(user.joined) } else { asked };
            Start { reader, after, received }
        };
        let starts = cursors.into_iter().map(start).collect();
        (LogReader { starts, at: MessageId(0), joined: user.joined }, Welcome { last_id, pending, recovered })
    }
}

impl LogReader {
    /// Returns the cursors that acknowledgements of this session move.
    pub fn readers(&self) -> Vec<Reader> {
        self.starts.iter().map(|s| s.reader).collect()
    }

    /// Returns the id at which a user without a cursor begins.
    pub fn joined(&self) -> MessageId {
        self.joined
    }

    /// Leaves the mailbox of `device`.
    pub fn leave(&mut self, device: DeviceId) {
        self.starts.retain(|start| start.reader.recipient() != Recipient::Device(device));
    }

    /// Moves the place to `upto`.
    pub fn advance(&mut self, upto: MessageId) {
        self.at = self.at.max(upto);
    }

    /// Returns whether an announced message has not been read yet.
    pub fn wants(&self, announced: &Announcement) -> bool {
        let Some(id) = announced.id else { return true };
        let start = self.starts.iter().find(|s| s.reader.recipient() == announced.recipient);
        start.is_some_and(|start| id > self.at.max(start.after))
    }

    /// Returns the next messages: as many as fit `max_bytes` and `max_messages`, at least one where there is one. Reads durable
    /// messages only, and skips expired ones.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read(&self, mailbox: &Mailbox, max_bytes: usize, max_messages: usize) -> Result<Batch> {
        let (store, committed) = (mailbox.store.clone(), Arc::clone(&mailbox.committed));
        let now = mailbox.changes.clock().now();
        let (starts, at) = (self.starts.clone(), self.at);
        let job = move || {
            let committed = MessageId(committed.load(Ordering::Acquire));
            collect(&store, &starts, at, committed, now, max_bytes, max_messages)
        };
        tokio::task::spawn_blocking(job).await.map_err(|_| StoreError::Stopped)?
    }
}

/// Merges the mailboxes by id.
fn collect(
    store: &Store,
    starts: &[Start],
    at: MessageId,
    committed: MessageId,
    now: u64,
    max_bytes: usize,
    max_messages: usize,
) -> Result<Batch> {
    let log = store.log();
    let mut sources: Vec<Peekable<_>> =
        starts.iter().map(|s| log.read(s.reader.recipient(), s.after.max(at), committed).peekable()).collect();
    let mut batch = Batch { messages: Vec::new(), upto: at, complete: false };
    let mut bytes = 0;
    while batch.messages.len() < max_messages && bytes < max_bytes {
        let heads = sources.iter_mut().enumerate().filter_map(|(n, source)| match source.peek() {
            Some(Ok(message)) => Some((message.head.id, n)),
            Some(Err(_)) => Some((MessageId(0), n)), // taken, and so reported, first
            None => None,
        });
        let Some((_, first)) = heads.min() else {
            batch.complete = true;
            batch.upto = committed.max(at);
            break;
        };
        let Some(message) = sources[first].next() else { break };
        let Stored { head, payload } = message?;
        batch.upto = head.id;
        if !head.expired && (head.expires > now || head.id <= starts[first].received) {
            bytes += payload.len();
            batch.messages.push((head.id, payload));
        }
    }
    Ok(batch)
}
