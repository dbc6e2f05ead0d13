//! The audit trail.

use super::records::AuditRecord;
use super::table::{Value, WriteSet};
use super::trees::Trees;
use super::{Result, Store, StoreError};
use crate::core::ids::AuditId;

/// Adds entries, and removes others, or ones that are added.
///
/// # Errors
/// If the store fails.
pub fn append(trees: &Trees, added: &[(AuditId, AuditRecord)], removed: &[AuditId]) -> Result<()> {
    let mut writes = WriteSet::default();
    for (id, entry) in added {
        writes.put(&trees.audit, id, entry)?;
    }
    for id in removed {
        writes.remove(&trees.audit, id);
    }
    writes.apply()
}

/// Returns the ids of all entries, in order, each with its entry, where that can be read. Damage is left to `check`.
pub fn entries(trees: &Trees) -> impl Iterator<Item = Result<(AuditId, Option<AuditRecord>)>> + '_ {
    trees.audit.tree().iter().filter_map(|entry| match entry {
        Ok((key, value)) => Some(Ok((AuditId::from_key(&key)?, AuditRecord::decode(&value)))),
        Err(error) => Some(Err(error.into())),
    })
}

impl Store {
    /// Returns the entries of the audit trail below `before`, or all, the newest first; those that can't be read are left out.
    pub fn audit(&self, before: Option<AuditId>) -> impl Iterator<Item = Result<(AuditId, AuditRecord)>> + '_ {
        self.trees.audit.below(before.as_ref()).filter(|entry| !matches!(entry, Err(StoreError::Damaged { .. })))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::ids::{TokenId, UserId};
    use crate::core::time::Timestamp;
    use crate::store::tests::fresh;
    use crate::store::{AuditSubject, Watch, check, compact, repair};

    fn entry(event: &str) -> AuditRecord {
        AuditRecord {
            at: Timestamp::from_unix_micros(1),
            event: event.into(),
            user: Some(UserId(7)),
            subject: Some(AuditSubject::Token(TokenId(3))),
            name: None,
            address: Some([192, 0, 2, 1].into()),
            details: BTreeMap::from([("role".to_owned(), "admin".into())]),
        }
    }

    fn numbered(ids: std::ops::RangeInclusive<u64>) -> Vec<(AuditId, AuditRecord)> {
        ids.map(|id| (AuditId(id), entry(&id.to_string()))).collect()
    }

    fn listed(store: &Store, before: Option<u64>) -> Vec<u64> {
        store.audit(before.map(AuditId)).map(|entry| entry.unwrap().0.0).collect()
    }

    #[tokio::test]
    async fn entries_are_listed_from_the_newest_and_kept_by_a_compaction() {
        let (dir, store) = fresh();
        let write = |trees: &Trees| append(trees, &numbered(1..=300), &[AuditId(1), AuditId(300)]);
        store.writer().run(write).await.unwrap();
        assert_eq!(listed(&store, None), (2..=299).rev().collect::<Vec<_>>());
        assert_eq!(listed(&store, Some(257)), (2..=256).rev().collect::<Vec<_>>(), "ids are ordered as numbers");
        assert_eq!(listed(&store, Some(2)), [0u64; 0]);
        assert_eq!(store.audit(None).next().unwrap().unwrap().1, entry("299"));
        assert!(store.live_bytes().unwrap() > 298 * 100);
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        compact(&path, Watch::NONE).unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!((store.loss(), listed(&store, None).len()), (None, 298));
    }

    #[tokio::test]
    async fn damaged_entry_is_found_left_out_of_lists_and_removed_by_a_repair() {
        let (dir, store) = fresh();
        store.writer().run(|trees| append(trees, &numbered(1..=3), &[])).await.unwrap();
        store.trees().audit.tree().insert(AuditId(2).to_key(), b"{}").unwrap();
        assert_eq!(listed(&store, None), [3, 1]);
        assert_eq!(entries(store.trees()).map(|entry| entry.unwrap().1.is_some()).collect::<Vec<_>>(), [true, false, true]);
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        let found = check(&path, Watch::NONE).unwrap().findings;
        assert_eq!(found.iter().map(|finding| finding.tree).collect::<Vec<_>>(), ["audit"]);
        let epoch = std::fs::read_to_string(path.join("epoch")).unwrap();
        repair(&path, Watch::NONE).unwrap();
        assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        let store = Store::open(&path).unwrap();
        assert_eq!((listed(&store, None), store.epoch()), (vec![3, 1], &*epoch), "no message is lost with it");
    }

    #[tokio::test]
    async fn trail_of_a_store_is_nothing_to_a_version_that_does_not_know_it() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        store.writer().run(|trees| append(trees, &numbered(1..=3), &[])).await.unwrap();
        store.close().unwrap();
        drop(store);
        // As such a version would find it, and leave it after a compaction.
        let db = crate::store::engine::open(&path, 1 << 20).unwrap();
        assert!(db.drop_tree("audit").unwrap());
        db.flush().unwrap();
        drop(db);
        let store = Store::open(&path).unwrap();
        assert_eq!((store.loss(), listed(&store, None)), (None, vec![]));
        store.writer().run(|trees| append(trees, &numbered(1..=1), &[])).await.unwrap();
        assert_eq!(listed(&store, None), [1]);
    }
}
