//! Receipts and history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Mailbox;
use super::message::{ReaderReceipt, Receipt, Status};
use super::reader::load;
use crate::change::{DeliveryState, Found, Waiting};
use crate::core::ids::{MessageId, Recipient};
use crate::core::time::Timestamp;
use crate::store::{Blocks, EndState, StoreError};

/// The bytes that are read for a history at once.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// The bytes that a message counts for, besides its payload: finding it costs as much as reading them.
pub(super) const MESSAGE_COST_BYTES: usize = 1024;

/// Messages selected for a history.
#[derive(Debug)]
pub struct History {
    chosen: Vec<Waiting>,
    /// The bytes of their payloads.
    bytes: usize,
    /// Others follow them.
    more: bool,
}

impl History {
    /// The number of messages.
    pub fn messages(&self) -> usize {
        self.chosen.len()
    }

    /// The bytes of their payloads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the last message, where others follow it.
    pub fn next(&self) -> Option<MessageId> {
        self.chosen.last().filter(|_| self.more).map(|last| last.id)
    }
}

/// The next message of one of several mailboxes.
struct Next(Waiting, usize);

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl Mailbox {
    /// Returns the receipt of a message.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipt(&self, id: MessageId) -> Result<Option<Receipt>, StoreError> {
        if id > self.committed() {
            return Ok(None);
        }
        let Some(Found { head, record, state, deliveries }) = self.changes.find(id)? else { return Ok(None) };
        let ended = record.as_ref().and_then(|record| Some((record.end?, record.ended_at())));
        let status = match (ended, state) {
            (Some((end, at)), _) => Status::Ended(end, at),
            (None, DeliveryState::Sent(when)) => Status::Sent(when),
            (None, DeliveryState::Queued) => Status::Queued,
            // The receipt has been removed before the message.
            (None, DeliveryState::Received | DeliveryState::Gone) => Status::Ended(EndState::Acked, None),
        };
        let (first, passed) = record.map_or((None, Vec::new()), |record| (record.first, record.passed));
        let acked_at = ended.and_then(|(_, at)| at);
        let memory = self.changes.memory();
        let readers = match head.recipient {
            Recipient::User(user) => memory.index.acks(user, id),
            Recipient::Device(_) | Recipient::All => Vec::new(),
        };
        let received = (head.recipient == Recipient::All).then(|| memory.index.users_who_have(id));
        drop(memory);
        let acked = matches!(status, Status::Ended(EndState::Acked, _));
        let listed = readers.into_iter().filter_map(|(number, client, beyond, at)| {
            let passed_over = passed.contains(&number);
            let at = if first == Some(number) { acked_at } else { at };
            (passed_over || (beyond && acked)).then_some(ReaderReceipt {
                client,
                passed_over,
                acked_at: at.filter(|_| !passed_over),
            })
        });
        Ok(Some(Receipt { head, status, deliveries, readers: listed.collect(), received }))
    }

    /// Selects the first messages that are still there in mailboxes, each above the id that stands beside its recipient, in the order
    /// of their ids: at most `limit`, and at most `max_bytes` of payload, but at least one where there is one.
    pub fn history(&self, mailboxes: &[(Recipient, MessageId)], limit: usize, max_bytes: usize) -> History {
        let upto = self.committed();
        let memory = self.changes.memory();
        let mut sources: Vec<_> =
            mailboxes.iter().map(|&(recipient, after)| memory.index.messages(recipient, after, upto)).collect();
        // The next message of each mailbox: those of a user with many devices are not gathered first.
        let mut next: BinaryHeap<_> = BinaryHeap::with_capacity(sources.len());
        next.extend(sources.iter_mut().enumerate().filter_map(|(n, source)| Some(Reverse(Next(source.next()?, n)))));
        let mut history = History { chosen: Vec::new(), bytes: 0, more: false };
        while let Some(Reverse(Next(message, n))) = next.pop() {
            let bytes = history.bytes + message.bytes as usize;
            if history.chosen.len() >= limit || (bytes > max_bytes && !history.chosen.is_empty()) {
                history.more = true;
                break;
            }
            history.bytes = bytes;
            history.chosen.push(message);
            next.extend(sources[n].next().map(|message| Reverse(Next(message, n))));
        }
        history
    }

    /// Reads the payloads of selected messages, in their order, and calls `found` with each. One that has been removed meanwhile is
    /// left out. Connections that read their mailboxes get in between.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read_history(&self, history: History, mut found: impl FnMut(Vec<u8>)) -> Result<(), StoreError> {
        let mut chosen = history.chosen.into_iter().peekable();
        while chosen.peek().is_some() {
            let mut bytes = 0;
            let batch: Vec<_> = std::iter::from_fn(|| {
                let next = chosen.next_if(|_| bytes < READ_BYTES)?;
                bytes += next.bytes as usize + MESSAGE_COST_BYTES;
                Some(next)
            })
            .collect();
            load(&self.store, batch).await?.into_iter().for_each(|(_, payload)| found(payload));
        }
        Ok(())
    }

    /// Returns the time at which a message was accepted, if it is still there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn taken_at(&self, id: MessageId) -> Result<Option<Timestamp>, StoreError> {
        let block = self.changes.memory().index.block_of(id);
        let head = block.map_or(Ok(None), |block| Blocks::new(self.store.log()).head(block, id))?;
        Ok(head.map(|head| head.created))
    }
}
