//! Repair of a damaged store: it is rewritten from the records that can be read.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use sled::Tree;

use super::check::{Findings, LOG, derived, open, walk};
use super::numbers;
use super::salvage::{self, Salvaged};
use super::scan::newest_message;
use super::watch::Watch;
use crate::core::hex::hex;
use crate::core::ids::{MessageId, Recipient};
use crate::core::time::Timestamp;
use crate::store::log::Log;
use crate::store::loss::begin_again;
use crate::store::records::Place;
use crate::store::staging::{LEFT_BEHIND, StagedStore, copy_path, lock, remove, staged_path, swap};
use crate::store::trees::Trees;
use crate::store::{Loss, Result, SCHEMA, StoreError, acknowledge_loss, commit_note, engine};

/// The trees without whose records messages, or the places of readers, are lost.
const MESSAGE_TREES: [&str; 3] = ["blocks", "pieces", "places"];

/// Verifies the store as [`check`](super::check::check) does, and rewrites a damaged one from its readable records. One that can't be
/// opened is opened without the newest parts of its log. The damaged store, and a list of the records left behind, are moved to
/// [`QUARANTINE`](engine::QUARANTINE). Blocks.
///
/// # Errors
/// If the store can't be opened at all, or the new one can't be written, or [`StoreError::Interrupted`]: nothing is changed then.
pub fn repair(path: &Path, watch: Watch<'_>) -> Result<Findings> {
    rebuild(path, false, watch)
}

/// Repairs the store; notes what is lost in its directory where that is to be acknowledged.
fn rebuild(path: &Path, unacknowledged: bool, watch: Watch<'_>) -> Result<Findings> {
    let _lock = lock(path)?;
    // What is half done would only take the space that is short.
    rebuild_locked(path, unacknowledged, watch).inspect_err(|_| drop(remove(&copy_path(path))))
}

/// Repairs the store as [`rebuild`] does, which has its lock.
fn rebuild_locked(path: &Path, unacknowledged: bool, watch: Watch<'_>) -> Result<Findings> {
    let mut salvaged = match open(path) {
        Ok((db, trees)) => Salvaged::whole(db, trees),
        Err(error @ (StoreError::Unreadable(_) | StoreError::DamagedLog)) => salvage::open(path, error)?,
        Err(error) => return Err(error),
    };
    if !salvaged.trees.cluster.is_empty()? {
        return Err(StoreError::OfCluster); // another one is made from a snapshot, which has everything
    }
    let loss = salvaged.loss(path)?;
    if salvaged.is_whole() {
        let mut verified = verify(&salvaged.trees, watch)?;
        if verified.wrong == 0 {
            if let Some(loss) = loss {
                Loss::find(&salvaged.trees, path)?;
                salvaged.trees.tally.end()?;
                salvaged.sync(path)?;
                acknowledge_loss(path)?;
                verified.add(LOG, &[], loss.description());
            }
            return Ok(verified);
        }
        salvaged = with_older_pages(path, salvaged, &verified, watch)?;
    }
    let place = engine::quarantine(path)?;
    let rebuilt = rewrite_into(path, salvaged, loss, &place, unacknowledged, watch);
    if rebuilt.is_err() {
        let _ = remove(&staged_path(path)).and(remove(&place));
    }
    rebuilt
}

/// Writes the readable records of a damaged store into a new one, which takes its place; the damaged one is moved to `place`.
fn rewrite_into(
    path: &Path,
    salvaged: Salvaged,
    loss: Option<Loss>,
    place: &Path,
    unacknowledged: bool,
    watch: Watch<'_>,
) -> Result<Findings> {
    let trees = &salvaged.trees;
    let list = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.join(LEFT_BEHIND))?;
    let mut staged = StagedStore::create(path)?;
    let (newest, noted, mut lost) = (newest_message(trees), commit_note::read(path), !salvaged.is_whole());
    let mut found = rewrite(trees, &mut staged, &list, &mut lost, watch)?;
    // Nobody knows what was in pages that can't be read.
    lost |= found.findings.iter().any(|finding| finding.key.is_empty() && MESSAGE_TREES.contains(&finding.tree));
    salvaged.findings().into_iter().for_each(|what| found.add(LOG, &[], what));
    let records = found.wrong;
    if let Some(loss) = &loss {
        found.add(LOG, &[], loss.description());
    }
    list.sync_all()?;
    if staged.trees.epoch()?.is_none() || !salvaged.is_whole() {
        staged.trees.new_epoch()?; // the old one could not be read, or promises messages that are lost
    }
    staged.trees.set_schema(SCHEMA)?;
    numbers::reserve(&staged.trees, trees, newest, salvaged.ids_lost())?;
    if loss.is_some() {
        begin_again(&staged.trees, newest, noted.map_or(newest, |noted| noted.newest.max(newest)))?;
    }
    if lost {
        mark_gone(&staged.trees, newest)?;
    }
    if unacknowledged {
        // In the new store, so that no crash comes in between.
        loss.map(|loss| loss.note(&staged_path(path))).transpose()?;
        let (after, newest) = (MessageId(0), MessageId(0));
        Loss { noticed_at: Timestamp::now(), commits: 0, records, altered: 0, after, newest }.note(&staged_path(path))?;
    }
    staged.complete()?;
    salvaged.close()?;
    swap(path, Some(&place.join("store")))?;
    found.quarantine = Some(place.into());
    Ok(found)
}

/// Reads all records.
fn verify(trees: &Trees, watch: Watch<'_>) -> Result<Findings> {
    walk(trees, watch, |_, _, _| Ok(()), |_, _, _, _| Ok(()))
}

/// Returns the store, or, where pages in it can't be read, the copy in which these are as they were before, whichever has more records.
fn with_older_pages(path: &Path, whole: Salvaged, verified: &Findings, watch: Watch<'_>) -> Result<Salvaged> {
    if !verified.findings.iter().any(|finding| finding.key.is_empty()) {
        return Ok(whole);
    }
    let Ok(copy) = salvage::open(path, StoreError::DamagedLog) else { return Ok(whole) };
    let good = |found: &Findings| found.records.saturating_sub(found.wrong);
    if good(&verify(&copy.trees, watch)?) > good(verified) {
        whole.close()?;
        Ok(copy)
    } else {
        copy.close()?;
        Ok(whole)
    }
}

/// Repairs the store at `path` because a server could not start with it, and notes what is lost, so that the operator learns of it.
/// Blocks.
///
/// # Errors
/// As [`repair`].
pub fn repair_for_start(path: &Path) -> Result<()> {
    let found = rebuild(path, true, Watch::NONE)?;
    let quarantine = found.quarantine.unwrap_or_default();
    tracing::error!(findings = found.wrong, quarantine = %quarantine.display(), "rebuilt the store without what can't be read");
    Ok(())
}

/// Writes the readable records of `trees` to the staged store, and the others to `list`; sets `lost` where one of them is of
/// messages.
fn rewrite(trees: &Trees, staged: &mut StagedStore, mut list: impl Write, lost: &mut bool, watch: Watch<'_>) -> Result<Findings> {
    let mut kept: Vec<(&'static str, Vec<u8>, Vec<u8>)> = Vec::new();
    let found = walk(
        trees,
        watch,
        |name, key, value| {
            kept.push((name, key.to_vec(), value.to_vec()));
            if kept.len() == 1000 { keep(staged, &mut kept) } else { Ok(()) }
        },
        |tree, key, value, what| {
            *lost |= MESSAGE_TREES.contains(&tree);
            #[derive(Serialize)]
            struct Line<'a> {
                tree: &'a str,
                key: String,
                value: String,
                what: &'a str,
            }
            let line = serde_json::to_string(&Line { tree, key: hex(key), value: hex(value), what });
            Ok(writeln!(list, "{}", line.map_err(io::Error::other)?)?)
        },
    )?;
    keep(staged, &mut kept)?;
    Ok(found)
}

/// Notes in every place that messages are lost, so that clients that ask what they missed learn of it.
fn mark_gone(trees: &Trees, newest: MessageId) -> Result<()> {
    let users = trees.users.values().filter_map(Result::ok).map(|user| Recipient::User(user.id));
    let devices = trees.devices.values().filter_map(Result::ok).map(|device| Recipient::Device(device.id));
    for recipient in users.chain(devices).chain([Recipient::All]) {
        let place = trees.places.get(&recipient)?.unwrap_or_default();
        Log::new(trees).set_place(recipient, &Place { gone: newest.max(place.gone), ..place })?;
    }
    Ok(())
}

/// Writes records, and the entries derived from them, into the staged store.
fn keep(staged: &mut StagedStore, records: &mut Vec<(&'static str, Vec<u8>, Vec<u8>)>) -> Result<()> {
    let trees: Vec<Tree> = staged.trees.all().into_iter().cloned().collect();
    for (name, key, value) in records.drain(..) {
        let Some(tree) = Trees::NAMES.iter().position(|&n| n == name).and_then(|n| trees.get(n)) else { continue };
        staged.put(tree, &key, &value)?;
        for listed in derived(&staged.trees, name, &key, &value) {
            listed.tree.insert(listed.key, listed.value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::super::check::tests::{fill, user};
    use super::*;
    use crate::core::ids::{DeviceId, TokenId, UserId};
    use crate::store::meta::MetaKey;
    use crate::store::records::PageNumber;
    use crate::store::table::Key;
    use crate::store::tests::fresh;
    use crate::store::{Blocks, Store};
    use std::fs;
    use std::ops::ControlFlow;

    #[test]
    fn damaged_records_are_named_and_left_behind_and_all_others_are_kept() {
        let (dir, store) = fresh();
        fill(&store);
        let trees = &store.trees;
        trees.users.tree().insert(UserId(2).to_key(), b"{").unwrap(); // bob's record
        trees.user_names.remove("ana").unwrap(); // ana's entry in the index
        trees.serials.insert("s9", &DeviceId(1)).unwrap(); // a serial of another device
        let beyond = Place { front: MessageId(u64::MAX), ..Place::default() };
        trees.places.insert(&Recipient::Device(DeviceId(1)), &beyond).unwrap();
        trees.pieces.remove(&(MessageId(2), 1)).unwrap(); // of the long message, which is the newest
        trees.receipt_pages.tree().insert(PageNumber(9).encode(), b"x").unwrap();
        trees.meta.tree().insert(MetaKey::NextUser.name(), b"x").unwrap();
        let found = store.check(Watch::NONE).unwrap();
        let mut tree_names: Vec<_> = found.findings.iter().map(|finding| finding.tree).collect();
        tree_names.dedup();
        assert_eq!(
            tree_names,
            ["meta", "users", "user_names", "serials", "blocks", "receipt_pages", "places"],
            "{:?}",
            found.findings
        );
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        let wrong = check(&path, Watch::NONE).unwrap().wrong;
        let repaired = repair(&path, Watch::NONE).unwrap();
        assert_eq!(repaired.wrong, wrong);
        assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        let place = repaired.quarantine.unwrap();
        let list = fs::read_to_string(place.join("left-behind.jsonl")).unwrap();
        assert_eq!(list.lines().count(), 5, "bob, a place, the block of the long message, a page of receipts, a number: {list}");
        assert!(list.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].is_string()));
        assert!(place.join("store/db").exists());
        let store = Store::open(&path).unwrap();
        assert_eq!(store.user_by_name("ana").unwrap().map(|user| user.id), Some(UserId(1)), "found by name again");
        assert_eq!(store.user(UserId(2)).unwrap(), None);
        assert_eq!(store.devices_by_serial("s9").unwrap(), []);
        assert_eq!(store.devices_by_serial("S1").unwrap().iter().map(|device| device.id).collect::<Vec<_>>(), [DeviceId(1)]);
        assert!(store.token_by_id(TokenId(1)).unwrap().is_some());
        let mut blocks = Blocks::new(store.log());
        assert!(blocks.message(MessageId(1), MessageId(1)).unwrap().is_some(), "of the same block as the damaged one");
        assert_eq!(blocks.message(MessageId(1), MessageId(2)).unwrap(), None);
        let places: std::collections::BTreeMap<Recipient, Place> = store.log().places().map(Result::unwrap).collect();
        assert_eq!(places[&Recipient::User(UserId(1))].front, MessageId(1));
        assert_eq!(places[&Recipient::Device(DeviceId(1))].front, MessageId(0));
        assert!(user(&store, "eva") > UserId(2), "bob's id is not given again");
        assert!(store.log().newest_given().unwrap() > MessageId(2), "nor is the lost message's");
        let marks = [Recipient::User(UserId(1)), Recipient::Device(DeviceId(1))].map(|of| places[&of].gone);
        assert_eq!(marks, [MessageId(2), MessageId(2)], "clients learn that messages are missing");
    }

    #[test]
    fn interrupted_repair_and_compaction_change_nothing() {
        let (dir, store) = fresh();
        fill(&store);
        store.trees.users.tree().insert(UserId(2).to_key(), b"{").unwrap();
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        let wrong = check(&path, Watch::NONE).unwrap().wrong;
        // In the verification, and while the new store is written.
        for walks in 0..2 {
            let begun = std::cell::Cell::new(0);
            let tell = |_| {
                begun.set(begun.get() + 1);
                if begun.get() > walks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            assert!(matches!(repair(&path, Watch::new(&tell)), Err(StoreError::Interrupted)), "{walks}");
            assert!(!staged_path(&path).exists() && !copy_path(&path).exists(), "{walks}");
            let quarantine = fs::read_dir(path.with_file_name(engine::QUARANTINE)).into_iter().flatten().count();
            assert_eq!(quarantine, 0, "{walks}");
        }
        let tell = |_| ControlFlow::Break(());
        assert!(matches!(check(&path, Watch::new(&tell)), Err(StoreError::Interrupted)));
        assert!(matches!(super::super::compact::compact(&path, Watch::new(&tell)), Err(StoreError::Interrupted)));
        assert!(!staged_path(&path).exists());
        assert_eq!(check(&path, Watch::NONE).unwrap().wrong, wrong);
        assert_eq!(repair(&path, Watch::NONE).unwrap().wrong, wrong);
    }
}
