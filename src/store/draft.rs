//! A store that is written anew beside the one it will replace: what restoring, compacting and repairing have in common.
//!
//! # Invariants
//! - A draft is complete once the note that every store has beside it is there: it is written last, after everything is on disk.
//! - There is always a whole store to go back to or on to: [`settle`] finds out which, whatever moment a crash chose.
//! - Who swaps or settles has the [`turn`], and so has who opens the store: nobody opens what is about to be renamed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sled::Tree;

use super::catalogue::Trees;
use super::{NOTE, PATIENCE, Result, StoreError, engine};

/// While it lives, nobody else opens the store at the same path or puts another one there.
pub(super) struct Turn(#[expect(dead_code, reason = "the lock goes with it")] File);

/// Takes the [`Turn`] for the store at `path`, whose directory exists; waits a moment for who has it.
pub(super) fn turn(path: &Path) -> Result<Turn> {
    let directory = File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let patience = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Turn(directory)),
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => std::thread::sleep(PATIENCE / 50),
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Locked(path.into())),
            Err(error) => return Err(StoreError::Disk(error.into())),
        }
    }
}

/// sled's cache while a draft is written, in bytes; two stores are open then.
pub(super) const CACHE_BYTES: u64 = 4 << 20;
/// So many bytes are written between two flushes, so that what waits for the disk stays small.
const FLUSH_BYTES: usize = 4 << 20;

/// The store under construction.
pub(super) struct Draft {
    db: sled::Db,
    pub(super) trees: Trees,
    path: PathBuf,
    unflushed: usize,
}

/// `path` with something behind its name.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(what);
    path.with_file_name(name)
}

/// Where the draft of the store at `path` is.
pub(super) fn draft_path(path: &Path) -> PathBuf {
    beside(path, ".new")
}

/// Where the store at `path` is put when its draft takes its place.
fn old_path(path: &Path) -> PathBuf {
    beside(path, ".old")
}

impl Draft {
    /// Begins a draft of the store at `path`; what is left of an earlier one goes.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        let draft = draft_path(path);
        remove(&draft)?;
        let db = engine(&draft, CACHE_BYTES)?;
        Ok(Self { trees: Trees::open(&db)?, db, path: path.into(), unflushed: 0 })
    }

    /// Writes a record.
    pub(super) fn put(&mut self, tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
        tree.insert(key, value)?;
        self.unflushed += key.len() + value.len();
        if self.unflushed >= FLUSH_BYTES {
            self.db.flush()?;
            self.unflushed = 0;
        }
        Ok(())
    }

    /// The tree of that name.
    pub(super) fn tree(&self, name: &str) -> Result<Tree> {
        Ok(self.db.open_tree(name)?)
    }

    /// Makes the draft durable and complete: a store with this `epoch`.
    pub(super) fn complete(self) -> Result<()> {
        let draft = draft_path(&self.path);
        let epoch = self.trees.epoch()?.ok_or(StoreError::Damaged { tree: "meta" })?;
        self.db.flush()?;
        File::open(draft.join("db"))?.sync_data()?;
        drop(self.trees);
        drop(self.db); // sled lets go of its lock when the last handle is gone
        File::open(draft.join("db"))?.sync_all()?;
        write_note(&draft, &epoch)?;
        sync(draft.parent())
    }
}

/// Writes the note that makes a store's directory one.
pub(super) fn write_note(store: &Path, epoch: &str) -> Result<()> {
    let note = store.join(NOTE);
    fs::write(&note, epoch)?;
    File::open(&note)?.sync_all()?;
    sync(Some(store))
}

/// Puts the complete draft in the place of the store at `path`, which is closed by now and goes to `keep`, or, where that is
/// not asked for, away.
pub(super) fn swap(path: &Path, keep: Option<&Path>) -> Result<()> {
    let old = keep.map_or_else(|| old_path(path), Path::to_owned);
    if keep.is_none() {
        remove(&old)?;
    }
    if path.exists() {
        fs::rename(path, &old)?;
    }
    fs::rename(draft_path(path), path)?;
    sync(path.parent())?;
    if keep.is_none() { remove(&old) } else { sync(old.parent()) }
}

/// Before the store at `path` is opened: finishes, or takes back, what a crash may have left of a [`swap`].
pub(super) fn settle(path: &Path) -> Result<()> {
    let (draft, old) = (draft_path(path), old_path(path));
    if !draft.exists() && !old.exists() {
        return Ok(());
    }
    if !path.exists() {
        if draft.join(NOTE).exists() {
            fs::rename(&draft, path)?;
        } else if old.exists() {
            fs::rename(&old, path)?;
        }
        sync(path.parent())?;
    }
    remove(&draft)?;
    if path.exists() { remove(&old) } else { Ok(()) }
}

/// Removes a directory that may be there.
pub(super) fn remove(directory: &Path) -> Result<()> {
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

/// Bytes that the files in a directory, and below it, take on the disk; what goes away meanwhile does not count. Blocks.
///
/// # Errors
/// What the system says.
pub(super) fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path())?,
            Ok(meta) => meta.blocks() * 512, // what is taken, not what is said: sparse files are smaller than they look
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn whatever_a_crash_leaves_of_a_swap_ends_with_a_whole_store() {
        for moment in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            let epoch = {
                let store = Store::open(&path).unwrap();
                store.close().unwrap();
                store.epoch().to_owned()
            };
            let draft = Draft::begin(&path).unwrap();
            draft.trees.meta.insert("epoch", epoch.as_bytes()).unwrap();
            draft.trees.set_schema(crate::store::SCHEMA).unwrap();
            match moment {
                0 => drop(draft), // in the middle of writing
                1 => draft.complete().unwrap(),
                2 => {
                    draft.complete().unwrap();
                    fs::rename(&path, old_path(&path)).unwrap();
                }
                _ => {
                    drop(draft);
                    fs::rename(&path, old_path(&path)).unwrap();
                }
            }
            let store = Store::open(&path).unwrap();
            assert_eq!(store.epoch(), epoch, "moment {moment}");
            assert!(!draft_path(&path).exists() && !old_path(&path).exists(), "moment {moment}");
        }
    }

    #[test]
    fn directories_are_added_up() {
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
