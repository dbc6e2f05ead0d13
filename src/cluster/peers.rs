//! What nodes tell each other beside the log, at most once: who is connected where, and how far they have applied the log.
//!
//! A node tells what has changed since it last told anything, with a number; whoever misses a number, or counts another number of rows,
//! asks for all of them. One that is not heard for [`SILENT`] has no connections any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{BootId, NodeName, Position};
use crate::core::ids::ConnId;
use crate::hub::{Hub, Row, Rows};

/// The time after which a node that is not heard has no connections any more.
pub const SILENT: Duration = Duration::from_secs(3);
/// The time for which a node that was heard counts as one whose word is waited for.
const PRESENT: Duration = Duration::from_millis(1500);
/// The time after which all rows are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The rows in one message, at most: about 100 KB.
const MAX_ROWS: usize = 1000;

/// Something that a node tells all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The node.
    pub node: NodeName,
    /// Its run.
    pub boot: BootId,
    /// The number of its last change.
    n: u64,
    /// What it tells.
    what: What,
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Change `n`, after which it has so many rows; also without a change, for others to hear it.
    Changed { joined: Vec<(ConnId, Row)>, left: Vec<ConnId>, rows: usize },
    /// A part of all rows, as they are after change `n`.
    All { part: usize, parts: usize, rows: Vec<(ConnId, Row)> },
    /// It asks a node for all rows; `None` asks everybody.
    Ask { of: Option<NodeName> },
    /// It asks everybody to say when they have applied the log up to that position.
    Sync { id: u64, position: Position },
    /// It has done what a run asked for by that number.
    Synced { to: BootId, id: u64 },
}

/// What a node has told of itself.
#[derive(Debug)]
pub struct Teller {
    node: NodeName,
    boot: BootId,
    n: u64,
    told: Rows,
}

impl Teller {
    /// That of a node that has told nothing.
    pub fn new(node: NodeName, boot: BootId) -> Self {
        Self { node, boot, n: 0, told: Rows::new() }
    }

    fn say(&self, what: What) -> Told {
        Told { node: self.node.clone(), boot: self.boot, n: self.n, what }
    }

    /// Returns what has changed since the last call, now that `rows` are there: in several parts where that is much. Without changes,
    /// one that says so.
    pub fn changes(&mut self, rows: Rows) -> Vec<Told> {
        let left: Vec<ConnId> = self.told.keys().filter(|id| !rows.contains_key(id)).copied().collect();
        // A connection never becomes another one.
        let joined: Vec<(ConnId, Row)> =
            rows.iter().filter(|(id, _)| !self.told.contains_key(id)).map(|(id, row)| (*id, row.clone())).collect();
        let mut count = self.told.len() - left.len();
        self.told = rows;
        if left.is_empty() && joined.is_empty() {
            return vec![self.say(What::Changed { joined, left, rows: count })];
        }
        let mut told = Vec::new();
        for (n, joined) in joined.chunks(MAX_ROWS).chain(joined.is_empty().then_some(&[][..])).enumerate() {
            count += joined.len();
            self.n += 1;
            let left = if n == 0 { left.clone() } else { Vec::new() };
            told.push(self.say(What::Changed { joined: joined.to_vec(), left, rows: count }));
        }
        told
    }

    /// Returns all rows that have been told, in parts.
    pub fn all(&self) -> Vec<Told> {
        let rows: Vec<(ConnId, Row)> = self.told.iter().map(|(id, row)| (*id, row.clone())).collect();
        let parts = rows.len().div_ceil(MAX_ROWS).max(1);
        let part = |part: usize| rows[part * MAX_ROWS..rows.len().min((part + 1) * MAX_ROWS)].to_vec();
        (0..parts).map(|n| self.say(What::All { part: n, parts, rows: part(n) })).collect()
    }

    /// Returns the question when everybody has applied the log up to `position`.
    pub fn sync(&self, id: u64, position: Position) -> Told {
        self.say(What::Sync { id, position })
    }

    /// Returns the answer to such a question.
    pub fn synced(&self, to: BootId, id: u64) -> Told {
        self.say(What::Synced { to, id })
    }

    /// Returns the question for all rows of a node, or of all nodes.
    pub fn ask(&self, of: Option<NodeName>) -> Told {
        self.say(What::Ask { of })
    }
}

/// Another node.
#[derive(Debug)]
struct Peer {
    boot: BootId,
    /// The last change that is known; `None` where all rows are to be asked for.
    n: Option<u64>,
    heard: Instant,
    /// The parts of all rows that have come.
    parts: usize,
    gathered: Rows,
    /// The time at which all rows were asked for.
    asked: Option<Instant>,
}

/// What is to be answered to something that was told.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    None,
    /// The question for all rows of that node.
    Ask(NodeName),
    /// All rows of this node.
    All,
    /// That the log has been applied here up to that position, when it has, to that question of a run.
    Sync(BootId, u64, Position),
    /// None: that node has answered this question.
    Synced(NodeName, u64),
}

/// What other nodes have told.
pub struct Listener {
    node: NodeName,
    boot: BootId,
    hub: Arc<Hub>,
    peers: BTreeMap<NodeName, Peer>,
}

impl Listener {
    /// That of a node that has heard nothing.
    pub fn new(node: NodeName, boot: BootId, hub: Arc<Hub>) -> Self {
        Self { node, boot, hub, peers: BTreeMap::new() }
    }

    /// Notes what was told at `now`.
    pub fn hear(&mut self, told: Told, now: Instant) -> Answer {
        let Told { node, boot, n, what } = told;
        if node == self.node {
            return Answer::None; // what it has told itself, in this run or an earlier one
        }
        match &what {
            What::Ask { of } if of.as_ref().is_none_or(|of| *of == self.node) => return Answer::All,
            What::Sync { id, position } => return Answer::Sync(boot, *id, *position),
            What::Synced { to, id } if *to == self.boot => return Answer::Synced(node, *id),
            What::Ask { .. } | What::Synced { .. } => return Answer::None,
            What::Changed { .. } | What::All { .. } => {}
        }
        let new = || Peer { boot, n: None, heard: now, parts: 0, gathered: Rows::new(), asked: None };
        let peer = self.peers.entry(node.clone()).or_insert_with(new);
        if peer.boot != boot {
            *peer = new();
            self.hub.elsewhere().set(&node.0, Rows::new());
        }
        peer.heard = now;
        let elsewhere = self.hub.elsewhere();
        let is_known = match what {
            What::Changed { joined, left, rows } => {
                let has_change = !joined.is_empty() || !left.is_empty();
                let follows = peer.n.is_some_and(|known| known + u64::from(has_change) == n);
                follows && elsewhere.change(&node.0, joined, &left) == rows
            }
            What::All { part, parts, rows } => {
                if part == 0 {
                    (peer.parts, peer.gathered) = (0, Rows::new());
                }
                let follows = peer.parts == part;
                peer.parts += 1;
                peer.gathered.extend(rows);
                if follows && part + 1 < parts {
                    return Answer::None; // the others follow
                }
                if follows {
                    elsewhere.set(&node.0, std::mem::take(&mut peer.gathered));
                }
                follows
            }
            What::Ask { .. } | What::Sync { .. } | What::Synced { .. } => true,
        };
        peer.n = is_known.then_some(n);
        if is_known {
            peer.asked = None;
            return Answer::None;
        }
        if peer.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN) {
            return Answer::None; // the answer is on its way
        }
        peer.asked = Some(now);
        Answer::Ask(node)
    }

    /// The nodes that were heard within [`PRESENT`] at `now`.
    pub fn present(&self, now: Instant) -> BTreeSet<NodeName> {
        let present = self.peers.iter().filter(|(_, peer)| now.saturating_duration_since(peer.heard) < PRESENT);
        present.map(|(node, _)| node.clone()).collect()
    }

    /// Forgets the connections of nodes that were not heard for [`SILENT`] at `now`.
    pub fn forget(&mut self, now: Instant) {
        let hub = &self.hub;
        self.peers.retain(|node, peer| {
            let is_heard = now.saturating_duration_since(peer.heard) < SILENT;
            if !is_heard {
                hub.elsewhere().set(&node.0, Rows::new());
            }
            is_heard
        });
    }

    /// This node's run.
    pub const fn boot(&self) -> BootId {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::client::ClientName;
    use crate::core::ids::{Recipient, UserId};
    use crate::core::time::Timestamp;

    fn rows(ids: impl IntoIterator<Item = u64>) -> Rows {
        let row =
            |id: u64| Row { user: UserId(id % 7), device: None, reader: Some(ClientName::default()), since: Timestamp::EPOCH };
        ids.into_iter().map(|id| (ConnId(id), row(id))).collect()
    }

    struct Pair {
        teller: Teller,
        listener: Listener,
        hub: Arc<Hub>,
    }

    impl Pair {
        fn new() -> Self {
            let hub = Hub::new(8, 1 << 20);
            let listener = Listener::new(NodeName("b".into()), BootId(2), hub.clone());
            Self { teller: Teller::new(NodeName("a".into()), BootId(1)), listener, hub }
        }

        /// Has the listener hear all of it, by way of its encoded form; returns the last answer.
        fn tell(&mut self, told: Vec<Told>) -> Answer {
            let decode = |told: Told| serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
            told.into_iter().map(|told| self.listener.hear(decode(told), Instant::now())).last().unwrap()
        }

        fn count(&self) -> usize {
            self.hub.elsewhere().members(Recipient::All)
        }
    }

    #[test]
    fn changes_are_followed_and_what_was_missed_is_asked_for() {
        let mut pair = Pair::new();
        let changes = pair.teller.changes(rows(1..=3));
        assert_eq!(pair.tell(changes), Answer::Ask(NodeName("a".into())), "nothing was known");
        let all = pair.teller.all();
        assert_eq!((pair.tell(all), pair.count()), (Answer::None, 3));
        let changes = pair.teller.changes(rows(2..=2600));
        assert_eq!(changes.len(), 3);
        assert_eq!((pair.tell(changes), pair.count()), (Answer::None, 2599));
        let still = pair.teller.changes(rows(2..=2600));
        assert_eq!((still.len(), pair.tell(still)), (1, Answer::None));
        // One message is lost.
        pair.teller.changes(rows(2..=10));
        let changes = pair.teller.changes(rows(2..=11));
        assert_eq!(pair.tell(changes), Answer::Ask(NodeName("a".into())));
        let all = pair.teller.all();
        assert_eq!((pair.tell(all), pair.count()), (Answer::None, 10));
        let none = pair.teller.changes(Rows::new());
        assert_eq!((pair.tell(none), pair.count()), (Answer::None, 0));
    }

    #[test]
    fn all_rows_come_in_parts_and_a_missing_one_is_noticed() {
        let mut pair = Pair::new();
        pair.teller.changes(rows(0..2500));
        let all = pair.teller.all();
        assert_eq!(all.len(), 3);
        assert_eq!(pair.tell(vec![all[0].clone(), all[2].clone()]), Answer::Ask(NodeName("a".into())));
        assert_eq!(pair.count(), 0);
        assert_eq!((pair.tell(all), pair.count()), (Answer::None, 2500));
    }

    #[test]
    fn node_that_is_silent_or_begins_anew_has_no_connections() {
        let mut pair = Pair::new();
        pair.teller.changes(rows(0..5));
        let all = pair.teller.all();
        pair.tell(all);
        pair.listener.forget(Instant::now());
        assert_eq!(pair.count(), 5);
        pair.teller = Teller::new(NodeName("a".into()), BootId(9));
        let changes = pair.teller.changes(rows(0..1));
        assert_eq!((pair.tell(changes), pair.count()), (Answer::Ask(NodeName("a".into())), 0));
        let all = pair.teller.all();
        assert_eq!((pair.tell(all), pair.count()), (Answer::None, 1));
        pair.listener.forget(Instant::now() + SILENT);
        assert_eq!(pair.count(), 0);
        // A node does not hear itself, and answers who asks it.
        let own = Teller::new(NodeName("b".into()), BootId(5)).all();
        assert_eq!(pair.tell(own), Answer::None);
        let asks = |of: Option<&str>| vec![pair_teller().ask(of.map(|name| NodeName(name.into())))];
        assert_eq!(
            [pair.tell(asks(None)), pair.tell(asks(Some("b"))), pair.tell(asks(Some("c")))],
            [Answer::All, Answer::All, Answer::None]
        );
    }

    fn pair_teller() -> Teller {
        Teller::new(NodeName("a".into()), BootId(1))
    }
}
