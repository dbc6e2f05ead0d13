//! Queued messages on disk: the log.
//!
//! A message is one record under its recipient and id. Payloads too large for sled to keep out of its `blobs/` (which are never
//! synced) are cut into pieces beside the record. Nothing here makes decisions; the operations on the log do.
//!
//! # Invariants
//! - Pieces and the id's entry are written before the record, and removed after it: a crash in between leaves entries that are
//!   never found, never a record that lacks something.
//! - No value is longer than [`messages::PIECE_BYTES`].

mod cursors;
mod messages;

use crate::core::ids::{MessageId, Recipient, UserId};
use crate::store::meta::MetaKey;
use crate::store::trees::Trees;
use crate::store::{Result, Store};

pub use messages::{fuzz_key, read_payload};

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

    /// Returns the enabled accounts, and the message after which broadcasts are for each.
    pub fn listeners(&self) -> impl Iterator<Item = Result<(UserId, MessageId)>> + '_ {
        let enabled = self.0.users.values().filter(|user| user.as_ref().map_or(true, |u| !u.disabled));
        enabled.map(|user| user.map(|u| (u.id, u.joined)))
    }

    /// Returns the highest message id that can have been given out: no id up to it may be given again.
    ///
    /// Every id given leaves a trace: the message itself, the mark of the newest removed message of its recipient, or, where the
    /// recipient was deleted, the number under [`MetaKey::MessageIdsReserved`]. Ids of a batch that never reached the disk were
    /// never seen by anyone.
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

    /// Returns the highest id of a message that is there, or whose removal is noted. After a restore it is lower than
    /// [`newest_given`](Self::newest_given): clients can know ids above it whose messages are lost.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest_kept(&self) -> Result<MessageId> {
        let mut newest = self.newest()?;
        for entry in self.0.purged.iter() {
            newest = newest.max(entry?.1);
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

impl Store {
    /// Returns the log, for reading.
    pub fn log(&self) -> Log<'_> {
        Log(&self.trees)
    }
}
