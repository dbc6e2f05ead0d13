//! Messages as they are handed to the mailbox, and receipts.

use crate::change::{IdempotencyKey, OutcomeSender};
use crate::core::client::ClientName;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::{Answer, EndState, Head};
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
    /// Sent by an administrator or a service, for which the last tenth of a mailbox is kept.
    pub privileged: bool,
    /// A watcher of the message's outcome.
    pub watcher: Option<OutcomeSender>,
}

impl Outgoing {
    /// `object` from `sender`, an ordinary user, to `recipient`, with the configured time to live.
    pub fn new(recipient: Recipient, sender: UserId, object: JsonObject) -> Self {
        Self { recipient, sender, object, ttl: None, key: None, privileged: false, watcher: None }
    }
}

/// A message that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// The number of connections that it was announced to; 0 for a repeated request.
    pub recipients: usize,
    /// The answer to the same request, where that had been accepted before.
    pub repeated: Option<Answer>,
}

/// The receipt of a message.
#[derive(Debug)]
pub struct Receipt {
    /// The message without its payload.
    pub head: Head,
    /// Its state.
    pub status: Status,
    /// The number of connections that it was written to, as far as that is known.
    pub deliveries: u16,
    /// Of a user's message: the readers that have received it or passed over it.
    pub readers: Vec<ReaderReceipt>,
    /// For a broadcast: the number of users that have received it.
    pub received: Option<usize>,
}

/// One reader in the receipt of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderReceipt {
    /// The reader.
    pub client: ClientName,
    /// Set when it has passed over the message.
    pub passed_over: bool,
    /// The time of receipt, as far as it is known.
    pub acked_at: Option<Timestamp>,
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is pending.
    Queued,
    /// It has been written to a connection.
    Sent(Timestamp),
    /// Its life has ended, or a reader has received it; the time is unknown where the receipt has been removed.
    Ended(EndState, Option<Timestamp>),
}
