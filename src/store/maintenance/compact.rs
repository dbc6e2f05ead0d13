//! Reclaiming disk space: sled reuses the space of removed entries, but its files never get smaller.

use std::path::Path;

use serde::Serialize;

use crate::store::staging::{CACHE_BYTES, StagedStore, disk_bytes, lock, recover, remove, staged_path, swap};
use crate::store::trees::Trees;
use crate::store::{Result, SCHEMA, StoreError, engine};

/// The result of compacting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Bytes on the disk before.
    pub before: u64,
    /// Bytes on the disk after.
    pub after: u64,
    /// Records copied.
    pub records: u64,
}

/// Rewrites the store at `path`, which no process has open. Takes the space of both meanwhile; a crash leaves the one or the other.
/// Blocks.
///
/// # Errors
/// [`StoreError`]; the store is as it was then.
pub fn compact(path: &Path) -> Result<Compacted> {
    let _lock = lock(path)?;
    recover(path)?;
    let (db, before) = (engine::open(path, CACHE_BYTES)?, disk_bytes(path)?);
    let trees = Trees::open(&db)?;
    if trees.schema()? != Some(SCHEMA) {
        return Err(StoreError::Older);
    }
    let copied = copy(&trees, path).inspect_err(|_| drop(remove(&staged_path(path)))); // it would hold space that is short
    drop(trees);
    drop(db);
    let records = copied?;
    swap(path, None)?;
    Ok(Compacted { before, after: disk_bytes(path)?, records })
}

/// Writes a complete staged store for the store at `path`; returns the number of records.
fn copy(trees: &Trees, path: &Path) -> Result<u64> {
    let mut staged = StagedStore::create(path)?;
    let mut records = 0;
    for (tree, name) in trees.all().into_iter().zip(Trees::NAMES) {
        let copy = staged.tree(name)?;
        for entry in tree {
            let (key, value) = entry?;
            staged.put(&copy, &key, &value)?;
            records += 1;
        }
    }
    staged.complete()?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::MessageId;
    use crate::store::Store;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn compact_reclaims_the_space_of_removed_records() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        for round in 0..40u64 {
            let change = move |trees: &Trees| {
                for n in 0..500u64 {
                    trees.pieces.insert(&(MessageId(round * 500 + n), 0), &(&[3; 2000][..]).into())?;
                }
                Ok::<_, StoreError>(())
            };
            store.writer().run(change).await.unwrap();
        }
        let remove = |trees: &Trees| (100..20_000u64).try_for_each(|n| trees.pieces.remove(&(MessageId(n), 0)));
        store.writer().run(remove).await.unwrap();
        assert!(matches!(compact(&path), Err(StoreError::Locked(_))), "it is open");
        let epoch = store.epoch().to_owned();
        store.close().unwrap();
        drop(store);
        let done = compact(&path).unwrap();
        assert!(done.after * 4 < done.before, "{done:?}");
        let store = Store::open(&path).unwrap();
        assert_eq!((store.epoch(), store.trees().pieces.keys().count()), (epoch.as_str(), 100));
        assert!(store.live_bytes().unwrap() > 200_000);
    }
}
