//! Messages as they are handed to the mailbox, and receipts.

use crate::change::{IdempotencyKey, OutcomeSender};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::Head;
use crate::wire::JsonObject;

/// A message to queue.
#[derive(Debug)]
pub struct Outgoing {
    /// The recipient.
    pub recipient: Recipient,
    /// The sender.
    pub sender: UserId,
    /// The object that is delivered; the id is added to it.
    pub object: JsonObject,
    /// The time to live in seconds; the configured number where it is `None`.
    pub ttl: Option<u64>,
    /// The sender's key, so that a repeated request is sent once.
    pub key: Option<IdempotencyKey>,
    /// A watcher of the message's outcome.
    pub watcher: Option<OutcomeSender>,
}

impl Outgoing {
    /// `object` from `sender` to `recipient`, with the configured time to live.
    pub fn new(recipient: Recipient, sender: UserId, object: JsonObject) -> Self {
        Self { recipient, sender, object, ttl: None, key: None, watcher: None }
    }
}

/// A message that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// The number of connections that it was announced to; 0 for a repeated request.
    pub recipients: usize,
    /// Set when the same request had been accepted before.
    pub repeated: bool,
}

/// The receipt of a message.
#[derive(Debug)]
pub struct Receipt {
    /// The recipient.
    pub recipient: Recipient,
    /// The message without its payload.
    pub head: Head,
    /// Its state.
    pub status: Status,
    /// The end of its life, as far as the clocks agree.
    pub expires_at: Timestamp,
    /// For a broadcast: the number of users that have received it.
    pub received: Option<usize>,
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is pending.
    Queued,
    /// It has been written to a connection.
    Sent(Timestamp),
    /// It has been received.
    Acked(Option<Timestamp>),
    /// Its life ended before it was received.
    Expired,
}
