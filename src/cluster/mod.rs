//! Several nodes on one log.
//!
//! The changes of all nodes are entries of one replicated, totally ordered log, which an engine keeps. Every node applies the entries
//! in their order to a store of its own, which is a copy that can be thrown away. Order, replication and durability are the engine's
//! alone: nodes don't vote, and don't acknowledge for each other.
//!
//! # The way of a change
//! A caller's operation waits in [`Proposals`](crate::change::Proposals). [`maker`] puts what waits into an entry and appends that to
//! the log. [`tail`] sees it come back, with those of other nodes, and [`replica`] makes its operations on the store's writer thread;
//! only then is the caller answered: what it asked for is on the engine's disks, and in this node's copy.
//!
//! # Invariants
//! - A store is changed by entries alone, each once and in the order of the log; but for records that concern one node, which are in
//!   trees that are not summed, or change no sum that is compared.
//! - The same entries give the same records: [`chain`] shows where they don't.
//! - An entry that a crash has torn is never built upon: the copy is made anew from a snapshot.
//!
//! `log` is the engine as seen from here, with `memory` for tests; `entry` the form of entries, `progress` the place of a copy in the
//! log, `contact` whether the node is in touch, `member` one node's life.

mod chain;
mod contact;
mod entry;
pub mod founding;
mod log;
mod maker;
mod member;
#[cfg(test)]
pub mod memory;
mod nats;
pub mod node;
mod peers;
mod progress;
mod replica;
#[cfg(test)]
pub mod simulation;
mod tail;
mod talk;
#[cfg(test)]
mod tests;

pub use member::{MemberError, drop_copy};

use std::fmt;

use serde::{Deserialize, Serialize};

/// The highest level of entries that this version applies. To be raised with an operation or a rule that earlier versions don't know.
const LEVEL: u32 = 1;

/// A position in the log: the number of an entry, from 1. 0 is before the first one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The next one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a node, unique in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a node, by a random number: what it has sent before it was started again is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);
