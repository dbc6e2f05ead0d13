//! Blocks of messages in memory.
//!
//! sled's page cache holds leaves, and a leaf has many blocks: a reader whose messages are spread over the log would have a leaf
//! read and decoded for each. This cache holds single blocks, those that are written included: they are about to be read.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::records::Block;
use crate::core::ids::MessageId;

/// The memory that an entry takes beyond the block, in bytes.
const ENTRY_BYTES: usize = 100;
/// The usual size of a block, in bytes.
const USUAL_BYTES: u64 = 4096;

/// Counts the bytes of an entry.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<MessageId, Arc<Block>> for Bytes {
    fn weight(&self, _: &MessageId, block: &Arc<Block>) -> u64 {
        (block.memory_bytes() + ENTRY_BYTES) as u64
    }
}

/// The blocks that were written or read lately, by their first messages. All of them are whole.
#[derive(Debug)]
pub struct BlockCache(Cache<MessageId, Arc<Block>, Bytes>);

impl BlockCache {
    /// An empty cache of at most `bytes`.
    pub fn new(bytes: u64) -> Self {
        let blocks = usize::try_from(bytes / USUAL_BYTES).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(blocks, bytes, Bytes))
    }

    /// Applies another size, in bytes.
    pub fn resize(&self, bytes: u64) {
        if self.0.capacity().abs_diff(bytes) > bytes / 16 {
            self.0.set_capacity(bytes);
        }
    }

    /// Returns a block that is there.
    pub fn get(&self, first: MessageId) -> Option<Arc<Block>> {
        self.0.get(&first)
    }

    /// Adds or replaces a block.
    pub fn insert(&self, first: MessageId, block: Arc<Block>) {
        self.0.insert(first, block);
    }

    /// Removes a block.
    pub fn remove(&self, first: MessageId) {
        self.0.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{Recipient, UserId};
    use crate::core::time::Timestamp;
    use crate::store::{BlockBuilder, Head, Stored};

    fn block(id: u64, bytes: usize) -> Arc<Block> {
        let (recipient, created) = (Recipient::All, Timestamp::from_unix_micros(1));
        let length = u32::try_from(bytes).unwrap();
        let head = Head { id: MessageId(id), recipient, sender: UserId(1), expires: 1, ttl: 1, created, length };
        let mut block = BlockBuilder::new(MessageId(id));
        block.push(&Stored { head, payload: vec![0; bytes] });
        Block::read(block.finish().into()).unwrap().into()
    }

    #[test]
    fn cache_is_bounded_by_bytes_and_can_be_resized() {
        let cache = BlockCache::new(1 << 20);
        let fill = || (0..2000).for_each(|n| cache.insert(MessageId(n), block(n, 4000)));
        fill();
        assert!(cache.0.weight() > 1 << 19 && cache.0.weight() <= 1 << 20, "{}", cache.0.weight());
        cache.resize(1 << 18);
        assert!(cache.0.weight() <= 1 << 18, "{}", cache.0.weight());
        fill();
        assert!(cache.0.weight() <= 1 << 18, "{}", cache.0.weight());
        cache.insert(MessageId(7), block(7, 5));
        assert_eq!(cache.get(MessageId(7)), Some(block(7, 5)));
        cache.remove(MessageId(7));
        assert_eq!(cache.get(MessageId(7)), None);
    }
}
