//! The changes of the log that wait for the commit.
//!
//! Operations change the index at once; what the log must follow is gathered here and written when their batch is committed: the
//! messages of a batch share values, a page of receipts or a place that several operations change is written once.
//!
//! # Invariants
//! - Nothing that is staged is visible to readers of the log before it is written, and nothing is answered before it is on disk.
//! - What acknowledgements cause may wait for a later commit, where the next ones are likely to change the same places and pages;
//!   it is written whole, so that what is on disk is always the state of some moment.
//! - The order of writing is that of [`log`](crate::store::log): pieces, blocks, receipts, places, and removals last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;

use super::clock::Moment;
use super::index::{Effects, Ended, Passed};
use super::memory::Memory;
use crate::core::ids::{MessageId, Recipient};
use crate::store::{BlockBuilder, Earlier, Head, Log, PageNumber, ReceiptPage, ReceiptRecord, Result, Severity, Stored};

/// The most places, pages and removals that wait for a later commit, so that writing them takes a few milliseconds.
const MAX_WAITING: usize = 1024;
/// The pages of receipts that stay in memory after they have been written: the next acknowledgements are likely to be for them.
const MAX_CACHED_PAGES: usize = 64;

/// A page of receipts.
#[derive(Debug)]
struct CachedPage {
    receipts: ReceiptPage,
    dirty: bool,
}

/// The changes of the log since the last commit.
#[derive(Debug, Default)]
pub struct Stage {
    appended: Vec<Stored>,
    keys: HashMap<[u8; 32], Earlier>,
    pages: BTreeMap<PageNumber, CachedPage>,
    removed_pages: BTreeSet<PageNumber>,
    places: BTreeSet<Recipient>,
    shrunk: BTreeSet<MessageId>,
    freed: BTreeSet<MessageId>,
    /// Messages with pieces that have been removed.
    pieces: Vec<MessageId>,
    /// No id up to this one is given again.
    reserve: Option<MessageId>,
    /// Set when something but messages must reach the disk with the next commit.
    urgent: bool,
}

/// The commit with which changes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The next one: a caller waits for it.
    Now,
    /// A later one, within a second or so.
    Later,
}

impl Stage {
    /// Adds a message and, with it, what its idempotency key stands for.
    pub fn append(&mut self, message: Stored, key: Option<([u8; 32], Earlier)>) {
        self.keys.extend(key);
        self.appended.push(message);
    }

    /// Returns what was sent under an idempotency key.
    ///
    /// # Errors
    /// If the store fails.
    pub fn earlier(&self, log: Log<'_>, key: &[u8; 32]) -> Result<Option<Earlier>> {
        self.keys.get(key).map_or_else(|| log.earlier(key), |earlier| Ok(Some(*earlier)))
    }

    /// Removes an idempotency key that is not written yet.
    pub fn forget(&mut self, key: &[u8; 32]) {
        self.keys.remove(key);
    }

    /// Keeps ids up to `newest` from being given again, whatever is removed.
    pub fn reserve(&mut self, newest: MessageId) {
        self.reserve = self.reserve.max(Some(newest));
        self.urgent = true;
    }

    fn load_page(&mut self, log: Log<'_>, number: PageNumber) -> Result<&mut CachedPage> {
        if !self.pages.contains_key(&number) {
            let receipts = if self.removed_pages.contains(&number) { ReceiptPage::default() } else { log.receipts(number)? };
            self.pages.insert(number, CachedPage { receipts, dirty: false });
        }
        Ok(self.pages.entry(number).or_insert_with(|| CachedPage { receipts: ReceiptPage::default(), dirty: false }))
    }

    /// Returns the page of a message as it will be on disk.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipts(&self, log: Log<'_>, number: PageNumber) -> Result<ReceiptPage> {
        match self.pages.get(&number) {
            Some(page) => Ok(page.receipts.clone()),
            None if self.removed_pages.contains(&number) => Ok(ReceiptPage::default()),
            None => log.receipts(number),
        }
    }

    /// Removes the receipts of a page, or only the `excess` oldest of them, but those of messages whose block is there; returns their
    /// number. A page of which nothing more can be removed is held.
    ///
    /// # Errors
    /// If the store fails.
    pub fn evict(&mut self, log: Log<'_>, number: PageNumber, excess: Option<usize>, memory: &Mutex<Memory>) -> Result<usize> {
        let page = self.load_page(log, number)?;
        let mut memory = memory.lock();
        let there = |record: &ReceiptRecord| memory.index.block_of(record.id).is_some();
        let evicted = page.receipts.remove_oldest(excess.unwrap_or(usize::MAX), there);
        page.dirty |= evicted > 0;
        if page.receipts.records().is_empty() {
            memory.index.receipts.remove(number);
            self.pages.remove(&number);
            self.removed_pages.insert(number);
        } else {
            memory.index.receipts.set(number, &page.receipts);
            if memory.index.holds_all(&page.receipts) {
                memory.index.receipts.hold(number);
            }
        }
        self.urgent |= evicted > 0;
        if evicted == 0 && self.pages.get(&number).is_some_and(|page| !page.dirty) {
            self.pages.remove(&number); // nothing is to be written, and there may be many of these
        }
        Ok(evicted)
    }

    /// Stages what the log must follow, and tells `memory` of the pages.
    ///
    /// # Errors
    /// If the store fails.
    pub fn follow(&mut self, log: Log<'_>, effects: &Effects, moment: Moment, memory: &Mutex<Memory>, due: Due) -> Result<()> {
        self.urgent |= due == Due::Now;
        let mut touched = BTreeSet::new();
        for Passed { head, reader } in &effects.passed {
            let number = PageNumber::of(head.id);
            let page = self.load_page(log, number)?;
            page.receipts.entry(head).pass(*reader);
            page.dirty = true;
            touched.insert(number);
        }
        for &Ended { ref head, state, reader } in &effects.ended {
            let number = PageNumber::of(head.id);
            let page = self.load_page(log, number)?;
            page.receipts.entry(head).finish(state, reader, Some(moment.wall), moment.service);
            page.dirty = true;
            touched.insert(number);
        }
        let mut memory = memory.lock();
        for number in touched {
            if let Some(page) = self.pages.get(&number) {
                self.removed_pages.remove(&number);
                memory.index.receipts.set(number, &page.receipts);
            }
        }
        self.places.extend(&effects.places);
        self.shrunk.extend(&effects.shrunk);
        self.freed.extend(&effects.freed);
        self.pieces.extend(&effects.pieces);
        Ok(())
    }

    /// The number of records that are to be written or removed, beside those of messages.
    fn waiting(&self) -> usize {
        let pages = self.pages.values().filter(|page| page.dirty).count() + self.removed_pages.len();
        pages + self.places.len() + self.shrunk.len() + self.freed.len() + self.pieces.len()
    }

    /// Writes the messages and what must be on disk with them; before the commit. With [`Due::Now`], or when much has gathered,
    /// writes everything. Returns whether something is left for a later commit.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write(&mut self, log: Log<'_>, memory: &Mutex<Memory>, due: Due) -> Result<bool> {
        self.write_blocks(log, memory)?;
        let waiting = self.waiting();
        if due == Due::Later && !self.urgent && waiting <= MAX_WAITING {
            return Ok(waiting > 0);
        }
        if waiting > 0 || self.reserve.is_some() {
            self.write_rest(log, memory)?;
        }
        self.urgent = false;
        Ok(false)
    }

    /// Writes everything but the messages.
    fn write_rest(&mut self, log: Log<'_>, memory: &Mutex<Memory>) -> Result<()> {
        for (&number, page) in self.pages.iter_mut().filter(|(_, page)| page.dirty) {
            log.set_receipts(number, &page.receipts)?;
            page.dirty = false;
        }
        while self.pages.len() > MAX_CACHED_PAGES {
            self.pages.pop_first();
        }
        for recipient in std::mem::take(&mut self.places) {
            let place = memory.lock().index.place_of(recipient);
            place.map_or_else(|| log.remove_place(recipient), |place| log.set_place(recipient, &place))?;
        }
        if let Some(newest) = self.reserve.take() {
            log.reserve_ids(newest)?;
        }
        for first in std::mem::take(&mut self.freed) {
            self.shrunk.remove(&first);
            log.remove_block(first)?;
            memory.lock().index.remove_block(first);
        }
        for first in std::mem::take(&mut self.shrunk) {
            self.shrink(log, first, memory)?;
        }
        for id in std::mem::take(&mut self.pieces) {
            log.remove_pieces(id)?;
        }
        for number in std::mem::take(&mut self.removed_pages) {
            log.remove_receipts(number)?;
        }
        Ok(())
    }

    /// Writes the messages that are still there into blocks.
    fn write_blocks(&mut self, log: Log<'_>, memory: &Mutex<Memory>) -> Result<()> {
        let appended = std::mem::take(&mut self.appended);
        if appended.is_empty() {
            return Ok(());
        }
        let there: Vec<bool> = {
            let memory = memory.lock();
            appended.iter().map(|message| memory.index.contains(message.head.recipient, message.head.id)).collect()
        };
        let mut keys: Vec<([u8; 32], Earlier)> = std::mem::take(&mut self.keys).into_iter().collect();
        keys.sort_unstable_by_key(|(_, earlier)| earlier.id);
        let (mut blocks, mut current) = (Vec::new(), None::<(BlockBuilder, MessageId)>);
        for message in appended.iter().zip(there).filter(|(_, there)| *there).map(|(message, _)| message) {
            log.write_pieces(message)?;
            if let Some(full) = current.take_if(|(block, _)| !block.has_room(&message.head)) {
                blocks.push(full);
            }
            let (block, last) = current.get_or_insert_with(|| (BlockBuilder::new(message.head.id), message.head.id));
            block.push(message);
            *last = message.head.id;
        }
        blocks.extend(current);
        let mut keys = &keys[..];
        let count = blocks.len();
        let mut written = Vec::new();
        for (n, (block, last)) in blocks.into_iter().enumerate() {
            // Keys of messages that are gone already go with the block before or behind them.
            let upto = if n + 1 == count { keys.len() } else { keys.partition_point(|(_, earlier)| earlier.id <= last) };
            let (of_block, rest) = keys.split_at(upto);
            keys = rest;
            written.push((block.first, last, block.count));
            log.write_block(block.first, block.finish(), of_block)?;
            log.written_up_to(last);
        }
        if count == 0 {
            log.write_keys(keys)?;
        }
        let mut memory = memory.lock();
        for (first, last, count) in written {
            memory.index.add_block(first, last, count, count);
        }
        Ok(())
    }

    /// Writes a block anew with the messages that are still there.
    fn shrink(&mut self, log: Log<'_>, first: MessageId, memory: &Mutex<Memory>) -> Result<()> {
        let block = match log.block(first) {
            Ok(Some(block)) => block,
            Ok(None) => return Ok(()),
            Err(error) if error.fatal() => return Err(error),
            Err(error) => {
                tracing::error!(%error, block = first.0, "a block of messages can't be read; it stays as it is");
                return Ok(());
            }
        };
        let messages: Vec<(Head, &[u8])> = block.messages().collect();
        let there: Vec<bool> = {
            let memory = memory.lock();
            messages.iter().map(|(head, _)| memory.index.contains(head.recipient, head.id)).collect()
        };
        let (mut smaller, mut last) = (BlockBuilder::new(first), first);
        for (&(head, payload), there) in messages.iter().zip(there) {
            if there {
                smaller.push(&Stored { head, payload: payload.to_vec() });
                last = head.id;
            }
        }
        let count = smaller.count;
        log.write_block(first, smaller.finish(), &[])?;
        memory.lock().index.shrink_block(first, last, count);
        Ok(())
    }
}
