//! The pages of receipts: their sizes and ages.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::ids::MessageId;
use crate::store::{PageNumber, ReceiptPage};

/// A page.
#[derive(Debug, Clone, Copy)]
struct PageUse {
    /// The number of receipts.
    count: u32,
    /// The time of the newest end.
    newest: u64,
    /// None can be removed: all are of messages whose block is there.
    is_held: bool,
}

/// The sizes and ages of all pages.
///
/// A page of which nothing can be removed is held until one of the blocks goes. This is a function of what is on disk, as opposed to a
/// time at which it is looked at again: nodes of a cluster, one of them restarted, remove the same receipts at the same moment.
#[derive(Debug, Default)]
pub struct ReceiptTable {
    pages: BTreeMap<PageNumber, PageUse>,
    /// The pages that are not held, by the time of the newest end.
    by_age: BTreeSet<(u64, PageNumber)>,
    count: usize,
}

impl ReceiptTable {
    /// Notes the content of a page.
    pub fn set(&mut self, number: PageNumber, page: &ReceiptPage) {
        let (count, newest) = (page.records().len(), page.newest_end());
        let short = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(known) = self.pages.get_mut(&number)
            && known.newest == newest
            && !known.is_held
            && count > 0
        {
            self.count = self.count - known.count as usize + count;
            known.count = short;
            return;
        }
        self.remove(number);
        if count > 0 {
            self.count += count;
            self.pages.insert(number, PageUse { count: short, newest, is_held: false });
            self.by_age.insert((newest, number));
        }
    }

    /// Notes that nothing of a page can be removed.
    pub fn hold(&mut self, number: PageNumber) {
        if let Some(page) = self.pages.get_mut(&number) {
            page.is_held = true;
            self.by_age.remove(&(page.newest, number));
        }
    }

    /// Notes that the messages from `first` to `last` are in no block any more, at least some of them.
    pub fn release(&mut self, first: MessageId, last: MessageId) {
        for (&number, page) in self.pages.range_mut(PageNumber::of(first)..=PageNumber::of(last)) {
            page.is_held = false;
            self.by_age.insert((page.newest, number));
        }
    }

    /// Removes a page.
    pub fn remove(&mut self, number: PageNumber) {
        if let Some(page) = self.pages.remove(&number) {
            self.count -= page.count as usize;
            self.by_age.remove(&(page.newest, number));
        }
    }

    /// Returns the number of receipts.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Returns the highest page.
    pub fn last(&self) -> Option<PageNumber> {
        self.pages.last_key_value().map(|(&number, _)| number)
    }

    /// Returns the page whose newest end is the oldest, where that was up to `before`; or where there are more than `limit` receipts,
    /// with their number beyond it. Held pages are left out.
    pub fn removable(&self, before: u64, limit: usize) -> Option<(PageNumber, Option<usize>)> {
        let &(newest, number) = self.by_age.first()?;
        if newest <= before {
            return Some((number, None));
        }
        (self.count > limit).then(|| (number, Some(self.count - limit)))
    }
}
