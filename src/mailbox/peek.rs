//! Looking at queued messages, which moves nothing and proves nothing.

use std::collections::VecDeque;

use super::Mailbox;
use super::reader::load;
use super::receipts::{MESSAGE_COST_BYTES, READ_BYTES};
use crate::change::Queued;
use crate::core::ids::{MessageId, Recipient};
use crate::store::StoreError;

/// Queued messages that were selected to be looked at.
#[derive(Debug)]
pub struct Peek {
    chosen: VecDeque<Queued>,
    /// The last of them, where others follow.
    next: Option<MessageId>,
}

impl Peek {
    /// Returns the last message, where others follow it.
    pub fn next(&self) -> Option<MessageId> {
        self.next
    }
}

impl Mailbox {
    /// Selects the first messages of a mailbox above `after` that no reader has received, for a user its share of the broadcasts
    /// included, in the order of their ids: at most `limit`, and as many as `cost` allows in `max_cost`, but at least one where there
    /// is one.
    pub fn peek(
        &self,
        recipient: Recipient,
        after: MessageId,
        limit: usize,
        max_cost: usize,
        cost: impl Fn(&Queued) -> usize,
    ) -> Peek {
        let (upto, now) = (self.committed(), self.changes.clock().now());
        let mut chosen: VecDeque<_> = self.changes.memory().index.queued(recipient, after, upto, limit + 1, now).into();
        let mut total = 0;
        let fitting = chosen.iter().take(limit).take_while(|queued| {
            total += cost(queued);
            total <= max_cost
        });
        let count = fitting.count().max(1);
        let more = chosen.len() > count;
        chosen.truncate(count);
        let next = chosen.back().map(|last| last.head.id).filter(|_| more);
        Peek { chosen, next }
    }

    /// Reads the payloads of selected messages, in their order, and calls `found` with each. One that has been removed meanwhile is
    /// left out. Connections that read their mailboxes get in between.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read_peek(&self, peek: Peek, mut found: impl FnMut(&Queued, Vec<u8>)) -> Result<(), StoreError> {
        let mut chosen = peek.chosen;
        while !chosen.is_empty() {
            let mut bytes = 0;
            let fitting = chosen.iter().take_while(|queued| {
                let fits = bytes < READ_BYTES;
                bytes += queued.waiting.bytes as usize + MESSAGE_COST_BYTES;
                fits
            });
            let batch: VecDeque<_> = fitting.copied().collect();
            chosen.drain(..batch.len());
            let mut batch = batch.into_iter();
            for (id, payload) in load(&self.store, batch.clone().map(|queued| queued.waiting).collect()).await? {
                if let Some(queued) = batch.find(|queued| queued.head.id == id) {
                    found(&queued, payload);
                }
            }
        }
        Ok(())
    }
}
