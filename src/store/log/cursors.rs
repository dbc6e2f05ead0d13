//! Cursors, the moments at which messages were received, and marks of removed messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Log;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::Result;
use crate::store::table::{DecodeKey, Key, Value};

/// The owner of a cursor: a mailbox has one, and broadcasts have one for each user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// A user's mailbox.
    User(UserId),
    /// A device's mailbox.
    Device(DeviceId),
    /// The broadcasts, as this user has received them.
    Broadcasts(UserId),
}

impl Reader {
    /// Returns the mailbox that is read.
    pub fn recipient(self) -> Recipient {
        match self {
            Self::User(id) => Recipient::User(id),
            Self::Device(id) => Recipient::Device(id),
            Self::Broadcasts(_) => Recipient::All,
        }
    }

    /// Returns the user or device that the cursor is deleted with.
    pub fn owner(self) -> Recipient {
        match self {
            Self::Broadcasts(user) => Recipient::User(user),
            Self::User(_) | Self::Device(_) => self.recipient(),
        }
    }
}

impl Key for Reader {
    type Bytes<'a> = [u8; 9];
    fn encode(&self) -> [u8; 9] {
        let mut key = self.owner().to_key();
        if let Self::Broadcasts(_) = self {
            key[0] = b'b';
        }
        key
    }
}

impl DecodeKey for Reader {
    fn decode(key: &[u8]) -> Option<Self> {
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

/// The moment at which a cursor came to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedAt {
    /// For people.
    pub wall: Timestamp,
    /// Seconds of the service clock, from which history is kept; unknown in records of layout 2.
    pub service: Option<u64>,
}

impl Value for ReceivedAt {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        let mut bytes = self.wall.unix_micros().to_be_bytes().to_vec();
        if let Some(service) = self.service {
            bytes.extend_from_slice(&service.to_be_bytes());
        }
        Ok(bytes.into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (wall, service) = match bytes.as_chunks::<8>() {
            ([wall], []) => (wall, None),
            ([wall, service], []) => (wall, Some(u64::from_be_bytes(*service))),
            _ => return None,
        };
        Some(Self { wall: Timestamp::from_unix_micros(i64::from_be_bytes(*wall)), service })
    }
}

impl Log<'_> {
    /// Moves the cursor of `reader` to `upto`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn set_cursor(&self, reader: Reader, upto: MessageId) -> Result<()> {
        self.0.cursors.insert(&reader, &upto)
    }

    /// Removes the cursors and marks of a deleted recipient.
    ///
    /// # Errors
    /// When the store fails.
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
    /// When the store fails.
    pub fn note_receipt(&self, recipient: Recipient, upto: MessageId, when: ReceivedAt) -> Result<()> {
        self.0.receipts.insert(&(recipient, upto), &when)
    }

    /// Returns the moment at which the cursor of `recipient` passed `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn received_at(&self, recipient: Recipient, id: MessageId) -> Result<Option<ReceivedAt>> {
        let mut entries = self.0.receipts.range((recipient, id)..=(recipient, MessageId(u64::MAX)));
        Ok(entries.next().transpose()?.map(|(_, when)| when))
    }

    /// Returns the newest broadcast that everybody has received, if it is known.
    ///
    /// # Errors
    /// When the store fails.
    pub fn broadcasts_received(&self) -> Result<Option<MessageId>> {
        let all = (Recipient::All, MessageId(0))..=(Recipient::All, MessageId(u64::MAX));
        let newest = self.0.receipts.range(all).last().transpose()?;
        Ok(newest.map(|((_, upto), _)| upto))
    }

    /// Removes the moments at which the cursor passed messages below `before`, none of which are left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_receipts(&self, recipient: Recipient, before: MessageId) -> Result<()> {
        for entry in self.0.receipts.range((recipient, MessageId(0))..(recipient, before)) {
            self.0.receipts.remove(&entry?.0)?;
        }
        Ok(())
    }

    /// Notes that a message is no longer there.
    ///
    /// # Errors
    /// When the store fails.
    pub fn note_purged(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        if self.purged(recipient)? < id {
            self.0.purged.insert(&recipient, &id)?;
        }
        Ok(())
    }

    /// Returns the newest message of `recipient` that is no longer there: 0 where none has been removed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn purged(&self, recipient: Recipient) -> Result<MessageId> {
        Ok(self.0.purged.get(&recipient)?.unwrap_or(MessageId(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;
    use proptest::prelude::*;

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

    #[test]
    fn receipts_of_layout_2_have_no_service_time() {
        let old = ReceivedAt::decode(&5i64.to_be_bytes()).unwrap();
        assert_eq!(old, ReceivedAt { wall: Timestamp::from_unix_micros(5), service: None });
        assert_eq!(ReceivedAt::decode(&[0; 12]), None);
    }

    proptest! {
        #[test]
        fn readers_are_decoded_as_encoded(id: u64, which in 0..3u8) {
            let reader = [Reader::User(UserId(id)), Reader::Device(DeviceId(id)), Reader::Broadcasts(UserId(id))][usize::from(which)];
            prop_assert_eq!(Reader::decode(&reader.encode()), Some(reader));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = (Reader::decode(&bytes), ReceivedAt::decode(&bytes));
        }
    }
}
