//! Records of the log: messages in blocks, and idempotency keys.
//!
//! The messages of one commit share values, so that many of them cost one write. A block is a checksum and the messages, each a
//! head of [`HEAD_BYTES`] with its payload behind it, unless that is too long: then it is in pieces beside the block.

use std::borrow::Cow;

use sled::IVec;

use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::Result;
use crate::store::table::Value;

/// The first byte of a block.
const LAYOUT: u8 = 1;
/// The layout and the checksum of a block.
const PREFIX_BYTES: usize = 1 + 4;
/// Id, recipient, sender, expires, ttl, created, length.
pub const HEAD_BYTES: usize = 8 + 9 + 8 + 8 + 4 + 8 + 4;
/// The longest block, in bytes; sled keeps values of that size in its log as long as segments have 1 MiB.
pub const BLOCK_BYTES: usize = 11 * 1024;
/// The longest payload that is in a block.
pub const INLINE_BYTES: usize = BLOCK_BYTES - PREFIX_BYTES - HEAD_BYTES;

/// A message without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the one order of all messages.
    pub id: MessageId,
    /// Its mailbox.
    pub recipient: Recipient,
    /// Its sender.
    pub sender: UserId,
    /// The end of its life, in seconds of the service clock.
    pub expires: u64,
    /// Its time to live, in seconds.
    pub ttl: u32,
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
    /// The end of its life by the wall clock of the moment at which it was accepted.
    pub fn expires_at(&self) -> Timestamp {
        self.created.plus_seconds(self.ttl.into())
    }

    /// Returns whether the payload is in the block.
    pub fn is_inline(&self) -> bool {
        self.length as usize <= INLINE_BYTES
    }

    /// The bytes that the message takes in a block.
    pub fn block_bytes(&self) -> usize {
        HEAD_BYTES + if self.is_inline() { self.length as usize } else { 0 }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_key());
        out.extend_from_slice(&self.recipient.to_key());
        out.extend_from_slice(&self.sender.to_key());
        out.extend_from_slice(&self.expires.to_be_bytes());
        out.extend_from_slice(&self.ttl.to_be_bytes());
        out.extend_from_slice(&self.created.unix_micros().to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
    }

    fn decode(head: &[u8; HEAD_BYTES]) -> Option<Self> {
        let long = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self {
            id: MessageId(long(0)?),
            recipient: Recipient::from_key(&head[8..17])?,
            sender: UserId(long(17)?),
            expires: long(25)?,
            ttl: u32::from_be_bytes(head[33..37].try_into().ok()?),
            created: Timestamp::from_unix_micros(i64::from_be_bytes(head[37..45].try_into().ok()?)),
            length: u32::from_be_bytes(head[45..49].try_into().ok()?),
        })
    }
}

/// A block that is being put together.
#[derive(Debug)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    /// The first message, which names the block.
    pub first: MessageId,
    /// The number of messages.
    pub count: u32,
}

impl BlockBuilder {
    /// An empty block, whose first message will be `first`.
    pub fn new(first: MessageId) -> Self {
        Self { bytes: vec![0; PREFIX_BYTES], first, count: 0 }
    }

    /// Returns whether there is room for the message; there always is for the first one.
    pub fn has_room(&self, head: &Head) -> bool {
        self.count == 0 || self.bytes.len() + head.block_bytes() <= BLOCK_BYTES
    }

    /// Adds a message. A payload that is too long for blocks is left to the caller.
    pub fn push(&mut self, message: &Stored) {
        message.head.encode(&mut self.bytes);
        if message.head.is_inline() {
            self.bytes.extend_from_slice(&message.payload);
        }
        self.count += 1;
    }

    /// Returns the stored form.
    pub fn finish(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.bytes[PREFIX_BYTES..]);
        self.bytes[0] = LAYOUT;
        self.bytes[1..PREFIX_BYTES].copy_from_slice(&sum.to_be_bytes());
        self.bytes
    }
}

/// Returns whether `bytes` are a block that is not damaged.
fn is_whole_block(bytes: &[u8]) -> bool {
    let parts = bytes.split_at_checked(PREFIX_BYTES);
    parts.is_some_and(|(prefix, rest)| prefix[0] == LAYOUT && prefix[1..] == crc32fast::hash(rest).to_be_bytes())
}

/// Returns the messages of a block, each with its payload where that is in the block; `None` when `bytes` are no block, or a
/// damaged one.
pub fn read_block(bytes: &[u8]) -> Option<impl Iterator<Item = Option<(Head, &[u8])>>> {
    is_whole_block(bytes).then(|| block_messages(bytes))
}

/// A block that has been read and checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    bytes: IVec,
    /// The messages, in the order of their ids, with the places where they begin. Looking through the bytes would be a miss of the
    /// processor's cache for each message before the one that is looked for.
    places: Box<[(MessageId, u16)]>,
}

impl Block {
    /// Reads a block; `None` when `bytes` are none, or a damaged one.
    pub fn read(bytes: IVec) -> Option<Self> {
        is_whole_block(&bytes).then_some(())?;
        let (mut rest, mut places) = (&bytes[PREFIX_BYTES..], Vec::new());
        while !rest.is_empty() {
            let at = u16::try_from(bytes.len() - rest.len()).ok()?;
            places.push((read_message(&mut rest)?.0.id, at));
        }
        places.is_sorted().then_some(())?;
        Some(Self { places: places.into(), bytes })
    }

    /// Returns a message, with its payload where that is in the block.
    pub fn message(&self, id: MessageId) -> Option<(Head, &[u8])> {
        let found = self.places.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        read_message(&mut self.bytes.get(self.places[found].1.into()..)?)
    }

    /// Returns all messages, each with its payload where that is in the block.
    pub fn messages(&self) -> impl Iterator<Item = (Head, &[u8])> {
        block_messages(&self.bytes).flatten()
    }

    /// The bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.places)
    }
}

/// Returns the messages of a block that has been checked already.
fn block_messages(bytes: &[u8]) -> impl Iterator<Item = Option<(Head, &[u8])>> {
    let mut rest = bytes.get(PREFIX_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((head, payload)) = read_message(&mut rest) else {
            rest = &[];
            return Some(None);
        };
        Some(Some((head, payload)))
    })
}

/// Splits the first message off `rest`.
fn read_message<'a>(rest: &mut &'a [u8]) -> Option<(Head, &'a [u8])> {
    let (head, behind) = rest.split_first_chunk::<HEAD_BYTES>()?;
    let head = Head::decode(head)?;
    let (payload, behind) = behind.split_at_checked(head.block_bytes() - HEAD_BYTES)?;
    *rest = behind;
    Some((head, payload))
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
    /// The parts of the answer that the request does not determine.
    pub answer: Answer,
}

/// The parts of the answer to a send that a repeat of the request gets again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    /// The timestamp of the message; `None` for keys of layouts before 4.
    pub timestamp: Option<Timestamp>,
    /// The number of connections that it was announced to.
    pub recipients: u64,
}

impl Value for Earlier {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        let mut bytes = [self.id.to_key(), self.until.to_be_bytes(), self.digest.to_be_bytes()].concat();
        if let Some(timestamp) = self.answer.timestamp {
            bytes.extend_from_slice(&timestamp.unix_micros().to_be_bytes());
            bytes.extend_from_slice(&self.answer.recipients.to_be_bytes());
        }
        Ok(bytes.into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let number = |n: usize| numbers.get(n).map(|bytes| u64::from_be_bytes(*bytes));
        let answer = match numbers.len() {
            3 => Answer { timestamp: None, recipients: 0 },
            5 => Answer { timestamp: Some(Timestamp::from_unix_micros(number(3)?.cast_signed())), recipients: number(4)? },
            _ => return None,
        };
        Some(Self { id: MessageId(number(0)?), until: number(1)?, digest: number(2)?, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: u64, length: usize) -> Stored {
        let head = Head {
            id: MessageId(id),
            recipient: Recipient::User(UserId(id)),
            sender: UserId(3),
            expires: 77,
            ttl: 60,
            created: Timestamp::from_unix_micros(5),
            length: u32::try_from(length).unwrap(),
        };
        Stored { head, payload: vec![id as u8; length] }
    }

    #[test]
    fn blocks_are_read_as_written_and_stay_within_their_bound() {
        let mut block = BlockBuilder::new(MessageId(1));
        let lengths = [0, 200, INLINE_BYTES + 1, 5000];
        for (id, length) in (1..).zip(lengths) {
            assert!(block.has_room(&message(id, length).head));
            block.push(&message(id, length));
        }
        assert!(!block.has_room(&message(5, 6000).head));
        assert!(BlockBuilder::new(MessageId(1)).has_room(&message(1, INLINE_BYTES).head));
        let bytes = block.finish();
        assert!(bytes.len() <= BLOCK_BYTES);
        let found: Vec<(Head, usize)> = read_block(&bytes).unwrap().map(|m| m.map(|(h, p)| (h, p.len())).unwrap()).collect();
        assert_eq!(found.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [0, 200, 0, 5000]);
        assert!(found.iter().zip(1..).all(|((head, _), id)| head.id == MessageId(id)));
        assert_eq!(Block::read(bytes[..bytes.len() - 1].into()), None);
        let block = Block::read(bytes.into()).unwrap();
        for (id, length) in (1..).zip([0, 200, 0, 5000]) {
            let (head, payload) = block.message(MessageId(id)).unwrap();
            assert_eq!((head.id, payload.len()), (MessageId(id), length));
        }
        assert_eq!(block.message(MessageId(9)), None);
        assert_eq!(block.messages().count(), 4);
    }

    #[test]
    fn seeds_of_the_fuzzer_are_blocks() {
        for (name, ids) in [("empty", vec![]), ("one", vec![1]), ("three", vec![5, 6, 9]), ("large", vec![7, 8])] {
            let seed = format!("{}/fuzz/corpus/message_block/{name}", env!("CARGO_MANIFEST_DIR"));
            let seed = std::fs::read(seed).unwrap();
            let found: Vec<Option<(Head, &[u8])>> = read_block(&seed).expect(name).collect();
            assert_eq!(
                found.iter().map(|m| m.map(|(head, _)| head.id.0)).collect::<Vec<_>>(),
                ids.into_iter().map(Some).collect::<Vec<_>>()
            );
            assert_eq!(name == "large", found.iter().any(|m| m.is_some_and(|(head, _)| !head.is_inline())));
            assert!(found.iter().flatten().all(|(head, payload)| payload.len() == head.block_bytes() - HEAD_BYTES));
        }
    }

    #[test]
    fn keys_of_older_layouts_are_read_without_an_answer() {
        let answer = Answer { timestamp: Some(Timestamp::from_unix_micros(-5)), recipients: 3 };
        let new = Earlier { id: MessageId(1), until: 9, digest: 3, answer };
        assert_eq!(Earlier::decode(&new.encode().unwrap()), Some(new));
        let old = Earlier { answer: Answer { timestamp: None, recipients: 0 }, ..new };
        assert_eq!(old.encode().unwrap().len(), 24);
        assert_eq!(Earlier::decode(&old.encode().unwrap()), Some(old));
    }

    proptest! {
        #[test]
        fn every_changed_byte_of_a_block_is_noticed(at in 0..500usize, flip in 1..=255u8) {
            let mut block = BlockBuilder::new(MessageId(1));
            block.push(&message(1, 100));
            block.push(&message(2, 300));
            let mut bytes = block.finish();
            bytes[at % 490] ^= flip;
            prop_assert!(read_block(&bytes).is_none());
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut with_sum = vec![LAYOUT];
            with_sum.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            with_sum.extend_from_slice(&bytes);
            let _ = read_block(&with_sum).map(Iterator::count);
            let _ = (read_block(&bytes).map(Iterator::count), Earlier::decode(&bytes));
        }
    }
}
