//! Opening a store whose log is damaged: a copy that lacks the damaged parts and, where that is not enough, the newest ones.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::check::trees_of;
use crate::data_dir::free_bytes;
use crate::store::damage::{Treatment, treat};
use crate::store::engine::{self, SEGMENT_BYTES, remove_summaries};
use crate::store::segments::{Segment, segments};
use crate::store::staging::{CACHE_BYTES, copy_path, disk_bytes, remove};
use crate::store::trees::Trees;
use crate::store::{Loss, Result, StoreError};

/// The number of segments up to which they are left out one by one; beyond it, a quarter more each time.
const SINGLE_STEPS: usize = 8;
/// More ids than the messages of one segment can have.
const IDS_A_SEGMENT: u64 = 1 << 16;

/// An open store that may lack the newest part of its log.
pub(super) struct Salvaged {
    db: sled::Db,
    /// Its trees.
    pub(super) trees: Trees,
    /// The copy that is open; `None` where it is the store itself.
    copy: Option<PathBuf>,
    /// The segments left out, and all of them.
    segments: (usize, usize),
    /// The number of damaged parts of the log that were skipped.
    skipped: usize,
}

impl Salvaged {
    /// A store that could be opened as it is.
    pub(super) fn whole(db: sled::Db, trees: Trees) -> Self {
        Self { db, trees, copy: None, segments: (0, 0), skipped: 0 }
    }

    /// Returns whether the store itself is open, with all of its log.
    pub(super) fn is_whole(&self) -> bool {
        self.copy.is_none()
    }

    /// The number of ids of which nothing may be left.
    pub(super) fn ids_lost(&self) -> u64 {
        (self.segments.0 + usize::from(self.skipped > 0)) as u64 * IDS_A_SEGMENT
    }

    /// The descriptions of what is lost.
    pub(super) fn findings(&self) -> Vec<String> {
        let ((lost, all), skipped) = (self.segments, self.skipped);
        let newest = || format!("could be opened only without the newest {lost} of its {all} segments of 1 MiB");
        let parts = || format!("{skipped} parts of it are damaged");
        let found = [(lost > 0).then(newest), (skipped > 0).then(parts)];
        found.into_iter().flatten().collect()
    }

    /// Returns the loss that the store at `path` has; of a copy, the one that was noted before.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn loss(&self, path: &Path) -> Result<Option<Loss>> {
        if self.is_whole() { Loss::peek(&self.trees, path) } else { Loss::read(path) }
    }

    /// Makes what was written to the store at `path`, which is open itself, durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn sync(&self, path: &Path) -> Result<()> {
        self.db.flush()?;
        Ok(File::open(path.join("db"))?.sync_data()?)
    }

    /// Closes the store, and removes the copy.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn close(self) -> Result<()> {
        let Self { db, trees, copy, .. } = self;
        drop(trees);
        drop(db);
        copy.map_or(Ok(()), |copy| remove(&copy))
    }
}

/// Opens a copy of the store at `path`, which can't be opened because of `error`, with as much of its log as possible.
///
/// # Errors
/// That error where it can't be opened with any part of it, or an error of the disk.
pub(super) fn open(path: &Path, error: StoreError) -> Result<Salvaged> {
    let (copy, segments) = (copy_path(path), segments(&path.join("db"))?);
    // The copy, and the store that is written from it.
    if free_bytes(path)? < disk_bytes(path)?.saturating_mul(2) {
        return Err(StoreError::NoRoom);
    }
    let mut left_out = 0;
    while left_out < segments.len() {
        for treatment in [Treatment::Skip, Treatment::Accept] {
            let skipped = copy_without(path, &copy, &segments[segments.len() - left_out..], treatment)?;
            match engine::open_once(&copy, CACHE_BYTES).and_then(trees_of) {
                Ok((db, trees)) => {
                    let segments = (left_out, segments.len());
                    return Ok(Salvaged { db, trees, copy: Some(copy), segments, skipped });
                }
                Err(StoreError::Unreadable(_)) if skipped > 0 => {}
                Err(StoreError::Unreadable(_)) => break,
                Err(error) => return Err(error),
            }
        }
        left_out += if left_out < SINGLE_STEPS { 1 } else { left_out / 4 };
    }
    remove(&copy)?;
    Err(error)
}

/// Copies the log of the store at `path`, without its summaries and without some segments, and treats the damaged parts. Returns their
/// number.
fn copy_without(path: &Path, copy: &Path, left_out: &[Segment], treatment: Treatment) -> Result<usize> {
    remove(copy)?;
    fs::create_dir(copy)?;
    for name in ["conf", "db"] {
        fs::copy(path.join(name), copy.join(name))?;
    }
    let log = File::options().write(true).open(copy.join("db"))?;
    let end = log.metadata()?.len();
    for &Segment { at, .. } in left_out {
        let length = usize::try_from(end - at).unwrap_or(SEGMENT_BYTES).min(SEGMENT_BYTES);
        log.write_all_at(&vec![0; length], at)?;
    }
    remove_summaries(copy)?;
    treat(&copy.join("db"), treatment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{MessageId, Recipient};
    use crate::store::Watch;
    use crate::store::records::{BlockBuilder, Head, Stored};
    use crate::store::{Store, check, damage, repair};

    /// A block of one message of 8 KiB.
    fn block(id: u64) -> Vec<u8> {
        let payload: Vec<u8> = format!("\"{}\"", format!("{id:08x}").repeat(1024)).into_bytes();
        let length = u32::try_from(payload.len()).unwrap();
        let (id, recipient, now) = (MessageId(id), Recipient::All, crate::core::time::Timestamp::now());
        let head = Head { id, recipient, sender: crate::core::ids::UserId(1), expires: 9, ttl: 9, created: now, length };
        let mut block = BlockBuilder::new(id);
        block.push(&Stored { head, payload });
        block.finish()
    }

    /// A closed store with that many of them, in two runs.
    fn filled(blocks: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for half in [1..=blocks / 2, blocks / 2 + 1..=blocks] {
            let store = Store::open(&dir.path().join("store")).unwrap();
            for id in half {
                store.log().write_block(MessageId(id), block(id), &[]).unwrap();
            }
            store.close().unwrap();
        }
        dir
    }

    /// A copy of the store in `dir`.
    fn copied(dir: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("store")).unwrap();
        for entry in fs::read_dir(dir.join("store")).unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_file()) {
            fs::copy(entry.path(), copy.path().join("store").join(entry.file_name())).unwrap();
        }
        copy
    }

    fn flip(file: &Path, at: u64) {
        let file = File::options().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    fn blocks(path: &Path) -> usize {
        let store = Store::open(path).unwrap();
        let count = store.trees().blocks.tree().iter().take_while(Result::is_ok).count();
        store.close().unwrap();
        count
    }

    #[test]
    fn damaged_summary_is_set_aside_and_nothing_is_lost() {
        let dir = filled(400);
        let summary = engine::summaries(&dir.path().join("store")).pop().unwrap();
        let length = dir.path().join("store").join(&summary).metadata().unwrap().len();
        for damage in 0..10 {
            let copy = copied(dir.path());
            let path = copy.path().join("store");
            match damage {
                0 => fs::write(path.join(&summary), b"").unwrap(),
                1 => fs::write(path.join(&summary), vec![0x5a; 100]).unwrap(),
                2 => File::options().write(true).open(path.join(&summary)).unwrap().set_len(length / 2).unwrap(),
                n => flip(&path.join(&summary), length * (n - 2) / 8),
            }
            assert_eq!(blocks(&path), 400, "damage {damage}");
            assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        }
    }

    #[test]
    fn store_with_any_flipped_bit_tells_what_it_lacks_or_can_be_repaired() {
        let dir = filled(400);
        let (length, mut harmed) = (dir.path().join("store/db").metadata().unwrap().len(), 0);
        for n in 0..32 {
            let copy = copied(dir.path());
            let path = copy.path().join("store");
            flip(&path.join("db"), length * (2 * n + 1) / 64);
            if let Ok(store) = Store::open(&path) {
                let tree = store.trees().blocks.tree();
                let is_whole = tree.iter().take_while(Result::is_ok).count() == 400;
                let is_told = store.loss().is_some() || tree.iter().any(|block| block.is_err());
                assert!(is_whole || is_told, "position {n}");
                harmed += usize::from(is_told);
                let _ = store.close();
                continue;
            }
            harmed += 1;
            assert!(check(&path, Watch::NONE).is_err());
            let found = repair(&path, Watch::NONE).unwrap();
            assert!(found.findings.iter().any(|finding| finding.tree == "log"), "{:?}", found.findings);
            assert!(found.quarantine.unwrap().join("store/db").exists());
            assert!(!copy_path(&path).exists());
            assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
            // What is behind the damage in the log can't be reached.
            assert!(blocks(&path) > 100, "{}", blocks(&path));
            let store = Store::open(&path).unwrap();
            assert!(store.before_restore(MessageId(400)), "clients that have seen it are told that they have not recovered");
            assert!(store.log().newest_given().unwrap() > MessageId(400), "no id is given again");
        }
        assert!(harmed > 0);
    }

    #[test]
    fn pages_between_unreadable_ones_are_kept() {
        let dir = filled(400);
        let length = dir.path().join("store/db").metadata().unwrap().len();
        let (mut unreadable, mut kept) = (0, Vec::new());
        for first in [3, 5, 7] {
            let copy = copied(dir.path());
            let path = copy.path().join("store");
            for n in 0..6 {
                flip(&path.join("db"), length * (first + 5 * n) / 100); // in what the summary covers
            }
            let Ok(found) = check(&path, Watch::NONE) else { continue };
            if found.wrong == 0 {
                continue;
            }
            unreadable += 1;
            repair(&path, Watch::NONE).unwrap();
            assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
            kept.push(blocks(&path));
            let store = Store::open(&path).unwrap();
            let place = store.trees().places.get(&Recipient::All).unwrap().unwrap();
            assert_eq!(place.gone, MessageId(400), "clients learn that messages are missing");
        }
        assert!(unreadable > 0);
        // A page has some thirty blocks at most.
        assert!(kept.iter().all(|&kept| kept > 400 - 6 * 30), "{kept:?}");
    }

    #[test]
    fn missing_end_of_the_log_is_noticed() {
        let dir = filled(400);
        let length = dir.path().join("store/db").metadata().unwrap().len();
        for n in 0..16 {
            let copy = copied(dir.path());
            let path = copy.path().join("store");
            flip(&path.join("db"), length - length * (2 * n + 1) / 160); // in the last fifth
            let Ok(store) = Store::open(&path) else { continue };
            let loss = store.loss();
            store.close().unwrap();
            drop(store);
            assert!(loss.is_some() || blocks(&path) == 400, "{n}");
            assert_eq!(check(&path, Watch::NONE).unwrap().wrong > 0, loss.is_some());
        }
    }

    #[test]
    fn log_of_which_nothing_is_left_is_not_changed() {
        let dir = filled(10);
        let path = dir.path().join("store");
        let garbage = vec![0x5a; 3 << 20];
        fs::write(path.join("db"), &garbage).unwrap();
        assert!(matches!(repair(&path, Watch::NONE), Err(StoreError::Unreadable(_))));
        assert!(fs::read(path.join("db")).unwrap() == garbage);
        assert!(!copy_path(&path).exists() && !dir.path().join(engine::QUARANTINE).exists());
    }

    #[tokio::test]
    async fn damage_in_the_middle_of_the_log_costs_what_is_damaged_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        for id in 1..=300 {
            let write = move |trees: &Trees| {
                trees.newest_written.store(id, std::sync::atomic::Ordering::Relaxed);
                trees.blocks.insert_bytes(&MessageId(id), block(id))
            };
            store.writer().run(write).await.unwrap();
        }
        // As a crash leaves it: without the marks of a store that was closed.
        let whole = copied(dir.path());
        store.close().unwrap();
        drop(store);
        let (mut refused, mut least) = (0, usize::MAX);
        let length = whole.path().join("store/db").metadata().unwrap().len();
        for n in 0..24 {
            let copy = copied(whole.path());
            let path = copy.path().join("store");
            flip(&path.join("db"), length * (2 * n + 1) / 48);
            match Store::open(&path) {
                Ok(store) => {
                    let count = store.trees().blocks.tree().iter().take_while(Result::is_ok).count();
                    // In what no record needs, or the last commit.
                    assert!(count == 300 || count == 299 && store.loss().is_some(), "position {n}: {count}");
                    store.close().unwrap();
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::DamagedLog), "position {n}: {error}");
                    assert!(matches!(check(&path, Watch::NONE), Err(StoreError::DamagedLog)), "and it stays as it is");
                    let found = repair(&path, Watch::NONE).unwrap();
                    assert!(found.findings.iter().any(|finding| finding.tree == "log"));
                    refused += 1;
                    let kept = blocks(&path);
                    least = least.min(kept);
                }
            }
        }
        // A part is one write, or a page that was written anew.
        assert!(refused > 12 && least >= 280, "{refused} refused, the worst kept {least}");
    }

    #[tokio::test]
    async fn end_that_a_crash_cut_off_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        for id in 1..=50 {
            store.writer().run(move |trees| trees.blocks.insert_bytes(&MessageId(id), vec![b'x'; 8000])).await.unwrap();
        }
        let synced = fs::read(path.join("commits")).unwrap();
        store
            .writer()
            .run(|trees| (51..=80).try_for_each(|id| trees.blocks.insert_bytes(&MessageId(id), vec![b'x'; 8000])))
            .await
            .unwrap();
        let cut = copied(dir.path());
        let path = cut.path().join("store");
        fs::write(path.join("commits"), synced).unwrap(); // the last commit was not on the disk
        let log = fs::read(path.join("db")).unwrap();
        let at = log.windows(99).rposition(|bytes| bytes.iter().all(|&byte| byte == b'x')).unwrap();
        flip(&path.join("db"), at as u64 - 100_000);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.loss(), None);
        assert!((50..80).contains(&store.trees().blocks.tree().len()));
        store.close().unwrap();
    }

    #[test]
    fn closed_store_is_summarised_where_that_saves_much() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        for (blocks, expected) in [(1..=100, false), (101..=2000, true), (2001..=2010, false)] {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.loss(), None);
            for id in blocks {
                store.log().write_block(MessageId(id), block(id), &[]).unwrap();
            }
            store.close().unwrap();
            drop(store);
            let before = damage::bytes_behind_summary(&path).unwrap();
            assert_eq!(engine::summarize(&path).unwrap(), expected, "{before}");
            assert!(damage::bytes_behind_summary(&path).unwrap() < 4 << 20);
        }
        assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        assert_eq!(super::tests::blocks(&path), 2010);
    }
}
