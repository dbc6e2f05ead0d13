//! Receipts and history.

use std::sync::atomic::Ordering;

use super::Mailbox;
use super::message::{ReaderReceipt, Receipt, Status};
use crate::change::{DeliveryState, Found};
use crate::core::ids::{MessageId, Recipient};
use crate::core::time::Timestamp;
use crate::store::{Blocks, EndState, StoreError, Stored};

impl Mailbox {
    /// Returns the receipt of a message.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipt(&self, id: MessageId) -> Result<Option<Receipt>, StoreError> {
        if id.0 > self.committed.load(Ordering::Acquire) {
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

    /// Returns up to `limit` messages above `since` that are still there, of any of `recipients`, in id order, and whether there
    /// are more.
    ///
    /// # Errors
    /// If the store fails.
    pub fn history(&self, recipients: &[Recipient], since: MessageId, limit: usize) -> Result<(Vec<Stored>, bool), StoreError> {
        let upto = MessageId(self.committed.load(Ordering::Acquire));
        let mut found: Vec<_> = {
            let memory = self.changes.memory();
            let of = |&recipient: &Recipient| memory.index.messages(recipient, since, upto).take(limit + 1).collect::<Vec<_>>();
            recipients.iter().flat_map(of).collect()
        };
        found.sort_unstable_by_key(|waiting| waiting.id);
        let more = found.len() > limit;
        found.truncate(limit);
        let mut blocks = Blocks::new(self.store.log());
        let messages = found.iter().map(|waiting| blocks.message(waiting.block, waiting.id));
        Ok((messages.filter_map(Result::transpose).collect::<Result<_, _>>()?, more))
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
