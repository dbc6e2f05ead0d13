//! The store: everything that outlives the process. The only module that names sled.
//!
//! Reads are plain function calls: the accounts of an edge box fit sled's cache, where a look-up takes a few microseconds.
//! Writes go through `Store::write` to one thread (`writer`), which runs them one after another, makes them durable
//! together and only then answers.
//!
//! # Invariants
//! - A write whose future has returned `Ok` is on disk: flushed by sled *and* synced by `fdatasync` (sled's own flush ends in
//!   `sync_file_range`, which survives no power cut).
//! - Writes never run concurrently, so "look whether it is taken, then insert" is safe inside one.
//! - What belongs together changes in one sled transaction, so a crash leaves both or neither.
//! - After an I/O error nothing is acknowledged any more: every later write fails.

mod backup;
mod capture;
mod catalogue;
mod check;
mod compact;
mod companion;
mod cursors;
mod devices;
mod draft;
mod dump;
mod last_seen;
mod messages;
mod migrate;
mod tokens;
mod users;
mod writer;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::Commits;
use catalogue::Trees;
use rustix::fs::{FlockOperation, flock};
use writer::Writer;
pub use writer::{Pulse, Severity};

pub use backup::{restore, verify};
pub use check::{Findings, QUARANTINE, check, repair};
pub use compact::compact;
pub use companion::{Catalog, CatalogEntry, Observation};
pub use cursors::Reader;
pub use devices::{Device, DeviceChange, NewDevice};
pub use dump::BackupError;
#[doc(hidden)]
pub use messages::fuzz_key;
pub use messages::{Earlier, Head, Log, Stored};
pub use tokens::{Authority, NewToken, Token, TokenHash, TokenKind};
pub use users::{NewUser, Role, User, UserChange, fold_name};

/// Segment size of sled's log. With 1 MiB no value of ours is large enough for sled's `blobs/`, which are never synced.
/// Fixed when the store is created.
const SEGMENT_BYTES: usize = 1 << 20;
/// sled's page cache unless another size is asked for; it takes about 2.8 times this in memory when full.
const CACHE_BYTES: u64 = 16 << 20;
/// How long to wait for the one before us, which may still be letting go of its lock.
const PATIENCE: Duration = Duration::from_secs(1);
/// Beside sled's files: written once the store is on disk for the first time.
const NOTE: &str = "epoch";
/// The layout of trees and records; a newer store is refused, an older one brought up to date.
const SCHEMA: u64 = 2;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("another qy-lty is using {0}")]
    Locked(PathBuf),
    /// It was made by a later version.
    #[error("the data was written by a newer version (layout {found}, this one reads up to {known})")]
    Newer {
        /// The layout found.
        found: u64,
        /// The layout this version writes.
        known: u64,
    },
    /// It was made by an earlier version, and this needs it to be of today's.
    #[error("the data was written by an older version; start the server once, which brings it up to date")]
    Older,
    /// The disk is full: the store writes while it opens.
    #[error("the disk is full: make room, and start again")]
    NoRoom,
    /// It can't be read at all.
    #[error("the data can't be opened: {0}; `qy-lty check --repair` keeps what can be read, `qy-lty restore` a backup")]
    Unreadable(String),
    /// A record that can't be decoded.
    #[error("damaged record in {tree}")]
    Damaged {
        /// The tree that holds it.
        tree: &'static str,
    },
    /// The engine failed.
    #[error("storage error: {0}")]
    Engine(#[from] sled::Error),
    /// The disk failed.
    #[error("disk error: {0}")]
    Disk(#[from] std::io::Error),
    /// An earlier write failed, or the store is closing: nothing is accepted any more.
    #[error("the store accepts no writes")]
    Stopped,
    /// What was to be changed does not exist.
    #[error("no such {0}")]
    Missing(&'static str),
    /// The right by which it was asked for has been taken away meanwhile.
    #[error("the right to this has been taken away")]
    Revoked,
    /// A name or serial that somebody has already.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// One more than the configured number.
    #[error("too many {0}")]
    Full(&'static str),
    /// The change would leave nobody who can administer the server.
    #[error("the last administrator can't be removed, disabled or demoted")]
    LastAdmin,
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A handle on the open store; clones share it.
#[derive(Clone)]
pub struct Store {
    trees: Arc<Trees>,
    writer: Arc<Writer>,
    commits: Arc<Commits>,
    epoch: Arc<str>,
    path: Arc<Path>,
    /// Held by who makes a backup.
    backups: Arc<tokio::sync::Mutex<()>>,
}

/// Removes the summaries of its log that sled was writing when it was cut off, by a full disk or a power cut: it can't be opened
/// beside one. Does nothing while another process has the store open.
fn forget_unfinished(path: &Path) {
    let Ok(file) = File::open(path.join("db")) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let unfinished = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.starts_with("snap.") && n.ends_with(".generating"));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| unfinished(&entry.file_name())) {
        match std::fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "left by an earlier run, unfinished: removed"),
            Err(error) => tracing::warn!(%error, file = %entry.path().display(), "can't be removed"),
        }
    }
}

/// Opens sled's database at `path`, waiting a moment for another process to let go of it.
fn engine(path: &Path, cache: u64) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(cache)
        // Nothing may be written behind the writer's back: it alone flushes, then syncs.
        .flush_every_ms(None);
    let patience = Instant::now() + PATIENCE;
    forget_unfinished(path);
    loop {
        // A damaged log can make sled panic while opening; that is an answer, not a reason to die with a trace.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= patience {
                    return Err(StoreError::Locked(path.into()));
                }
                std::thread::sleep(PATIENCE / 50);
            }
            Ok(Err(sled::Error::Io(error))) if error.kind() == std::io::ErrorKind::StorageFull => return Err(StoreError::NoRoom),
            Ok(Err(sled::Error::Corruption { .. })) => return Err(StoreError::Unreadable("its log is damaged".into())),
            Ok(Err(error)) => return Err(StoreError::Unreadable(error.to_string())),
            Err(_) => return Err(StoreError::Unreadable("its log is damaged".into())),
        }
    }
}

impl Store {
    /// Opens the store in directory `path`, creating it where there is none, with the usual cache. Blocks; call it before
    /// serving.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Unreadable`] or what the disk says.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, CACHE_BYTES)
    }

    /// The same with a page cache of `cache` bytes, which takes about 2.8 times as many when full.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, cache: u64) -> Result<Self> {
        let turn = draft::turn(path)?;
        draft::settle(path)?;
        let db = engine(path, cache)?;
        drop(turn); // sled's own lock holds from here on
        let trees = Arc::new(Trees::open(&db)?);
        // sled takes a log that it can't read at all for an empty one, so the store's existence is noted beside it.
        let (noted, known) = (path.join(NOTE).exists(), trees.epoch()?);
        if known.is_none() && noted {
            return Err(StoreError::Unreadable("its log is damaged from the start".into()));
        }
        match trees.schema()? {
            Some(found) if found > SCHEMA => return Err(StoreError::Newer { found, known: SCHEMA }),
            Some(SCHEMA) => {}
            Some(found) => migrate::run(&trees, found, path)?,
            None => trees.set_schema(SCHEMA)?,
        }
        let epoch = known.map_or_else(|| trees.new_epoch(), Ok)?;
        let commits = Arc::new(Commits::default());
        let writer = Writer::start(db, trees.clone(), path, commits.clone())?;
        if !noted {
            draft::write_note(path, &epoch)?;
        }
        Ok(Self { trees, writer: Arc::new(writer), commits, epoch: epoch.into(), path: path.into(), backups: Arc::default() })
    }

    /// Changes when the data directory is wiped or restored: clients that remember message ids then start over.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// What the writer thread counts.
    pub fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// Runs `change` on the writer thread and waits until its effect is on disk.
    async fn write<T: Send + 'static>(&self, change: impl FnOnce(&Trees) -> Result<T> + Send + 'static) -> Result<T> {
        self.writer.run(change).await
    }

    /// How the writer does: when it last made something durable, and whether it is at it.
    pub fn pulse(&self) -> Pulse {
        self.writer.pulse()
    }

    /// Has the writer make a tiny change durable, or, without `change`, only what has been written already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prove(&self, change: bool) -> Result<()> {
        self.write(move |trees| if change { trees.next("proofs").map(drop) } else { Ok(()) }).await
    }

    /// Ready once the disk has failed: nothing is written any more, and the process should end.
    pub async fn failed(&self) {
        self.writer.failed().await;
    }

    /// Bytes that the store takes on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn disk_bytes(&self) -> std::io::Result<u64> {
        draft::disk_bytes(&self.path)
    }

    /// Bytes of keys and values in it. Reads all of them: blocks, for about a second a million.
    ///
    /// # Errors
    /// When the store fails.
    pub fn live_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for tree in self.trees.all() {
            for entry in tree {
                let (key, value) = entry?;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(bytes)
    }

    /// Lets what is under way finish, flushes, syncs and stops the writer thread. Blocks for a moment.
    ///
    /// # Errors
    /// When the last flush fails.
    pub fn close(&self) -> Result<()> {
        self.writer.stop()
    }
}

/// One page of a list: items in id order, and whether there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// At most the asked number.
    pub items: Vec<T>,
    /// Whether the list goes on after the last item.
    pub more: bool,
}

impl<T> Page<T> {
    /// Takes up to `limit` items and one more look.
    fn take(items: impl Iterator<Item = Result<T>>, limit: usize) -> Result<Self> {
        let mut items: Vec<T> = items.take(limit.saturating_add(1)).collect::<Result<_>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Self { items, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A store in a fresh directory, which lives as long as the guard.
    pub(super) fn fresh() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, store)
    }

    #[test]
    fn a_second_opener_is_told_who_is_there() {
        let (dir, _store) = fresh();
        assert!(matches!(Store::open(&dir.path().join("store")), Err(StoreError::Locked(_))));
    }

    #[tokio::test]
    async fn a_closed_store_takes_no_writes_and_reopens_with_the_same_epoch() {
        let (dir, store) = fresh();
        let epoch = store.epoch().to_owned();
        store.close().unwrap();
        assert!(matches!(store.write(|_| Ok(())).await, Err(StoreError::Stopped)));
        drop(store);
        let again = Store::open(&dir.path().join("store")).unwrap();
        assert_eq!(again.epoch(), epoch);
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let (dir, store) = fresh();
        store.trees.meta.insert("schema", &(SCHEMA + 1).to_be_bytes()).unwrap();
        store.close().unwrap();
        drop(store);
        assert!(matches!(Store::open(&dir.path().join("store")), Err(StoreError::Newer { .. })));
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        for (file, bytes) in [("db", vec![0x5a; 3 << 20]), ("db", vec![])] {
            let (dir, store) = fresh();
            drop(store);
            fs::write(dir.path().join("store").join(file), bytes).unwrap();
            let again = Store::open(&dir.path().join("store")).err();
            assert!(matches!(again, Some(StoreError::Unreadable(_))), "{file}: {again:?}");
        }
    }

    #[tokio::test]
    async fn what_sled_has_left_unfinished_keeps_nobody_out() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        store.write(|trees| Ok(trees.receipts.insert("a", "b").map(drop)?)).await.unwrap();
        let unfinished = path.join("snap.0000000000009999.generating");
        fs::write(&unfinished, "").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Locked(_))));
        assert!(unfinished.exists(), "who has it open may be writing it");
        store.close().unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.trees.receipts.get("a").unwrap().unwrap(), "b");
        assert!(!unfinished.exists());
    }
}
