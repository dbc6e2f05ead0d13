//! Cursors, the moments at which messages were received, and marks of removed messages.

use super::Log;
use crate::core::ids::{MessageId, Recipient};
use crate::store::Result;
use crate::store::records::{Reader, ReceivedAt};

impl Log<'_> {
    /// Moves the cursor of `reader` to `upto`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_cursor(&self, reader: Reader, upto: MessageId) -> Result<()> {
        self.0.cursors.insert(&reader, &upto)
    }

    /// Removes the cursors and marks of a deleted recipient.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_recipient(&self, recipient: Recipient) -> Result<()> {
        self.0.purged.remove(&recipient)?;
        match recipient {
            Recipient::User(user) => {
                self.0.cursors.remove(&Reader::User(user))?;
                self.0.cursors.remove(&Reader::Broadcasts(user))?;
            }
            Recipient::Device(device) => self.0.cursors.remove(&Reader::Device(device))?,
            Recipient::All => {}
        }
        self.forget_receipts(recipient, MessageId(u64::MAX))
    }

    /// Returns all cursors.
    pub fn cursors(&self) -> impl Iterator<Item = Result<(Reader, MessageId)>> + '_ {
        self.0.cursors.iter()
    }

    /// Notes the moment at which the cursor of `recipient` came to `upto`. For broadcasts: the moment at which everybody had
    /// received them.
    ///
    /// # Errors
    /// If the store fails.
    pub fn note_receipt(&self, recipient: Recipient, upto: MessageId, when: ReceivedAt) -> Result<()> {
        self.0.receipts.insert(&(recipient, upto), &when)
    }

    /// Returns the moment at which the cursor of `recipient` passed `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn received_at(&self, recipient: Recipient, id: MessageId) -> Result<Option<ReceivedAt>> {
        let mut entries = self.0.receipts.range((recipient, id)..=(recipient, MessageId(u64::MAX)));
        Ok(entries.next().transpose()?.map(|(_, when)| when))
    }

    /// Returns the newest broadcast that everybody has received, if it is known.
    ///
    /// # Errors
    /// If the store fails.
    pub fn broadcasts_received(&self) -> Result<Option<MessageId>> {
        let all = (Recipient::All, MessageId(0))..=(Recipient::All, MessageId(u64::MAX));
        let newest = self.0.receipts.range(all).last().transpose()?;
        Ok(newest.map(|((_, upto), _)| upto))
    }

    /// Removes the moments at which the cursor passed messages below `before`, none of which are left.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget_receipts(&self, recipient: Recipient, before: MessageId) -> Result<()> {
        for entry in self.0.receipts.range((recipient, MessageId(0))..(recipient, before)) {
            self.0.receipts.remove(&entry?.0)?;
        }
        Ok(())
    }

    /// Notes that a message is no longer there.
    ///
    /// # Errors
    /// If the store fails.
    pub fn note_purged(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        if self.purged(recipient)? < id {
            self.0.purged.insert(&recipient, &id)?;
        }
        Ok(())
    }

    /// Returns the newest message of `recipient` that is no longer there: 0 where none has been removed.
    ///
    /// # Errors
    /// If the store fails.
    pub fn purged(&self, recipient: Recipient) -> Result<MessageId> {
        Ok(self.0.purged.get(&recipient)?.unwrap_or(MessageId(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::DeviceId;
    use crate::core::time::Timestamp;
    use crate::store::tests::fresh;

    #[test]
    fn receipts_are_found_by_any_id_they_cover() {
        let (_dir, store) = fresh();
        let (log, to) = (store.log(), Recipient::Device(DeviceId(1)));
        let at = |micros| ReceivedAt { wall: Timestamp::from_unix_micros(micros), service: Some(9) };
        let (early, late) = (at(1), at(2));
        log.note_receipt(to, MessageId(5), early).unwrap();
        log.note_receipt(to, MessageId(9), late).unwrap();
        let at = |id| log.received_at(to, MessageId(id)).unwrap();
        assert_eq!((at(1), at(5), at(6), at(9), at(10)), (Some(early), Some(early), Some(late), Some(late), None));
        log.forget_receipts(to, MessageId(6)).unwrap();
        assert_eq!(at(1), Some(late));
    }
}
