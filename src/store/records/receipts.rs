//! Records of receipts: what became of each message.
//!
//! A receipt outlives its message. Those of [`PAGE_MESSAGES`] consecutive ids share a value, so that many acknowledgements cost one
//! write.

use serde::{Deserialize, Serialize};

use super::log::Head;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::checked::checked_values;
use crate::store::table::{DecodeKey, Key};

/// The number of consecutive ids whose receipts share a page.
const PAGE_MESSAGES: u64 = 32;
/// The most readers that a receipt lists as having passed over the message.
const MAX_PASSED_READERS: usize = 16;

/// The number of a page of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageNumber(pub u64);

impl PageNumber {
    /// Returns the page of a message.
    pub fn of(id: MessageId) -> Self {
        Self(id.0 / PAGE_MESSAGES)
    }
}

impl Key for PageNumber {
    type Bytes<'a> = [u8; 8];
    fn encode(&self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl DecodeKey for PageNumber {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// The end of a message's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndState {
    /// A reader has received it.
    Acked,
    /// Its time to live ended before.
    Expired,
    /// Its sender, its recipient or an administrator has taken it back.
    Cancelled,
    /// Its mailbox was cleared, or its recipient deleted or handed over.
    Cleared,
    /// Every reader has passed over it.
    Undeliverable,
}

impl EndState {
    /// Returns the status that receipts have of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Cleared => "cleared",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The message.
    pub id: MessageId,
    /// Its mailbox.
    pub recipient: Recipient,
    /// Its sender.
    pub sender: UserId,
    /// The time at which it was accepted, in microseconds since 1970.
    created: i64,
    /// The end of its life, in seconds of the service clock.
    pub expires: u64,
    /// Its time to live, in seconds.
    pub ttl: u32,
    /// Bytes of payload.
    pub length: u32,
    /// The end; `None` while it waits for further readers after some have passed over it.
    pub end: Option<EndState>,
    /// The time of the end, in microseconds since 1970, where it is known.
    at: Option<i64>,
    /// The same in seconds of the service clock.
    pub service: u64,
    /// The number of the reader that received it first.
    pub first: Option<u16>,
    /// The numbers of readers that passed over it.
    pub passed: Vec<u16>,
}

impl ReceiptRecord {
    /// The record of a message that waits.
    pub fn new(head: &Head) -> Self {
        let &Head { id, recipient, sender, expires, ttl, created, length } = head;
        let created = created.unix_micros();
        let (end, at, service) = (None, None, expires);
        Self { id, recipient, sender, created, expires, ttl, length, end, at, service, first: None, passed: Vec::new() }
    }

    /// Notes the end, at `wall`, where it is known, and `service`, by the reader of number `first` where it was received.
    pub fn finish(&mut self, end: EndState, first: Option<u16>, wall: Option<Timestamp>, service: u64) {
        (self.end, self.first, self.service) = (Some(end), first, service);
        self.at = wall.map(Timestamp::unix_micros);
    }

    /// Notes that a reader has passed over the message.
    pub fn pass(&mut self, reader: u16) {
        if self.passed.len() < MAX_PASSED_READERS && !self.passed.contains(&reader) {
            self.passed.push(reader);
        }
    }

    /// The message without its payload.
    pub fn head(&self) -> Head {
        let &Self { id, recipient, sender, expires, ttl, length, .. } = self;
        Head { id, recipient, sender, expires, ttl, created: Timestamp::from_unix_micros(self.created), length }
    }

    /// The time of the end, where it is known.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.end.and(self.at).map(Timestamp::from_unix_micros)
    }
}

/// The receipts of consecutive ids, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPage(Vec<ReceiptRecord>);

impl ReceiptPage {
    /// Returns the receipt of a message.
    pub fn get(&self, id: MessageId) -> Option<&ReceiptRecord> {
        self.0.binary_search_by_key(&id, |record| record.id).ok().map(|at| &self.0[at])
    }

    /// Returns the receipt of a message, added where there is none.
    pub fn entry(&mut self, head: &Head) -> &mut ReceiptRecord {
        let at = self.0.binary_search_by_key(&head.id, |record| record.id).unwrap_or_else(|at| {
            self.0.insert(at, ReceiptRecord::new(head));
            at
        });
        &mut self.0[at]
    }

    /// Removes up to `count` receipts but those that `keep` selects, the ones of the messages that ended first; returns their number.
    pub fn remove_oldest(&mut self, count: usize, keep: impl Fn(&ReceiptRecord) -> bool) -> usize {
        let count = count.min(self.0.len());
        for removed in 0..count {
            let others = self.0.iter().enumerate().filter(|(_, record)| !keep(record));
            let Some((at, _)) = others.min_by_key(|(_, record)| (record.service, record.id)) else { return removed };
            self.0.remove(at);
        }
        count
    }

    /// All receipts.
    pub fn records(&self) -> &[ReceiptRecord] {
        &self.0
    }

    /// The time of the newest end, in seconds of the service clock; the page is kept for some time from then on.
    pub fn newest_end(&self) -> u64 {
        self.0.iter().map(|record| record.service).max().unwrap_or(0)
    }
}

checked_values!(ReceiptPage);
