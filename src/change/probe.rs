//! The operation of health checks.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::machine::{Machine, Operation};
use crate::store::{MetaKey, Result, StoreError};

/// Proves that the disk accepts writes: makes a tiny change, or, with `write` unset, only commits what has been written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Make a change.
    pub write: bool,
}

impl Operation for Probe {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        if self.write { machine.trees.meta.next(MetaKey::Proofs).map(drop) } else { Ok(()) }
    }
}
