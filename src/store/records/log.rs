//! Records of the log: messages, idempotency keys, cursors, moments of receipt.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::Result;
use crate::store::table::{DecodeKey, Key, Value};

/// Layout of a record, its first byte.
const LAYOUT: u8 = 1;
/// Layout, expired flag, sender, expires, created, length.
pub const HEAD_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 4;

/// A message without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the one order of all messages.
    pub id: MessageId,
    /// Its sender.
    pub sender: UserId,
    /// The end of its life, in seconds of the service clock.
    pub expires: u64,
    /// Set when its life ended before it was received.
    pub expired: bool,
    /// The time at which it was accepted.
    pub created: Timestamp,
    /// Bytes of payload.
    pub length: u32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// All but the payload.
    pub head: Head,
    /// The JSON text that is delivered.
    pub payload: Vec<u8>,
}

impl Head {
    /// Returns the stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&[LAYOUT, u8::from(self.expired)]);
        bytes.extend_from_slice(&self.sender.to_key());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(&self.created.unix_micros().to_be_bytes());
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a record: the head, and the payload where it is short enough to be in the record.
    pub fn read(id: MessageId, record: &[u8]) -> Option<(Self, &[u8])> {
        Some((Self::decode(id, record)?, record.get(HEAD_BYTES..)?))
    }

    /// Reads the stored form; `None` when `bytes` are none.
    pub fn decode(id: MessageId, bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let long = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        if head[0] != LAYOUT {
            return None;
        }
        Some(Self {
            id,
            expired: head[1] != 0,
            sender: UserId(long(2)?),
            expires: long(10)?,
            created: Timestamp::from_unix_micros(i64::from_be_bytes(head[18..26].try_into().ok()?)),
            length: u32::from_be_bytes(head[26..30].try_into().ok()?),
        })
    }
}

/// A send under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The message.
    pub id: MessageId,
    /// The time at which the key expires, in seconds of the service clock.
    pub until: u64,
    /// Of the request, so that the same key on another request is noticed.
    pub digest: u64,
}

impl Value for Earlier {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok([self.id.to_key(), self.until.to_be_bytes(), self.digest.to_be_bytes()].concat().into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ([id, until, digest], []) = bytes.as_chunks::<8>() else { return None };
        Some(Self {
            id: MessageId(u64::from_be_bytes(*id)),
            until: u64::from_be_bytes(*until),
            digest: u64::from_be_bytes(*digest),
        })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Head::decode(MessageId(1), &bytes);
            let _ = (Earlier::decode(&bytes), Reader::decode(&bytes), ReceivedAt::decode(&bytes));
        }
    }
}
