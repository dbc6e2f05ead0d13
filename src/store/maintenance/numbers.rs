//! Numbers that are given once, in a store that was rewritten.

use sled::Tree;

use super::scan::readable;
use crate::core::ids::MessageId;
use crate::store::Result;
use crate::store::meta::MetaKey;
use crate::store::trees::Trees;

/// The number of ids that are skipped where some may have been given of which nothing is left.
pub(super) const ID_GAP: u64 = 4096;

/// Reserves, in a store that is rewritten from the `damaged` one, every id that was given there, those of lost records too; `newest`
/// is the newest message of which there is a trace, and up to `unknown` more may have been given.
///
/// # Errors
/// If the rewritten store fails.
pub(super) fn reserve(rewritten: &Trees, damaged: &Trees, newest: MessageId, unknown: u64) -> Result<()> {
    let upto = newest.0.saturating_add(ID_GAP).saturating_add(unknown);
    rewritten.meta.set(MetaKey::MessageIdsReserved, upto)?;
    if unknown > 0 {
        rewritten.meta.skip(newest.0, upto)?;
    }
    let counters = [
        (MetaKey::NextUser, damaged.users.tree()),
        (MetaKey::NextDevice, damaged.devices.tree()),
        (MetaKey::NextToken, damaged.token_ids.tree()),
    ];
    for (counter, bearers) in counters {
        let (kept, highest) = (rewritten.meta.get(counter)?, highest(bearers));
        // One that is there may be as old as a damaged part of the log, or its page, is.
        if kept.is_none_or(|kept| kept < highest) || unknown > 0 {
            rewritten.meta.set(counter, kept.unwrap_or(0).max(highest).saturating_add(ID_GAP))?;
        }
    }
    Ok(())
}

/// Returns the highest id among the keys of a tree.
fn highest(tree: &Tree) -> u64 {
    readable(tree).1.filter_map(|(key, _)| key.as_ref().try_into().ok().map(u64::from_be_bytes)).max().unwrap_or(0)
}
