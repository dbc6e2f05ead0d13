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

    /// Returns the page whose newest end is the oldest, where that was up to `before`; or where there are more than `limit` receipts,
    /// with their number beyond it.
    pub fn removable(&self, before: u64, limit: usize) -> Option<(PageNumber, Option<usize>)> {
        let &(newest, number) = self.by_age.first()?;
        if newest <= before {
            return Some((number, None));
        }
        (self.count > limit).then(|| (number, Some(self.count - limit)))
    }
}
