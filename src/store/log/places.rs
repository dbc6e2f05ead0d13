//! Places of readers, and marks of removed messages.

use super::Log;
use crate::core::ids::Recipient;
use crate::store::Result;
use crate::store::records::Place;

impl Log<'_> {
    /// Sets the place of a mailbox.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_place(&self, recipient: Recipient, place: &Place) -> Result<()> {
        self.0.places.insert(&recipient, place)
    }

    /// Removes the place of a deleted mailbox.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_place(&self, recipient: Recipient) -> Result<()> {
        self.0.places.remove(&recipient)
    }

    /// Returns all places.
    pub fn places(&self) -> impl Iterator<Item = Result<(Recipient, Place)>> + '_ {
        self.0.places.iter()
    }
}
