//! Changes of the index that the log must follow.

use std::collections::BTreeSet;

use crate::core::ids::{MessageId, Recipient};
use crate::store::{EndState, Head};

/// A message whose life has ended, or that a reader has received first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The message.
    pub head: Head,
    /// The end.
    pub state: EndState,
    /// The number of the reader that received it.
    pub reader: Option<u16>,
}

/// A message that a reader has passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The message.
    pub head: Head,
    /// The number of the reader.
    pub reader: u16,
}

/// Changes of the index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Messages whose receipts say so.
    pub ended: Vec<Ended>,
    /// Messages whose receipts list the reader.
    pub passed: Vec<Passed>,
    /// Messages that are no longer there.
    pub removed: Vec<MessageId>,
    /// Those of them whose payloads are in pieces beside their block.
    pub pieces: Vec<MessageId>,
    /// Places that have changed.
    pub places: BTreeSet<Recipient>,
    /// Blocks of which nothing is of use any more.
    pub freed: Vec<MessageId>,
    /// Blocks of which little is.
    pub shrunk: Vec<MessageId>,
    /// The number of messages that readers have received.
    pub delivered: u64,
    /// The number of messages that were removed before every reader had them.
    pub missed: u64,
    /// Set where the bound on the work of one operation was reached, and more is due.
    pub more: bool,
}

impl Effects {
    /// Returns the number of messages that were worked on.
    pub fn size(&self) -> usize {
        self.ended.len() + self.removed.len()
    }
}
