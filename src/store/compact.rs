//! Giving room back: sled uses the room of what was removed again, but its files never get smaller.

use std::path::Path;

use serde::Serialize;

use super::catalogue::Trees;
use super::draft::{CACHE_BYTES, Draft, disk_bytes, draft_path, remove, settle, swap, turn};
use super::{Result, SCHEMA, StoreError, engine};

/// What compacting brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Bytes on the disk before.
    pub before: u64,
    /// Bytes on the disk after.
    pub after: u64,
    /// Records that were copied.
    pub records: u64,
}

/// Writes the store at `path`, which nobody has open, anew with what is in it. Takes the room of both for as long as it lasts;
/// a crash leaves the one or the other. Blocks.
///
/// # Errors
/// [`StoreError`]; the store is as it was then.
pub fn compact(path: &Path) -> Result<Compacted> {
    let _turn = turn(path)?;
    settle(path)?;
    let (db, before) = (engine(path, CACHE_BYTES)?, disk_bytes(path)?);
    let trees = Trees::open(&db)?;
    if trees.schema()? != Some(SCHEMA) {
        return Err(StoreError::Older);
    }
    let copied = copy(&trees, path).inspect_err(|_| drop(remove(&draft_path(path)))); // it would hold room that is short
    drop(trees);
    drop(db);
    let records = copied?;
    swap(path, None)?;
    Ok(Compacted { before, after: disk_bytes(path)?, records })
}

/// Writes a complete draft of the store at `path`; returns how many records there are.
fn copy(trees: &Trees, path: &Path) -> Result<u64> {
    let mut draft = Draft::begin(path)?;
    let mut records = 0;
    for (tree, name) in trees.all().into_iter().zip(Trees::NAMES) {
        let copy = draft.tree(name)?;
        for entry in tree {
            let (key, value) = entry?;
            draft.put(&copy, &key, &value)?;
            records += 1;
        }
    }
    draft.complete()?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn what_was_removed_gives_its_room_back_and_the_rest_stays() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        for round in 0..40u64 {
            let change = move |trees: &Trees| {
                for n in 0..500u64 {
                    trees.receipts.insert((round * 500 + n).to_be_bytes(), &[3; 2000][..])?;
                }
                Ok(())
            };
            store.write(change).await.unwrap();
        }
        store
            .write(|trees| Ok((100..20_000u64).try_for_each(|n| trees.receipts.remove(n.to_be_bytes()).map(drop))?))
            .await
            .unwrap();
        assert!(matches!(compact(&path), Err(StoreError::Locked(_))), "somebody has it open");
        let epoch = store.epoch().to_owned();
        store.close().unwrap();
        drop(store);
        let done = compact(&path).unwrap();
        assert!(done.after * 4 < done.before, "{done:?}");
        let store = Store::open(&path).unwrap();
        assert_eq!((store.epoch(), store.trees.receipts.len()), (epoch.as_str(), 100));
        assert!(store.live_bytes().unwrap() > 200_000);
    }
}
