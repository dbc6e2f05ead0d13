//! The part of the state that is in memory.

use super::audit::Trail;
use super::index::Index;
use super::keys::Keys;
use super::pairings::Pairings;
use super::passes::Passes;
use crate::core::ids::MessageId;

/// The part of the state that is in memory: rebuilt from the trees at the start.
#[derive(Debug)]
pub struct Memory {
    /// The mailboxes.
    pub index: Index,
    /// Idempotency keys.
    pub keys: Keys,
    /// The highest message id given.
    pub newest: MessageId,
    /// The highest id of a message that was kept at the start. Lower than that given where messages were lost to a restore.
    pub newest_loaded: MessageId,
    /// The entries of the audit trail.
    pub trail: Trail,
    /// Secrets that are good once.
    pub passes: Passes,
    /// Devices that are being paired.
    pub pairings: Pairings,
}
