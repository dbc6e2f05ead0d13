//! The pages of receipts: their sizes and ages.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{PageNumber, ReceiptPage};

/// The sizes and ages of all pages.
#[derive(Debug, Default)]
pub struct ReceiptTable {
    /// For each page the number of receipts, and the time of the newest end.
    pages: BTreeMap<PageNumber, (u32, u64)>,
    /// The pages by that time.
    by_age: BTreeSet<(u64, PageNumber)>,
    count: usize,
}

impl ReceiptTable {
    /// Notes the content of a page.
    pub fn set(&mut self, number: PageNumber, page: &ReceiptPage) {
        self.remove(number);
        let (count, newest) = (page.records().len(), page.newest_end());
        if count > 0 {
            self.count += count;
            self.pages.insert(number, (u32::try_from(count).unwrap_or(u32::MAX), newest));
            self.by_age.insert((newest, number));
        }
    }

    /// Removes a page.
    pub fn remove(&mut self, number: PageNumber) {
        if let Some((count, newest)) = self.pages.remove(&number) {
            self.count -= count as usize;
            self.by_age.remove(&(newest, number));
        }
    }

    /// Returns the number of receipts.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns the highest page.
    pub fn last(&self) -> Option<PageNumber> {
        self.pages.last_key_value().map(|(&number, _)| number)
    }

    /// Returns the page whose newest end is the oldest, where that was before `before`, or there are more than `limit` receipts; and
    /// whether it is removed for their number alone.
    pub fn removable(&self, before: u64, limit: usize) -> Option<(PageNumber, bool)> {
        let &(newest, number) = self.by_age.first()?;
        let old = newest <= before;
        (old || self.count > limit).then_some((number, !old))
    }

    /// Returns the number of receipts in a page.
    pub fn size(&self, number: PageNumber) -> usize {
        self.pages.get(&number).map_or(0, |&(count, _)| count as usize)
    }
}
