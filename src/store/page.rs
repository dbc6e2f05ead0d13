//! Pages of lists.

use super::Result;

/// One page of a list in id order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items; at most the requested number.
    pub items: Vec<T>,
    /// Set when the list goes on after the last item.
    pub more: bool,
}

impl<T> Page<T> {
    /// Takes up to `limit` items, and one more to learn of a next page.
    ///
    /// # Errors
    /// The first error that `items` returns.
    pub fn take(items: impl Iterator<Item = Result<T>>, limit: usize) -> Result<Self> {
        let mut items: Vec<T> = items.take(limit.saturating_add(1)).collect::<Result<_>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Self { items, more })
    }
}
