//! The audit trail: the operation that adds entries, and which of them are kept.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::machine::{Machine, Operation};
use crate::core::ids::{AuditId, UserId};
use crate::store::{AuditRecord, Result, StoreError, Trees, audit};

/// The most entries that one added entry removes: where fewer are kept than before, the others go in steps.
const MAX_REMOVED: usize = 4;

/// The entries that are there, each with the user that caused it; `None` where nobody was authenticated.
#[derive(Debug, Default)]
pub struct Trail {
    /// The highest id given.
    newest: u64,
    causes: BTreeMap<u64, Option<UserId>>,
    /// The entries of each cause, the oldest first.
    entries: BTreeMap<Option<UserId>, VecDeque<u64>>,
}

impl Trail {
    /// Loads the trail of a store.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) fn load(trees: &Trees) -> Result<Self> {
        let mut trail = Self::default();
        for entry in audit::entries(trees) {
            let (id, record) = entry?;
            trail.insert(id.0, record.and_then(|record| record.user));
        }
        Ok(trail)
    }

    fn insert(&mut self, id: u64, cause: Option<UserId>) {
        self.newest = self.newest.max(id);
        self.causes.insert(id, cause);
        self.entries.entry(cause).or_default().push_back(id);
    }

    /// Adds an entry.
    fn add(&mut self, cause: Option<UserId>) -> AuditId {
        let id = self.newest + 1;
        self.insert(id, cause);
        AuditId(id)
    }

    /// Removes an entry where there are more than `keep`: the oldest, or, where `cause` has more than half of them, its oldest. So
    /// nobody, and not those who are not authenticated together, can push out what others did.
    fn evict(&mut self, keep: usize, cause: Option<UserId>) -> Option<AuditId> {
        if self.causes.len() <= keep {
            return None;
        }
        let of_cause = self.entries.get(&cause).map_or(0, VecDeque::len);
        let loser = if of_cause > keep / 2 { cause } else { self.causes.first_key_value().map(|(_, cause)| *cause)? };
        let entries = self.entries.get_mut(&loser)?;
        let id = entries.pop_front()?;
        if entries.is_empty() {
            self.entries.remove(&loser);
        }
        self.causes.remove(&id);
        Some(AuditId(id))
    }
}

/// Adds entries to the audit trail, and removes the oldest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordAudit {
    /// The entries, in their order.
    pub entries: Vec<AuditRecord>,
    /// The number of entries that are kept.
    pub keep: usize,
}

impl Operation for RecordAudit {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        let Self { entries, keep } = self;
        let (mut added, mut removed) = (Vec::with_capacity(entries.len()), Vec::new());
        let mut memory = machine.memory();
        for entry in entries {
            let cause = entry.user;
            added.push((memory.trail.add(cause), entry));
            removed.extend((0..MAX_REMOVED).map_while(|_| memory.trail.evict(keep, cause)));
        }
        drop(memory); // not held across the write
        audit::append(machine.trees, &added, &removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(trail: &mut Trail, keep: usize, cause: Option<u64>) {
        let cause = cause.map(UserId);
        trail.add(cause);
        (0..MAX_REMOVED).map_while(|_| trail.evict(keep, cause)).for_each(drop);
    }

    fn count(trail: &Trail, cause: Option<u64>) -> usize {
        trail.entries.get(&cause.map(UserId)).map_or(0, VecDeque::len)
    }

    #[test]
    fn oldest_entries_are_removed() {
        let mut trail = Trail::default();
        (0..500).for_each(|n| add(&mut trail, 100, Some(n % 7)));
        assert_eq!(trail.causes.keys().copied().collect::<Vec<_>>(), (401..=500).collect::<Vec<_>>());
        assert_eq!(trail.entries.values().map(VecDeque::len).sum::<usize>(), 100);
    }

    #[test]
    fn flood_takes_no_more_than_half() {
        for flooding in [None, Some(5)] {
            let mut trail = Trail::default();
            (0..100).for_each(|n| add(&mut trail, 100, Some(10 + n % 3)));
            (0..10_000).for_each(|_| add(&mut trail, 100, flooding));
            assert_eq!((trail.causes.len(), count(&trail, flooding)), (100, 50), "{flooding:?}");
            // Of the others, the newest.
            let others: Vec<u64> =
                trail.causes.iter().filter(|(_, cause)| **cause != flooding.map(UserId)).map(|(id, _)| *id).collect();
            assert_eq!(others, (51..=100).collect::<Vec<_>>());
            // And what others do goes on being recorded.
            (0..10).for_each(|_| add(&mut trail, 100, Some(1)));
            assert_eq!(count(&trail, Some(1)), 10);
        }
    }

    #[test]
    fn lower_bound_is_reached_in_steps() {
        let mut trail = Trail::default();
        (0..1000).for_each(|n| add(&mut trail, 1000, Some(n % 2)));
        add(&mut trail, 100, Some(0));
        assert_eq!(trail.causes.len(), 1001 - MAX_REMOVED);
        (0..300).for_each(|n| add(&mut trail, 100, Some(n % 2)));
        assert_eq!(trail.causes.len(), 100);
    }
}
