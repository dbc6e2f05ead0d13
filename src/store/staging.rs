//! A store that is written beside the one that it will replace: the common part of restore, compact and repair.
//!
//! # Invariants
//! - A staged store is complete once its marker file is there: it is written last, after everything is on disk.
//! - There is always a whole store, the old or the new one: [`recover`] finds out which, whatever moment a crash came at.
//! - [`swap`], [`recover`] and opening the store require the [`lock`]: no process opens a directory that is about to be renamed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sled::Tree;

use super::engine::{self, LOCK_RETRY_INTERVAL, LOCK_TIMEOUT};
use super::trees::Trees;
use super::{Result, StoreError};

/// The lock of the directory that holds the store: while it lives, no other process opens the store or replaces it.
pub struct DirLock(#[expect(dead_code, reason = "the lock goes with it")] File);

/// Takes the [`DirLock`] for the store at `path`, whose directory exists; waits up to [`LOCK_TIMEOUT`] for its holder. Blocks.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Disk`].
pub fn lock(path: &Path) -> Result<DirLock> {
    let directory = File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(DirLock(directory)),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY_INTERVAL),
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Locked(path.into())),
            Err(error) => return Err(StoreError::Disk(error.into())),
        }
    }
}

/// The name of the list of records that a repair has left behind, in quarantine.
pub const LEFT_BEHIND: &str = "left-behind.jsonl";

/// The marker file of a complete store, beside sled's files.
const MARKER: &str = "epoch";
/// sled's cache while a staged store is written, in bytes; two stores are open then.
pub const CACHE_BYTES: u64 = 4 << 20;
/// Bytes written between two flushes: bounds the data that waits for the disk.
const FLUSH_INTERVAL_BYTES: usize = 4 << 20;

/// A store that is being written.
pub struct StagedStore {
    db: sled::Db,
    /// Its trees.
    pub trees: Trees,
    path: PathBuf,
    unflushed: usize,
}

/// Returns `path` with `what` behind its name.
fn with_suffix(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(what);
    path.with_file_name(name)
}

/// Returns the path of the staged store for the store at `path`.
pub fn staged_path(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// Returns the path that the store at `path` is moved to when the staged one takes its place.
fn old_path(path: &Path) -> PathBuf {
    with_suffix(path, ".old")
}

/// Returns the path of the copy of a damaged store that is opened in its place.
pub fn copy_path(path: &Path) -> PathBuf {
    with_suffix(path, ".copy")
}

impl StagedStore {
    /// Creates a staged store for the store at `path`, in place of an unfinished earlier one. Blocks.
    ///
    /// # Errors
    /// If the disk or the engine fails.
    pub fn create(path: &Path) -> Result<Self> {
        let staged = staged_path(path);
        remove(&staged)?;
        let db = engine::open(&staged, CACHE_BYTES)?;
        Ok(Self { trees: Trees::open(&db, 0)?, db, path: path.into(), unflushed: 0 })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
        tree.insert(key, value)?;
        self.unflushed += key.len() + value.len();
        if self.unflushed >= FLUSH_INTERVAL_BYTES {
            self.db.flush()?;
            self.unflushed = 0;
        }
        Ok(())
    }

    /// Opens the tree of that name.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn tree(&self, name: &str) -> Result<Tree> {
        Ok(self.db.open_tree(name)?)
    }

    /// The database, for trees of older layouts.
    pub fn db(&self) -> &sled::Db {
        &self.db
    }

    /// Makes the store durable and complete.
    ///
    /// # Errors
    /// If the disk or the engine fails, or it has no epoch.
    pub fn complete(self) -> Result<()> {
        let staged = staged_path(&self.path);
        let epoch = self.trees.epoch()?.ok_or(StoreError::Damaged { tree: "meta" })?;
        self.db.flush()?;
        File::open(staged.join("db"))?.sync_data()?;
        drop(self.trees);
        drop(self.db); // sled releases its lock with the last handle
        File::open(staged.join("db"))?.sync_all()?;
        mark_complete(&staged, &epoch)?;
        sync(staged.parent())
    }
}

/// Writes the marker that makes a directory a complete store.
///
/// # Errors
/// If the disk fails.
pub fn mark_complete(store: &Path, epoch: &str) -> Result<()> {
    let marker = store.join(MARKER);
    fs::write(&marker, epoch)?;
    File::open(&marker)?.sync_all()?;
    sync(Some(store))
}

/// Returns whether the directory `store` has the marker of a complete store.
pub fn is_complete(store: &Path) -> bool {
    store.join(MARKER).exists()
}

/// Moves the complete staged store to the place of the store at `path`, which is closed by now and is moved to `keep`, or deleted
/// where that is `None`.
///
/// # Errors
/// If the disk fails.
pub fn swap(path: &Path, keep: Option<&Path>) -> Result<()> {
    let old = keep.map_or_else(|| old_path(path), Path::to_owned);
    if keep.is_none() {
        remove(&old)?;
    }
    if path.exists() {
        fs::rename(path, &old)?;
    }
    fs::rename(staged_path(path), path)?;
    sync(path.parent())?;
    if keep.is_none() { remove(&old) } else { sync(old.parent()) }
}

/// Returns whether there is no store at `path`, but one that was to take its place.
pub fn is_unfinished(path: &Path) -> bool {
    !path.exists() && staged_path(path).exists()
}

/// Before the store at `path` is opened: finishes, or undoes, a [`swap`] that a crash cut off.
///
/// # Errors
/// [`StoreError::RestoreCutOff`]; or if the disk fails.
pub fn recover(path: &Path) -> Result<()> {
    let (staged, old) = (staged_path(path), old_path(path));
    remove(&copy_path(path))?; // of a repair that was cut off
    remove_unfinished_quarantine(path)?;
    if !staged.exists() && !old.exists() {
        return Ok(());
    }
    if !path.exists() {
        if is_complete(&staged) {
            fs::rename(&staged, path)?;
        } else if old.exists() {
            fs::rename(&old, path)?;
        } else {
            // Only a restore writes a store where there is none.
            return Err(StoreError::RestoreCutOff(staged));
        }
        sync(path.parent())?;
    }
    remove(&staged)?;
    if path.exists() { remove(&old) } else { Ok(()) }
}

/// Removes what repairs that were cut off have put into quarantine: a list without the store that it belongs to.
fn remove_unfinished_quarantine(path: &Path) -> Result<()> {
    for place in fs::read_dir(path.with_file_name(engine::QUARANTINE)).into_iter().flatten().flatten() {
        let names = fs::read_dir(place.path()).into_iter().flatten().flatten().map(|entry| entry.file_name());
        if names.collect::<Vec<_>>() == [LEFT_BEHIND] {
            remove(&place.path())?;
        }
    }
    Ok(())
}

/// Removes a directory, if it is there.
///
/// # Errors
/// If the disk fails.
pub fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory durable.
fn sync(directory: Option<&Path>) -> Result<()> {
    match directory {
        Some(directory) if !directory.as_os_str().is_empty() => Ok(File::open(directory)?.sync_all()?),
        _ => Ok(()),
    }
}

/// Returns the bytes that the files in a directory, and below it, take on the disk; files removed meanwhile do not count. Blocks.
///
/// # Errors
/// An error of the system.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path())?,
            Ok(meta) => meta.blocks() * 512, // the blocks taken, not the length: sparse files take less than their length
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MetaKey, Store};

    #[test]
    fn crash_at_any_moment_of_a_swap_leaves_a_whole_store() {
        for moment in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            let epoch = {
                let store = Store::open(&path).unwrap();
                store.close().unwrap();
                store.epoch().to_owned()
            };
            let staged = StagedStore::create(&path).unwrap();
            staged.trees.meta.set_text(MetaKey::Epoch, &epoch).unwrap();
            staged.trees.set_schema(crate::store::SCHEMA).unwrap();
            match moment {
                0 => drop(staged), // in the middle of writing
                1 => staged.complete().unwrap(),
                2 => {
                    staged.complete().unwrap();
                    fs::rename(&path, old_path(&path)).unwrap();
                }
                _ => {
                    drop(staged);
                    fs::rename(&path, old_path(&path)).unwrap();
                }
            }
            let store = Store::open(&path).unwrap();
            assert_eq!(store.epoch(), epoch, "moment {moment}");
            assert!(!staged_path(&path).exists() && !old_path(&path).exists(), "moment {moment}");
        }
    }

    #[test]
    fn unfinished_restore_is_no_empty_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        drop(StagedStore::create(&path).unwrap()); // as far as it came
        for _ in 0..2 {
            assert!(matches!(Store::open(&path), Err(StoreError::RestoreCutOff(staged)) if staged == staged_path(&path)));
            assert!(!path.exists() && staged_path(&path).exists());
        }
        fs::remove_dir_all(staged_path(&path)).unwrap();
        assert!(Store::open(&path).is_ok());
    }

    #[test]
    fn disk_bytes_of_nested_directories_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["x", "a/y"] {
            fs::write(dir.path().join(name), vec![1; 10_000]).unwrap();
        }
        let bytes = disk_bytes(dir.path()).unwrap();
        assert!((20_000..40_000).contains(&bytes), "{bytes}");
        assert!(disk_bytes(&dir.path().join("none")).is_err());
    }
}
