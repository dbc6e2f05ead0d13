//! The pages of receipts: their sizes and ages.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{PageNumber, ReceiptPage};

/// The time after which receipts are looked at again where there are too many and none could be removed, in seconds.
const RETRY_SECONDS: u64 = 60;

/// The sizes and ages of all pages.
#[derive(Debug, Default)]
pub struct ReceiptTable {
    /// For each page the number of receipts, and the time of the newest end.
    pages: BTreeMap<PageNumber, (u32, u64)>,
    /// The pages by that time.
    by_age: BTreeSet<(u64, PageNumber)>,
    count: usize,
    /// There are too many, and until then it is of no use to look for some to remove.
    exhausted_until: u64,
}

impl ReceiptTable {
    /// Notes the content of a page.
    pub fn set(&mut self, number: PageNumber, page: &ReceiptPage) {
        self.set_at(number, page, page.newest_end());
    }

    /// Notes the content of a page, which is looked at again when an end at `newest` would be old.
    pub fn set_at(&mut self, number: PageNumber, page: &ReceiptPage, newest: u64) {
        let count = page.records().len();
        if let Some((known, age)) = self.pages.get_mut(&number)
            && *age == newest
            && count > 0
        {
            self.count = self.count - *known as usize + count;
            *known = u32::try_from(count).unwrap_or(u32::MAX);
            return;
        }
        self.remove(number);
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

    /// Notes that no receipt can be removed at `now`: all are of messages that are there.
    pub fn exhausted(&mut self, now: u64) {
        self.exhausted_until = now + RETRY_SECONDS;
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
    /// with their number beyond it.
    pub fn removable(&self, before: u64, limit: usize, now: u64) -> Option<(PageNumber, Option<usize>)> {
        let &(newest, number) = self.by_age.first()?;
        if newest <= before {
            return Some((number, None));
        }
        (self.count > limit && self.exhausted_until <= now).then(|| (number, Some(self.count - limit)))
    }
}
