//! The place of a copy in the log, as it is kept in the copy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Link;
use super::entry::{Control, Entry, EntryId};
use super::{BootId, LEVEL, NodeName, Position};
use crate::change::{ClockState, Delta, Moment, Settings};
use crate::core::time::Timestamp;
use crate::store::{Result, StoreError, Trees};

/// The age after which the last entry of a run is forgotten, in milliseconds: no repetition of it can come any more.
const MAX_SILENCE: u64 = 3_600_000;
/// The runs whose last entry is remembered, at most.
const MAX_BOOTS: usize = 1024;
/// The snapshots that are kept.
pub const KEPT_SNAPSHOTS: usize = 2;
/// The keys of the records: written first and last in each entry.
const BEGUN: &str = "begun";
const DONE: &str = "done";

/// The last entry of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    n: u64,
    /// The service clock for credentials at it, in milliseconds.
    lived: u64,
}

/// The node that is to make a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The node.
    pub node: NodeName,
    /// Its run: what was under way ends with it.
    pub boot: BootId,
    /// The service clock for credentials then, in milliseconds.
    since: u64,
}

/// The place of a copy in the log, and what of the cluster's state is in no tree. The same on every node at the same position.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// The log: each new one, made after the engine has lost something, has a number of its own.
    pub generation: u32,
    /// The last entry that was applied.
    pub position: Position,
    /// The hash of that entry.
    pub entry: Link,
    /// The link behind it.
    pub chain: Link,
    /// The engine's clock at it; it never goes back.
    pub wall: Timestamp,
    /// The service clock at it.
    pub clock: ClockState,
    /// The level that entries may have.
    pub level: u32,
    /// The limits in force.
    pub settings: Settings,
    /// The last entries of each run.
    boots: BTreeMap<BootId, Last>,
    /// The node whose turn it is to make a snapshot.
    pub turn: Option<Turn>,
    /// The positions of the snapshots that are there, oldest first.
    pub snapshots: Vec<Position>,
    /// The operations and bytes since the last one, and the service clock for credentials at it, in milliseconds.
    since_snapshot: u64,
    bytes_since_snapshot: u64,
    snapshot_lived: u64,
}

/// The state of a copy.
pub enum Copy {
    /// It is none.
    None,
    /// An entry was applied in part.
    Torn,
    /// It can be built upon.
    Whole(Box<Progress>),
}

impl Progress {
    /// The place of the first copy of a cluster, before any entry.
    pub fn founded(generation: u32, wall: Timestamp, clock: ClockState, settings: Settings) -> Self {
        Self {
            generation,
            position: Position(0),
            entry: Link::default(),
            chain: Link::default(),
            wall,
            clock,
            level: LEVEL,
            settings,
            boots: BTreeMap::new(),
            turn: None,
            snapshots: vec![Position(0)],
            since_snapshot: 0,
            bytes_since_snapshot: 0,
            snapshot_lived: clock.lived,
        }
    }

    /// Reads it from a store.
    ///
    /// # Errors
    /// If the store fails, or the record can't be read.
    pub fn load(trees: &Trees) -> Result<Copy> {
        let (begun, done) = (trees.cluster.get(BEGUN)?, trees.cluster.get(DONE)?);
        let Some(done) = done else { return Ok(if begun.is_some() { Copy::Torn } else { Copy::None }) };
        let done: Self = serde_json::from_slice(&done).map_err(|_| StoreError::Damaged { tree: "cluster" })?;
        let begun = begun.and_then(|begun| serde_json::from_slice::<Position>(&begun).ok());
        Ok(if begun == Some(done.position) { Copy::Whole(Box::new(done)) } else { Copy::Torn })
    }

    /// Notes in the store that the entry at `position` is being applied.
    ///
    /// # Errors
    /// If the store fails.
    pub fn begin(trees: &Trees, position: Position) -> Result<()> {
        trees.cluster.insert(BEGUN, &position.to_string().as_bytes().into())
    }

    /// Notes that everything up to its position is in the store.
    ///
    /// # Errors
    /// If the store fails.
    pub fn save(&self, trees: &Trees) -> Result<()> {
        let text = serde_json::to_vec(self).unwrap_or_default(); // numbers, names and texts
        trees.cluster.insert(DONE, &text.into())
    }

    /// Removes the records from a store, which is no copy from then on.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove(trees: &Trees) -> Result<()> {
        // What was applied in part would be found so.
        trees.cluster.remove(DONE)?;
        trees.cluster.remove(BEGUN)
    }

    /// Returns whether an entry of that name is a repetition, or was overtaken by a later one of its author: it is passed over.
    pub fn has_passed(&self, id: EntryId) -> bool {
        self.boots.get(&id.boot).is_some_and(|last| last.n >= id.n)
    }

    /// Returns the moment of `entry`, the next one, which the engine has dated `time`.
    pub fn moment(&self, entry: &Entry, time: Timestamp) -> Moment {
        let wall = time.max(self.wall);
        let passed = match entry.lived {
            // By the author's boot clock: the engine's may jump, when another server of it leads.
            Some(lived) => lived.saturating_sub(self.clock.lived),
            None => u64::try_from(wall.unix_millis().saturating_sub(self.wall.unix_millis())).unwrap_or(0),
        };
        Moment::of_entry(wall, self.clock.stepped(passed, wall.unix_millis()))
    }

    /// Moves on over the next entry, which is `bytes` and has made the change `delta`; `entry` is `None` where it is passed over.
    pub fn pass(&mut self, entry: Option<&Entry>, bytes: &[u8], delta: Delta, moment: Moment) {
        self.position = self.position.next();
        self.entry = Link::of_entry(bytes);
        self.chain = self.chain.next(self.entry, delta);
        let bytes = bytes.len() as u64;
        (self.wall, self.clock) = (moment.wall, moment.clock);
        let Some(entry) = entry else { return };
        let EntryId { boot, n } = entry.id();
        let lived = self.clock.lived;
        self.boots.insert(boot, Last { n, lived });
        self.boots.retain(|_, last| lived.saturating_sub(last.lived) <= MAX_SILENCE);
        if self.boots.len() > MAX_BOOTS
            && let Some(silent) = self.boots.iter().min_by_key(|(_, last)| last.lived).map(|(boot, _)| *boot)
        {
            self.boots.remove(&silent);
        }
        self.since_snapshot += entry.ops.len() as u64;
        self.bytes_since_snapshot += bytes;
        match &entry.control {
            Some(Control::SnapshotTurn) if self.turn.is_none() || self.is_turn_over() => {
                self.turn = Some(Turn { node: entry.node.clone(), boot, since: lived });
            }
            Some(Control::Snapshot(position)) => {
                let position = *position;
                self.turn = None;
                (self.since_snapshot, self.bytes_since_snapshot) = (0, 0);
                self.snapshot_lived = lived;
                self.snapshots.retain(|kept| *kept != position);
                self.snapshots.push(position);
                self.snapshots.sort_unstable();
                let excess = self.snapshots.len().saturating_sub(KEPT_SNAPSHOTS);
                self.snapshots.drain(..excess);
            }
            Some(Control::Raise(level)) => self.level = self.level.max(*level),
            Some(Control::SnapshotTurn) | None => {}
        }
    }

    /// Returns whether a snapshot is due: after so many operations or bytes, or an hour where there are any.
    pub fn needs_snapshot(&self, operations: u64, bytes: u64) -> bool {
        /// In milliseconds.
        const INTERVAL: u64 = 3_600_000;
        let is_old = self.clock.lived.saturating_sub(self.snapshot_lived) >= INTERVAL;
        self.since_snapshot >= operations || self.bytes_since_snapshot >= bytes || self.since_snapshot > 0 && is_old
    }

    /// Returns whether the node whose turn it is to make a snapshot has had its time.
    pub fn is_turn_over(&self) -> bool {
        /// In milliseconds.
        const MAX_TURN: u64 = 600_000;
        self.turn.as_ref().is_some_and(|turn| self.clock.lived.saturating_sub(turn.since) > MAX_TURN)
    }
}
