//! What goes into the mailbox, and what comes back.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::watch::OutcomeSender;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::hub::Announcement;
use crate::store::Head;
use crate::wire::JsonObject;

/// A message to be queued.
#[derive(Debug)]
pub struct Outgoing {
    /// For whom.
    pub recipient: Recipient,
    /// From whom.
    pub sender: UserId,
    /// The JSON object that is pushed; its id is added when it has one.
    pub object: JsonObject,
    /// Seconds of life; the configured number where none is given.
    pub ttl: Option<u64>,
    /// The sender's mark, so that a repeated request is sent once.
    pub key: Option<IdempotencyKey>,
    /// Who is to be told what becomes of it.
    pub teller: Option<OutcomeSender>,
}

impl Outgoing {
    /// `object` from `sender` to `recipient`, with the configured time to live.
    pub fn new(recipient: Recipient, sender: UserId, object: JsonObject) -> Self {
        Self { recipient, sender, object, ttl: None, key: None, teller: None }
    }
}

/// An idempotency key: of one sender, for one request.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKey {
    pub(super) key: [u8; 32],
    pub(super) digest: u64,
}

impl IdempotencyKey {
    /// The key `key` of `sender` on a request that is `request` in every byte that matters.
    pub fn new(sender: UserId, key: &str, request: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(sender.to_key());
        hasher.update(key.as_bytes());
        let digest: [u8; 32] = Sha256::digest(request).into();
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self { key: hasher.finalize().into(), digest: u64::from_be_bytes(short) }
    }
}

/// A message that was taken.
#[derive(Debug)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// To how many connections it was announced; 0 for a repeated request.
    pub recipients: usize,
    /// Whether the same request had been taken before.
    pub repeated: bool,
    /// To be announced once it is durable.
    pub(super) announcement: Option<Arc<Announcement>>,
}

/// A message's receipt.
#[derive(Debug)]
pub struct Receipt {
    /// For whom.
    pub recipient: Recipient,
    /// About it.
    pub head: Head,
    /// Where it stands.
    pub status: Status,
    /// When its life ends or ended, as far as the clocks agree.
    pub expires_at: Timestamp,
    /// For a broadcast: how many users have received it.
    pub received: Option<usize>,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits.
    Queued,
    /// It has been written to a connection.
    Sent(Timestamp),
    /// It has been received.
    Acked(Option<Timestamp>),
    /// Its life ended before it was received.
    Expired,
}
