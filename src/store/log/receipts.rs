//! Receipts of messages, which outlive them.

use super::Log;
use crate::core::ids::MessageId;
use crate::store::Result;
use crate::store::records::{PageNumber, ReceiptPage};

impl Log<'_> {
    /// Returns a page of receipts: an empty one where there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn receipts(&self, page: PageNumber) -> Result<ReceiptPage> {
        Ok(self.0.receipt_pages.get(&page)?.unwrap_or_default())
    }

    /// Sets a page of receipts.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_receipts(&self, page: PageNumber, receipts: &ReceiptPage) -> Result<()> {
        self.0.receipt_pages.insert(&page, receipts)
    }

    /// Removes a page of receipts.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_receipts(&self, page: PageNumber) -> Result<()> {
        self.0.receipt_pages.remove(&page)
    }

    /// Returns all pages in the order of the ids.
    pub fn all_receipts(&self) -> impl Iterator<Item = Result<(PageNumber, ReceiptPage)>> + '_ {
        self.0.receipt_pages.iter()
    }

    /// Returns the newest id of which there is a receipt: 0 where there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest_receipt(&self) -> Result<MessageId> {
        let last = self.0.receipt_pages.last()?;
        Ok(last.and_then(|(_, page)| page.records().last().map(|record| record.id)).unwrap_or(MessageId(0)))
    }
}
