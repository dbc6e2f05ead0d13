//! Reclaiming disk space: sled reuses the space of removed entries, but its files never get smaller.

use std::path::Path;

use serde::Serialize;
use sled::IVec;

use super::migrate::must_migrate;
use super::scan::is_over;
use super::watch::Watch;
use crate::core::ids::MessageId;
use crate::store::records::{BlockBuilder, Stored, read_block};
use crate::store::staging::{CACHE_BYTES, StagedStore, disk_bytes, lock, recover, remove, staged_path, swap};
use crate::store::trees::Trees;
use crate::store::{Loss, Result, SCHEMA, StoreError, engine};

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
pub fn compact(path: &Path, watch: Watch<'_>) -> Result<Compacted> {
    let _lock = lock(path)?;
    recover(path)?;
    let (db, before) = (engine::open(path, CACHE_BYTES)?, disk_bytes(path)?);
    if must_migrate(&db)? {
        return Err(StoreError::Older); // before its trees are opened, which would add today's
    }
    let trees = Trees::open(&db, 0)?;
    if trees.schema()? != Some(SCHEMA) {
        return Err(StoreError::Older);
    }
    let loss = Loss::find(&trees, path)?; // before it is copied: it changes the epoch
    let copied = copy(&trees, path, loss, watch).inspect_err(|_| drop(remove(&staged_path(path)))); // it would hold space that is short
    drop(trees);
    drop(db);
    let records = copied?;
    swap(path, None)?;
    Ok(Compacted { before, after: disk_bytes(path)?, records })
}

/// Returns a block without the messages that have been removed; `None` where none is left. One that can't be read is left to
/// `check`.
fn without_removed(trees: &Trees, key: &[u8], block: IVec) -> Result<Option<IVec>> {
    let (Some(first), Some(messages)) = (MessageId::from_key(key), read_block(&block)) else { return Ok(Some(block)) };
    let (mut rest, mut removed) = (BlockBuilder::new(first), false);
    for (head, inline) in messages.flatten() {
        if is_over(trees, &head)? {
            removed = true;
        } else {
            rest.push(&Stored { head, payload: inline.to_vec() });
        }
    }
    Ok(match (removed, rest.count) {
        (false, _) => Some(block),
        (true, 0) => None,
        (true, _) => Some(rest.finish().into()),
    })
}

/// Writes a complete staged store for the store at `path`, with its `loss`; returns the number of records.
fn copy(trees: &Trees, path: &Path, loss: Option<Loss>, watch: Watch<'_>) -> Result<u64> {
    let mut staged = StagedStore::create(path)?;
    let (mut records, mut read) = (0, 0);
    let all = trees.all().into_iter().zip(Trees::NAMES);
    let of = all.len();
    for (number, (tree, name)) in (1..).zip(all) {
        let copy = staged.tree(name)?;
        for entry in tree {
            let (key, value) = entry?;
            watch.at(name, number, of, read)?;
            read += 1;
            let value = if name == &"blocks" { without_removed(trees, &key, value)? } else { Some(value) };
            let Some(value) = value else { continue };
            staged.put(&copy, &key, &value)?;
            records += 1;
        }
    }
    loss.map(|loss| loss.note(&staged_path(path))).transpose()?;
    staged.complete()?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{Recipient, UserId};
    use crate::core::time::Timestamp;
    use crate::store::Store;
    use crate::store::records::{EndState, Head, PageNumber, ReceiptPage};
    use crate::store::tests::fresh;

    #[test]
    fn messages_that_were_removed_are_not_copied() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        let (log, recipient) = (store.log(), Recipient::User(UserId(1)));
        let (mut block, mut page) = (BlockBuilder::new(MessageId(1)), ReceiptPage::default());
        for id in 1..=3 {
            let payload = format!("\"secret {id}\"").into_bytes();
            let length = u32::try_from(payload.len()).unwrap();
            let created = Timestamp::now();
            let head = Head { id: MessageId(id), recipient, sender: UserId(1), expires: 9, ttl: 9, created, length };
            block.push(&Stored { head, payload });
            if id != 2 {
                page.entry(&head).finish(EndState::Cancelled, None, None, 1);
            }
        }
        log.write_block(MessageId(1), block.finish(), &[]).unwrap();
        log.set_receipts(PageNumber(0), &page).unwrap();
        store.close().unwrap();
        drop(store);
        compact(&path, Watch::NONE).unwrap();
        let bytes = std::fs::read(path.join("db")).unwrap();
        let there = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert_eq!([1, 2, 3].map(|id| there(&format!("secret {id}"))), [false, true, false]);
    }

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
        assert!(matches!(compact(&path, Watch::NONE), Err(StoreError::Locked(_))), "it is open");
        let epoch = store.epoch().to_owned();
        store.close().unwrap();
        drop(store);
        let done = compact(&path, Watch::NONE).unwrap();
        assert!(done.after * 4 < done.before, "{done:?}");
        let store = Store::open(&path).unwrap();
        assert_eq!((store.epoch(), store.trees().pieces.keys().count()), (epoch.as_str(), 100));
        assert!(store.live_bytes().unwrap() > 200_000);
    }
}
