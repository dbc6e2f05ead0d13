//! The times at which tokens were last used and devices last connected.

use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;
use crate::store::Result;
use crate::store::records::TokenHash;
use crate::store::trees::Trees;

/// Writes the times of last use. Tokens and devices that have been deleted meanwhile are skipped.
///
/// # Errors
/// If the store fails.
pub fn note(trees: &Trees, tokens: &[(TokenHash, Timestamp)], devices: &[(DeviceId, Timestamp)]) -> Result<()> {
    for (hash, when) in tokens {
        if let Some(mut token) = trees.tokens.get(hash)? {
            token.last_used_at = Some(*when);
            trees.tokens.insert(hash, &token)?;
        }
    }
    for (id, when) in devices {
        if let Some(mut device) = trees.devices.get(id)? {
            device.last_seen = Some(*when);
            trees.devices.insert(id, &device)?;
        }
    }
    Ok(())
}
