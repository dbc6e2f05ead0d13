//! Queued messages on disk: the log.
//!
//! The messages of one commit share values, [blocks](crate::store::records::BlockBuilder), which are written once. A block is
//! removed when none of its messages is of use any more; one of which few are is written anew without the others. Receipts are
//! kept apart from the messages, since they outlive them, and so are the places of the readers. Nothing here makes decisions; the
//! operations on the log do.
//!
//! # Invariants
//! - Pieces are written before their block, and removed after it: a crash in between leaves entries that are never found, never a
//!   message that lacks something.
//! - Receipts are written before the places that they belong to: a crash in between delivers a message again.
//! - No value is longer than [`messages::PIECE_BYTES`].

mod messages;
mod places;
mod receipts;

use crate::core::ids::{MessageId, Recipient, UserId};
use crate::store::Result;
use crate::store::meta::MetaKey;
use crate::store::trees::Trees;

pub use messages::{Blocks, fuzz_block, read_payload};

/// The log. Methods that write are for the writer thread alone; those that read can be called anywhere.
#[derive(Clone, Copy)]
pub struct Log<'a>(&'a Trees);

impl<'a> Log<'a> {
    /// The log in `trees`.
    pub fn new(trees: &'a Trees) -> Self {
        Self(trees)
    }

    /// Returns whether the user or device behind a mailbox exists.
    ///
    /// # Errors
    /// If the store fails.
    pub fn recipient_exists(&self, recipient: Recipient) -> Result<bool> {
        match recipient {
            Recipient::User(id) => self.0.users.contains(&id),
            Recipient::Device(id) => self.0.devices.contains(&id),
            Recipient::All => Ok(true),
        }
    }

    /// Returns all accounts, and the message after which broadcasts are for each.
    pub fn users(&self) -> impl Iterator<Item = Result<(UserId, MessageId)>> + '_ {
        self.0.users.values().map(|user| user.map(|user| (user.id, user.joined)))
    }

    /// Returns the highest message id that can have been given out: no id up to it may be given again.
    ///
    /// Every id given leaves a trace: the message, its receipt, or, where that has been removed, the number under
    /// [`MetaKey::MessageIdsReserved`]. Ids of a batch that never reached the disk were never seen by anyone.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest_given(&self) -> Result<MessageId> {
        Ok(self.newest_kept()?.max(self.reserved()?))
    }

    /// Returns the id up to which none is given again, whatever is left of the messages.
    ///
    /// # Errors
    /// If the store fails.
    pub fn reserved(&self) -> Result<MessageId> {
        self.0.meta.number(MetaKey::MessageIdsReserved).map(MessageId)
    }

    /// Returns the highest id of which a message, a receipt or a place is left. After a restore it is lower than
    /// [`newest_given`](Self::newest_given): clients can know ids above it whose messages are lost.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest_kept(&self) -> Result<MessageId> {
        let mut newest = self.newest_message()?.max(self.newest_receipt()?);
        for entry in self.places() {
            let (_, place) = entry?;
            newest = newest.max(place.front).max(place.gone);
        }
        Ok(newest)
    }

    /// Keeps ids up to `newest` from being given again, whatever is removed.
    ///
    /// # Errors
    /// If the store fails.
    pub fn reserve_ids(&self, newest: MessageId) -> Result<()> {
        if self.reserved()? < newest {
            self.0.meta.set(MetaKey::MessageIdsReserved, newest.0)?;
        }
        Ok(())
    }
}
