//! The number of commits, and a sum over all records, in the log itself.
//!
//! sled leaves out what it can't read of its log, without a word: where the end is missing, the number of commits is behind that of
//! [`commit_note`](super::commit_note); where something in the middle is, the records no longer add up to the sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sled::Tree;

use super::{Result, StoreError};

/// The name of the tree, and its only key.
const NAME: &str = "commits";
/// The trees that are not summed: nothing depends on the audit trail and the figures of the last day, and the place in a cluster's log is
/// each node's own.
const NOT_SUMMED: [&str; 4] = ["audit", "samples", "online", "cluster"];
/// The trees that are summed apart, in memory alone, for nodes of a cluster to compare: a message tells the length of its pieces, which are
/// long, and versions that don't have the others would take their sum for damage.
const SUMMED_APART: [&str; 4] = ["pieces", "passes", "pairings", "guesses"];

/// Returns whether the records of the tree `name` are in the sum that is stored.
fn is_stored(name: &str) -> bool {
    !NOT_SUMMED.contains(&name) && !SUMMED_APART.contains(&name)
}

/// What is known of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    /// Their number.
    records: u64,
    /// The sum of their checksums.
    checksums: u64,
    /// The bytes of their keys and values, which are not stored.
    bytes: u64,
}

impl Sum {
    fn add(&mut self, seed: u32, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add((key.len() + value.len()) as u64);
        self.checksums = self.checksums.wrapping_add(checksum(seed, key, value));
    }

    fn subtract(&mut self, seed: u32, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub((key.len() + value.len()) as u64);
        self.checksums = self.checksums.wrapping_sub(checksum(seed, key, value));
    }
}

fn checksum(seed: u32, key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

/// The stored record: the number of commits, then, where the log stood at the end of a commit, the sum.
fn encode(commits: u64, sum: Option<Sum>) -> Vec<u8> {
    let sum = sum.map(|Sum { records, checksums, .. }| [records, checksums]);
    [commits].into_iter().chain(sum.into_iter().flatten()).flat_map(u64::to_be_bytes).collect()
}

fn decode(bytes: &[u8]) -> Result<(u64, Option<Sum>)> {
    let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    match bytes.as_chunks() {
        ([commits], []) => Ok((number(commits), None)),
        ([commits, records, checksums], []) => {
            Ok((number(commits), Some(Sum { records: number(records), checksums: number(checksums), bytes: 0 })))
        }
        _ => Err(StoreError::Damaged { tree: NAME }),
    }
}

/// Returns the newest number of commits whose end is told by a message of sled's log; `None` where there is none.
pub fn commits_in(message: &[u8]) -> Option<u64> {
    let length = 3 * size_of::<u64>();
    let mark: Vec<u8> = [&[NAME.len() as u8], NAME.as_bytes(), &[length as u8]].concat();
    let found = message.windows(mark.len() + length).filter(|window| window.starts_with(&mark));
    let numbers = found.filter_map(|window| decode(&window[mark.len()..]).ok());
    numbers.map(|(commits, _)| commits).max()
}

/// The number of commits and the sum. No tree of [`Trees`](super::trees::Trees): they are of this log, and go into no backup or rewritten
/// store.
#[derive(Debug)]
pub struct Tally {
    tree: Tree,
    commits: AtomicU64,
    /// Of the records as they were at the last commit.
    stored: Option<Sum>,
    records: AtomicU64,
    checksums: AtomicU64,
    bytes: AtomicU64,
    /// Of the trees that are summed apart, since the store was opened.
    records_apart: AtomicU64,
    checksums_apart: AtomicU64,
    /// The sum is that of all records.
    is_known: AtomicBool,
    /// The log says that a commit has begun: a crash may leave a part of it, which adds up to nothing.
    has_begun: AtomicBool,
}

impl Tally {
    /// Opens the tree.
    ///
    /// # Errors
    /// If the engine fails or the record is damaged.
    pub fn open(db: &sled::Db) -> Result<Arc<Self>> {
        let tree = db.open_tree(NAME)?;
        let (commits, stored) = tree.get(NAME)?.map_or(Ok((0, None)), |record| decode(&record))?;
        Ok(Arc::new(Self {
            tree,
            commits: commits.into(),
            stored,
            records: AtomicU64::default(),
            checksums: AtomicU64::default(),
            bytes: AtomicU64::default(),
            records_apart: AtomicU64::default(),
            checksums_apart: AtomicU64::default(),
            is_known: AtomicBool::default(),
            has_begun: AtomicBool::default(),
        }))
    }

    /// Returns the number of commits.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The number of records and the sum of their checksums, which wrap, for differences between two moments: with the trees that are summed
    /// apart, and of what has been changed since the store was opened only, where it was not added up.
    #[cfg(feature = "cluster")]
    pub fn sum(&self) -> (u64, u64) {
        let total =
            |stored: &AtomicU64, apart: &AtomicU64| stored.load(Ordering::Relaxed).wrapping_add(apart.load(Ordering::Relaxed));
        (total(&self.records, &self.records_apart), total(&self.checksums, &self.checksums_apart))
    }

    /// Returns the bytes of the keys and values of the records that are summed; `u64::MAX` where that is not known.
    pub fn bytes(&self) -> u64 {
        if self.is_known.load(Ordering::Relaxed) { self.bytes.load(Ordering::Relaxed) } else { u64::MAX }
    }

    /// Raises the number of commits, which is stored with the next one.
    pub fn raise(&self, commits: u64) {
        self.commits.fetch_max(commits, Ordering::Relaxed);
    }

    /// Returns the part of the tally for the tree `name`; `None` where it is not summed.
    pub fn of_tree(self: &Arc<Self>, name: &str) -> Option<TreeTally> {
        let seed = crc32fast::hash(name.as_bytes());
        (!NOT_SUMMED.contains(&name)).then(|| TreeTally { tally: self.clone(), seed, is_stored: is_stored(name) })
    }

    /// Adds up the records of `trees`, before anything is written. Returns how many of them are missing or out of date, at least: 0 where
    /// they are those of the last commit, or where that can't be told, after a crash in the middle of one or where something can't be
    /// read. Reads all of them.
    pub fn verify<'a>(&self, trees: impl Iterator<Item = (&'a str, &'a Tree)>) -> u64 {
        let mut sum = Sum::default();
        for (name, tree) in trees.filter(|(name, _)| is_stored(name)) {
            let seed = crc32fast::hash(name.as_bytes());
            for entry in tree {
                let Ok((key, value)) = entry else { return 0 };
                sum.add(seed, &key, &value);
            }
        }
        self.records.store(sum.records, Ordering::Relaxed);
        self.checksums.store(sum.checksums, Ordering::Relaxed);
        self.bytes.store(sum.bytes, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        match self.stored {
            Some(stored) if (stored.records, stored.checksums) != (sum.records, sum.checksums) => {
                stored.records.saturating_sub(sum.records).max(1)
            }
            _ => 0,
        }
    }

    /// Stores the end of a commit, with the sum where that is known.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn end(&self) -> Result<()> {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        let (records, checksums) = (self.records.load(Ordering::Relaxed), self.checksums.load(Ordering::Relaxed));
        let sum = Sum { records, checksums, bytes: self.bytes() };
        let sum = self.is_known.load(Ordering::Relaxed).then_some(sum);
        self.tree.insert(NAME, encode(commits, sum))?;
        self.has_begun.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Stores that a commit has begun, unless the log says so.
    fn begin(&self) -> Result<()> {
        if !self.has_begun.swap(true, Ordering::Relaxed) {
            self.tree.insert(NAME, encode(self.commits(), None))?;
        }
        Ok(())
    }
}

/// The tally as seen from one tree.
#[derive(Debug, Clone)]
pub struct TreeTally {
    tally: Arc<Tally>,
    seed: u32,
    /// Its records are in the sum that is stored.
    is_stored: bool,
}

impl TreeTally {
    /// Must be called before a write.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn begin(&self) -> Result<()> {
        if self.is_stored { self.tally.begin() } else { Ok(()) }
    }

    /// Notes that the value of a key was `old` and is `new`, `None` being no value.
    pub fn replaced(&self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let mut change = Change::default();
        change.replaced(self, key, old, new);
        change.apply(&self.tally);
    }
}

/// The changes of several writes, of trees of one tally.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    stored: Sum,
    apart: Sum,
}

impl Change {
    /// Adds: the value of a key in the tree of `of` was `old` and is `new`, `None` being no value.
    pub fn replaced(&mut self, of: &TreeTally, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let sum = if of.is_stored { &mut self.stored } else { &mut self.apart };
        if let Some(old) = old {
            sum.subtract(of.seed, key, old);
        }
        if let Some(new) = new {
            sum.add(of.seed, key, new);
        }
    }

    /// Adds the changes to the tally of the tree of `of`.
    pub fn add_to(self, of: &TreeTally) {
        self.apply(&of.tally);
    }

    fn apply(self, tally: &Tally) {
        let Self { stored, apart } = self;
        tally.records.fetch_add(stored.records, Ordering::Relaxed);
        tally.checksums.fetch_add(stored.checksums, Ordering::Relaxed);
        tally.bytes.fetch_add(stored.bytes, Ordering::Relaxed);
        tally.records_apart.fetch_add(apart.records, Ordering::Relaxed);
        tally.checksums_apart.fetch_add(apart.checksums, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{DeviceId, Recipient, UserId};
    use crate::store::Watch;
    use crate::store::log::Log;
    use crate::store::records::Place;
    use crate::store::table::{Key, WriteSet};
    use crate::store::tests::fresh;
    use crate::store::trees::Trees;
    use crate::store::{Store, check};
    use std::path::PathBuf;

    /// Writes of every sort: new, replaced, removed, absent, of one tree and of several.
    fn write(trees: &Trees) -> Result<()> {
        for n in 1..20 {
            trees.places.insert(&Recipient::User(UserId(n)), &Place::default()).unwrap();
            trees.primaries.insert(&UserId(n % 7), &DeviceId(n)).unwrap();
        }
        trees.places.remove(&Recipient::User(UserId(3))).unwrap();
        trees.places.remove(&Recipient::User(UserId(99))).unwrap();
        trees.meta.next(crate::store::MetaKey::NextUser).unwrap();
        trees.meta.next(crate::store::MetaKey::NextUser).unwrap();
        let mut writes = WriteSet::default();
        writes.put(&trees.user_devices, &(UserId(1), DeviceId(1)), &()).unwrap();
        writes.put(&trees.primaries, &UserId(1), &DeviceId(44)).unwrap();
        writes.put(&trees.primaries, &UserId(1), &DeviceId(45)).unwrap();
        writes.remove(&trees.primaries, &UserId(2));
        writes.remove(&trees.primaries, &UserId(222));
        writes.put(&trees.pieces, &(crate::core::ids::MessageId(9), 0), &sled::IVec::from(vec![1; 99])).unwrap();
        writes.apply()
    }

    async fn written() -> (tempfile::TempDir, PathBuf) {
        let (dir, store) = fresh();
        store.writer().run(write).await.unwrap();
        store.close().unwrap();
        let path = dir.path().join("store");
        (dir, path)
    }

    /// Changes the store behind the tally's back.
    fn alter(path: &std::path::Path, change: impl FnOnce(&Trees)) {
        let db = crate::store::engine::open(path, 1 << 20).unwrap();
        change(&Trees::open(&db, 0).unwrap());
        db.flush().unwrap();
    }

    #[tokio::test]
    async fn every_write_is_summed() {
        let (_dir, path) = written().await;
        for _ in 0..3 {
            alter(&path, |trees| assert!(trees.tally.stored.is_some_and(|sum| sum.records > 20)));
            let store = Store::open(&path).unwrap();
            assert_eq!(store.loss(), None);
            store.writer().run(write).await.unwrap();
            store.close().unwrap();
        }
        assert_eq!(check(&path, Watch::NONE).unwrap().findings.iter().filter(|finding| finding.tree == "log").count(), 0);
    }

    #[tokio::test]
    async fn record_that_is_missing_older_or_too_many_is_a_loss() {
        fn place() -> [u8; 9] {
            Recipient::User(UserId(5)).encode()
        }
        let older = postcard_of(&Place { trimmed: crate::core::ids::MessageId(8), ..Place::default() });
        type Alteration = Box<dyn Fn(&Trees)>;
        let changes: [(u64, Alteration); 4] = [
            (1, Box::new(|trees| drop(trees.places.tree().remove(place()).unwrap()))),
            (1, Box::new(move |trees| drop(trees.places.tree().insert(place(), &*older).unwrap()))),
            (1, Box::new(|trees| drop(trees.primaries.tree().insert(b"12345678", b"12345678").unwrap()))),
            (18, Box::new(|trees| trees.places.tree().clear().unwrap())),
        ];
        for (altered, change) in changes {
            let (_dir, path) = written().await;
            alter(&path, change);
            let store = Store::open(&path).unwrap();
            let loss = store.loss().unwrap();
            assert_eq!((loss.altered, loss.commits), (altered, 0));
            assert!(Log::new(store.trees()).reserved().unwrap() > loss.newest);
            let epoch = store.epoch().to_owned();
            store.close().unwrap();
            drop(store);
            // Once, not at every start.
            let store = Store::open(&path).unwrap();
            assert_eq!((store.loss(), store.epoch()), (Some(loss), &*epoch));
        }
    }

    fn postcard_of(place: &Place) -> Vec<u8> {
        crate::store::table::Value::encode(place).unwrap().into_owned()
    }

    #[tokio::test]
    async fn crash_in_the_middle_of_a_commit_is_no_loss() {
        let (_dir, path) = written().await;
        // A write without the end of its commit, and one with it: what sled's log can hold after a crash.
        alter(&path, |trees| trees.primaries.insert(&UserId(77), &DeviceId(1)).unwrap());
        let store = Store::open(&path).unwrap();
        assert_eq!(store.loss(), None);
        store.close().unwrap();
        drop(store);
        alter(&path, |trees| assert!(trees.tally.stored.is_some(), "summed again"));
    }
}
