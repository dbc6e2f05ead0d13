//! How far mailboxes have been received, and when; what of them is no longer there.

use super::catalogue::number;
use super::messages::{Log, record_key};
use super::{Result, StoreError};
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;

/// Whose cursor: a mailbox's own, or, for what is sent to everybody, one user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reader {
    /// A user's mailbox.
    User(UserId),
    /// A device's mailbox.
    Device(DeviceId),
    /// The broadcasts, as this user has received them.
    Broadcasts(UserId),
}

impl Reader {
    /// The mailbox that is read.
    pub fn recipient(self) -> Recipient {
        match self {
            Self::User(id) => Recipient::User(id),
            Self::Device(id) => Recipient::Device(id),
            Self::Broadcasts(_) => Recipient::All,
        }
    }

    pub(super) fn to_key(self) -> [u8; 9] {
        match self {
            Self::User(_) | Self::Device(_) => self.recipient().to_key(),
            Self::Broadcasts(user) => {
                let mut key = Recipient::User(user).to_key();
                key[0] = b'b';
                key
            }
        }
    }

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        if key.first() == Some(&b'b') {
            return UserId::from_key(&key[1..]).map(Self::Broadcasts);
        }
        match Recipient::from_key(key)? {
            Recipient::User(id) => Some(Self::User(id)),
            Recipient::Device(id) => Some(Self::Device(id)),
            Recipient::All => None,
        }
    }
}

impl Log<'_> {
    /// Everything up to this id of the mailbox has been received: the cursor. `reader` is whose cursor it is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn set_cursor(&self, reader: Reader, upto: MessageId) -> Result<()> {
        self.0.cursors.insert(reader.to_key(), &upto.to_key())?;
        Ok(())
    }

    /// Forgets the cursors and marks of a recipient that is no more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_recipient(&self, recipient: Recipient) -> Result<()> {
        self.0.cursors.remove(recipient.to_key())?;
        self.0.purged.remove(recipient.to_key())?;
        if let Recipient::User(user) = recipient {
            self.0.cursors.remove(Reader::Broadcasts(user).to_key())?;
        }
        self.forget_receipts(recipient, MessageId(u64::MAX))
    }

    /// All cursors.
    pub fn cursors(&self) -> impl Iterator<Item = Result<(Reader, MessageId)>> + '_ {
        self.0.cursors.iter().map(|entry| {
            let wrong = || StoreError::Damaged { tree: "cursors" };
            let (key, value) = entry?;
            let reader = Reader::from_key(&key).ok_or_else(wrong)?;
            Ok((reader, MessageId::from_key(&value).ok_or_else(wrong)?))
        })
    }

    /// Notes when the cursor came to `upto`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn note_receipt(&self, recipient: Recipient, upto: MessageId, when: Timestamp) -> Result<()> {
        self.0.receipts.insert(record_key(recipient, upto), &when.unix_micros().to_be_bytes())?;
        Ok(())
    }

    /// When the cursor of `recipient` passed `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn received_at(&self, recipient: Recipient, id: MessageId) -> Result<Option<Timestamp>> {
        let range = record_key(recipient, id)..=record_key(recipient, MessageId(u64::MAX));
        let Some(entry) = self.0.receipts.range(range).next() else { return Ok(None) };
        let micros: [u8; 8] = entry?.1.as_ref().try_into().map_err(|_| StoreError::Damaged { tree: "receipts" })?;
        Ok(Some(Timestamp::from_unix_micros(i64::from_be_bytes(micros))))
    }

    /// Forgets when the cursor passed messages below `before`, none of which are left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_receipts(&self, recipient: Recipient, before: MessageId) -> Result<()> {
        for key in self.0.receipts.range(record_key(recipient, MessageId(0))..record_key(recipient, before)).keys() {
            self.0.receipts.remove(key?)?;
        }
        Ok(())
    }

    /// Notes that a message is no longer there.
    ///
    /// # Errors
    /// When the store fails.
    pub fn note_purged(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        if self.purged(recipient)? < id {
            self.0.purged.insert(recipient.to_key(), &id.to_key())?;
        }
        Ok(())
    }

    /// The newest message of anybody that is no longer there: 0 where none has gone.
    ///
    /// # Errors
    /// When the store fails.
    pub fn newest_purged(&self) -> Result<MessageId> {
        let mut newest = 0;
        for bytes in self.0.purged.iter().values() {
            newest = newest.max(number(&bytes?, "purged")?);
        }
        Ok(MessageId(newest))
    }

    /// The newest message of `recipient` that is no longer there: 0 where none has gone.
    ///
    /// # Errors
    /// When the store fails.
    pub fn purged(&self, recipient: Recipient) -> Result<MessageId> {
        self.0.purged.get(recipient.to_key())?.map_or(Ok(MessageId(0)), |bytes| number(&bytes, "purged").map(MessageId))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn receipts_are_found_by_any_id_they_cover() {
        let (_dir, store) = fresh();
        let (log, to) = (store.log(), Recipient::Device(DeviceId(1)));
        let (early, late) = (Timestamp::from_unix_micros(1), Timestamp::from_unix_micros(2));
        log.note_receipt(to, MessageId(5), early).unwrap();
        log.note_receipt(to, MessageId(9), late).unwrap();
        let at = |id| log.received_at(to, MessageId(id)).unwrap();
        assert_eq!((at(1), at(5), at(6), at(9), at(10)), (Some(early), Some(early), Some(late), Some(late), None));
        log.forget_receipts(to, MessageId(6)).unwrap();
        assert_eq!(at(1), Some(late));
    }

    proptest! {
        #[test]
        fn readers_come_back(id: u64, which in 0..3u8) {
            let reader = [Reader::User(UserId(id)), Reader::Device(DeviceId(id)), Reader::Broadcasts(UserId(id))][usize::from(which)];
            prop_assert_eq!(Reader::from_key(&reader.to_key()), Some(reader));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = Reader::from_key(&bytes);
        }
    }
}
