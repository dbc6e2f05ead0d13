//! Blocks of messages, and idempotency keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sled::IVec;

use super::Log;
use crate::core::ids::MessageId;
use crate::store::records::{Block, BlockBuilder, Earlier, Head, Stored, read_block};
use crate::store::table::WriteSet;
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

/// The longest value, in bytes; sled keeps values of that size in its log as long as segments have 1 MiB.
pub(super) const PIECE_BYTES: usize = 12 * 1024;

/// For fuzzers: the bytes of a block, once as they are and once with a checksum that fits, which no fuzzer would find. Messages that
/// can be read are read again as they were when they are written again.
pub fn fuzz_block(bytes: &[u8]) {
    let _ = read_block(bytes).map(Iterator::count);
    let mut fitting = bytes.to_vec();
    let Some((prefix, messages)) = fitting.split_at_mut_checked(1 + 4) else { return };
    prefix[1..].copy_from_slice(&crc32fast::hash(messages).to_be_bytes());
    if let Some(block) = Block::read(fitting.as_slice().into()) {
        assert!(block.messages().all(|(head, _)| block.message(head.id).is_some()));
    }
    let Some(messages) = read_block(&fitting) else { return };
    let found: Vec<Stored> = messages.flatten().map(|(head, payload)| Stored { head, payload: payload.to_vec() }).collect();
    let mut again = BlockBuilder::new(MessageId(0));
    found.iter().for_each(|message| again.push(message));
    let again = again.finish();
    let again = read_block(&again).map(|messages| messages.flatten().map(|(head, payload)| (head, payload.to_vec())).collect());
    assert_eq!(again, Some(found.into_iter().map(|message| (message.head, message.payload)).collect::<Vec<_>>()));
}

/// Returns the payload of a message: `inline` where it is in the block, else its pieces.
///
/// # Errors
/// If the store fails.
pub fn read_payload(trees: &Trees, head: &Head, inline: &[u8]) -> Result<Vec<u8>> {
    if head.is_inline() {
        return Ok(inline.to_vec());
    }
    let mut payload = Vec::new();
    for piece in trees.pieces.values_of(&head.id) {
        payload.extend_from_slice(&piece?);
    }
    Ok(payload)
}

fn damaged() -> StoreError {
    StoreError::Damaged { tree: "blocks" }
}

/// A reader of messages, which keeps the last block: neighbours are often read together.
pub struct Blocks<'a> {
    log: Log<'a>,
    last: Option<(MessageId, Arc<Block>)>,
}

impl<'a> Blocks<'a> {
    /// A reader of `log`.
    pub fn new(log: Log<'a>) -> Self {
        Self { log, last: None }
    }

    /// Returns message `id` of the block that begins with `first`, without its payload; `None` when it is not there.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn head(&mut self, first: MessageId, id: MessageId) -> Result<Option<Head>> {
        Ok(self.find(first, id)?.map(|(head, _)| head))
    }

    /// Returns message `id` of the block that begins with `first`. `None` when it is not there, or is being removed at this moment.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn message(&mut self, first: MessageId, id: MessageId) -> Result<Option<Stored>> {
        let log = self.log;
        let Some((head, inline)) = self.find(first, id)? else { return Ok(None) };
        let payload = read_payload(log.0, &head, inline)?;
        if payload.len() == head.length as usize {
            return Ok(Some(Stored { head, payload }));
        }
        if log.0.blocks.contains(&first)? { Err(damaged()) } else { Ok(None) }
    }

    /// Returns message `id` of the block that begins with `first`, where no disk is needed for it.
    pub fn message_in_memory(&mut self, first: MessageId, id: MessageId) -> Option<Stored> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != first) {
            self.last = Some((first, self.log.0.cached_blocks.get(first)?));
        }
        let (head, inline) = self.last.as_ref()?.1.message(id)?;
        head.is_inline().then(|| Stored { head, payload: inline.to_vec() })
    }

    fn find(&mut self, first: MessageId, id: MessageId) -> Result<Option<(Head, &[u8])>> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != first) {
            let Some(block) = self.log.block(first)? else { return Ok(None) };
            self.last = Some((first, block));
        }
        Ok(self.last.as_ref().and_then(|(_, block)| block.message(id)))
    }
}

impl Log<'_> {
    /// Writes the pieces of a payload that is too long for a block; before the block.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write_pieces(&self, message: &Stored) -> Result<()> {
        if message.head.is_inline() {
            return Ok(());
        }
        for (n, piece) in (0u16..).zip(message.payload.chunks(PIECE_BYTES)) {
            self.0.pieces.insert_bytes(&(message.head.id, n), piece)?;
        }
        Ok(())
    }

    /// Writes a block, and with it what the idempotency keys of its messages stand for: a crash between the two could have a
    /// repeated request sent twice.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write_block(&self, first: MessageId, block: Vec<u8>, keys: &[([u8; 32], Earlier)]) -> Result<()> {
        let block = IVec::from(block);
        if keys.is_empty() {
            self.0.blocks.insert_bytes(&first, block.clone())?;
        } else {
            let mut writes = WriteSet::default();
            writes.put(&self.0.blocks, &first, &block)?;
            for (key, earlier) in keys {
                writes.put(&self.0.idempotency, key, earlier)?;
            }
            writes.apply()?;
        }
        if let Some(block) = Block::read(block) {
            self.0.cached_blocks.insert(first, block.into());
        }
        Ok(())
    }

    /// Notes that messages up to `last` have been written.
    pub fn written_up_to(&self, last: MessageId) {
        self.0.newest_written.fetch_max(last.0, Ordering::Relaxed);
    }

    /// Writes idempotency keys whose messages are gone already.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write_keys(&self, keys: &[([u8; 32], Earlier)]) -> Result<()> {
        keys.iter().try_for_each(|(key, earlier)| self.0.idempotency.insert(key, earlier))
    }

    /// Returns a block. One that is being written anew, or removed, at this moment may stay in memory for a while as it was: what it
    /// holds too much, nobody asks for.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn block(&self, first: MessageId) -> Result<Option<Arc<Block>>> {
        if let Some(block) = self.0.cached_blocks.get(first) {
            return Ok(Some(block));
        }
        let Some(block) = self.0.blocks.get(&first)? else { return Ok(None) };
        let block = Arc::new(Block::read(block).ok_or_else(damaged)?);
        self.0.cached_blocks.insert(first, block.clone());
        Ok(Some(block))
    }

    /// Removes a block.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_block(&self, first: MessageId) -> Result<()> {
        self.0.blocks.remove(&first)?;
        self.0.cached_blocks.remove(first);
        Ok(())
    }

    /// Removes the pieces of a payload; after its block.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_pieces(&self, id: MessageId) -> Result<()> {
        for key in self.0.pieces.keys_of(&id) {
            self.0.pieces.remove(&key?)?;
        }
        Ok(())
    }

    /// Returns all messages without payloads, in the order of their ids, each with the first message of its block.
    pub fn heads(&self) -> impl Iterator<Item = Result<(MessageId, Vec<Head>)>> + '_ {
        self.0.blocks.iter().map(|entry| {
            let (first, block) = entry?;
            let messages = read_block(&block).ok_or_else(damaged)?;
            let heads = messages.map(|message| message.map(|(head, _)| head)).collect::<Option<Vec<_>>>();
            Ok((first, heads.ok_or_else(damaged)?))
        })
    }

    /// Returns the messages that have pieces, in the order of their ids.
    pub fn with_pieces(&self) -> impl Iterator<Item = Result<MessageId>> + '_ {
        let mut last = None;
        self.0.pieces.keys().filter_map(move |key| match key {
            Ok((id, _)) if last == Some(id) => None,
            Ok((id, _)) => {
                last = Some(id);
                Some(Ok(id))
            }
            Err(error) => Some(Err(error)),
        })
    }

    /// Returns what was sent under an idempotency key: the message and a digest of the request.
    ///
    /// # Errors
    /// If the store fails.
    pub fn earlier(&self, key: &[u8; 32]) -> Result<Option<Earlier>> {
        self.0.idempotency.get(key)
    }

    /// Removes an idempotency key.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget(&self, key: &[u8; 32]) -> Result<()> {
        self.0.idempotency.remove(key)
    }

    /// Returns all idempotency keys.
    pub fn remembered(&self) -> impl Iterator<Item = Result<([u8; 32], Earlier)>> + '_ {
        self.0.idempotency.iter()
    }

    /// Returns the newest id of a message that is there: 0 where there is none.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn newest_message(&self) -> Result<MessageId> {
        let Some((_, block)) = self.0.blocks.last()? else { return Ok(MessageId(0)) };
        let last = read_block(&block).ok_or_else(damaged)?.last().flatten().ok_or_else(damaged)?;
        Ok(last.0.id)
    }
}
