//! The store: all durable state. The only module that names sled.
//!
//! Reads are plain function calls: the accounts of an edge box fit sled's cache, where a look-up takes a few microseconds. Writes
//! are jobs of one thread ([`writer`]), which runs them one after another, makes them durable together and only then answers.
//! The jobs are operations of [`change`](crate::change), and the beginning and end of a backup. Once the store is open, nothing
//! else writes.
//!
//! # Invariants
//! - A write whose future has returned `Ok` is on disk: flushed by sled *and* synced by `fdatasync` (sled's own flush ends in
//!   `sync_file_range`, which survives no power cut).
//! - Writes never run concurrently, so "check that it is free, then insert" is safe inside one.
//! - Entries that belong together change in one sled transaction, so a crash leaves both or neither.
//! - After an I/O error nothing is acknowledged any more: every later write fails.

pub mod accounts;
pub mod audit;
mod blocks;
mod cache;
mod checked;
mod commit_note;
pub mod companion;
mod damage;
mod engine;
mod error;
mod forms;
pub mod log;
mod loss;
mod maintenance;
mod messages;
mod meta;
mod quiet;
mod records;
pub mod samples;
mod segments;
mod staging;
mod table;
mod tally;
mod trees;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::core::ids::MessageId;
use crate::telemetry::metrics::Commits;
use commit_note::CommitNote;
pub use writer::Writer;

pub use commit_note::boot as boot_number;
pub use engine::{QUARANTINE, summarize};
pub use error::{Result, Severity, StoreError};
#[doc(hidden)]
pub use log::fuzz_block;
pub use log::{Blocks, Log};
pub use loss::{Loss, acknowledge_loss};
#[cfg(feature = "cluster")]
pub use maintenance::restore_copy;
pub use maintenance::{
    BackupError, BackupPermit, Findings, Progress, Watch, check, compact, is_backup, repair, repair_for_start, restore, verify,
};
pub use meta::MetaKey;
use meta::SCHEMA;
#[cfg(test)]
pub use records::fold_name;
pub use records::{
    Answer, AuditRecord, AuditSubject, Authority, BlockBuilder, Catalog, CatalogEntry, Device, DeviceChange, DeviceInfo, Earlier,
    EndState, Grant, Guesses, Head, INLINE_BYTES, ImportState, Imported, ImportedDevice, ImportedToken, ImportedUser,
    MIN_MAX_BYTES, MINUTE_SECONDS, Minute, Missed, NewDevice, NewToken, NewUser, Observation, OnlineDevices, PageNumber, Pairing,
    Pass, Place, ReaderPlace, ReceiptPage, ReceiptRecord, Role, SLOT_SECONDS, Sample, Scope, Scopes, Slot, Stored, Token,
    TokenHash, TokenKind, User, UserChange,
};
pub use staging::is_unfinished;
pub use trees::Trees;
#[cfg(feature = "cluster")]
pub use writer::Answer as Reply;
pub use writer::Pulse;

/// The most reads of messages at the same time. Each decodes pages of up to 200 KB, and keeps a thread with what it has allocated.
const MAX_READS: usize = 2;

/// The bytes that sled's files take for each byte of the records in them, at most, once they have been written anew a few times.
const MAX_BYTES_FOR_A_BYTE: u64 = 2;
/// The bytes that the files of an empty store take, at most.
const MIN_STORE_BYTES: u64 = 16 << 20;

/// The sizes of the caches, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caches {
    /// sled's page cache; it takes about 2.8 times this in memory when full.
    pub pages: u64,
    /// Blocks of messages.
    pub blocks: u64,
}

impl Default for Caches {
    fn default() -> Self {
        Self { pages: 16 << 20, blocks: 16 << 20 }
    }
}

/// A handle on the open store; clones share it.
#[derive(Clone)]
pub struct Store {
    trees: Arc<Trees>,
    writer: Arc<Writer>,
    commits: Arc<Commits>,
    epoch: Arc<str>,
    /// Ranges of message ids that were never given: each the id before it, and its last one.
    skipped: Arc<[(u64, u64)]>,
    path: Arc<Path>,
    /// A loss that the operator has not acknowledged.
    loss: Arc<Mutex<Option<Loss>>>,
    /// Permits to read messages from the disk.
    reads: Arc<Semaphore>,
    /// Held while a backup is made.
    backups: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// Opens the store in directory `path`, creating it where there is none, with the usual cache. Blocks; call it before
    /// serving.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Unreadable`] or an error of the disk.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Caches::default())
    }

    /// Opens the store as [`open`](Self::open) does, with caches of these sizes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: &Path, caches: Caches) -> Result<Self> {
        let lock = staging::lock(path)?;
        staging::recover(path)?;
        let noted = commit_note::read(path);
        let mut db = engine::open(path, caches.pages)?;
        if maintenance::must_migrate(&db)? {
            maintenance::migrate(db, path)?;
            db = engine::open(path, caches.pages)?;
        }
        drop(lock); // sled's own lock holds from here on
        let trees = Arc::new(Trees::open(&db, caches.blocks)?);
        // sled takes a log that it can't read at all for an empty one, so the store's existence is noted beside it.
        let (complete, known) = (staging::is_complete(path), trees.epoch()?);
        if known.is_none() && complete {
            return Err(StoreError::Unreadable("its log is damaged from the start".into()));
        }
        match trees.schema()? {
            Some(found) if found > SCHEMA => return Err(StoreError::Newer { found, known: SCHEMA }),
            Some(_) => {}
            None => trees.set_schema(SCHEMA)?,
        }
        if known.is_none() {
            trees.new_epoch()?;
        }
        trees.newest_written.store(noted.map_or(0, |noted| noted.newest.0), Ordering::Relaxed);
        let loss = Loss::find(&trees, path)?;
        if let Some(loss) = loss {
            tracing::error!("the store has lost data: {}; `qy-lty check --acknowledge` notes that you know", loss.description());
        }
        let epoch = trees.epoch()?.unwrap_or_default();
        let skipped = trees.meta.skipped()?.into();
        let commits = Arc::new(Commits::default());
        let writer = Writer::start(db, trees.clone(), path, CommitNote::open(path)?, commits.clone())?;
        if !complete {
            staging::mark_complete(path, &epoch)?;
        }
        Ok(Self {
            trees,
            writer: Arc::new(writer),
            commits,
            epoch: epoch.into(),
            skipped,
            path: path.into(),
            loss: Arc::new(Mutex::new(loss)),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            backups: Arc::default(),
        })
    }

    /// Returns the epoch, which changes when the data directory is wiped or restored: clients that remember message ids then
    /// start over.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Returns the loss of committed data that was noticed and not acknowledged.
    pub fn loss(&self) -> Option<Loss> {
        *self.loss.lock()
    }

    /// Notes that the operator knows of the loss.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn acknowledge_loss(&self) -> Result<()> {
        let mut loss = self.loss.lock();
        acknowledge_loss(&self.path)?;
        *loss = None;
        Ok(())
    }

    /// Returns the log, for reading.
    pub fn log(&self) -> Log<'_> {
        Log::new(&self.trees)
    }

    /// Returns whether an id is from before the last restore: what was sent after it, up to the restore, is lost.
    pub fn before_restore(&self, id: MessageId) -> bool {
        self.skipped.last().is_some_and(|&(_, upto)| id.0 <= upto)
    }

    /// Runs `read`, which may wait for the disk, on a thread for such work; waits while others do that.
    ///
    /// # Errors
    /// That of `read`; [`StoreError::Stopped`] while the program ends.
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce(Log<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (trees, reads) = (self.trees.clone(), self.reads.clone());
        let permit = reads.acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let read = move || {
            let found = read(Log::new(&trees));
            engine::free_dropped_pages();
            drop(permit);
            found
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Stopped)?
    }

    /// The figures of the writer thread.
    pub fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// The writer thread, for operations and for the beginning and end of a backup.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The trees, for reading.
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// Applies another size of the cache of blocks, in bytes.
    pub fn resize_block_cache(&self, bytes: u64) {
        self.trees.cached_blocks.resize(bytes);
    }

    /// Returns the liveness of the writer thread: the time of its last commit, and since when it has been busy.
    pub fn pulse(&self) -> Pulse {
        self.writer.pulse()
    }

    /// Completes once the disk has failed: nothing is written any more, and the process should end.
    pub async fn failed(&self) {
        self.writer.failed().await;
    }

    /// Returns the bytes that the store takes on the disk.
    ///
    /// # Errors
    /// An error of the system.
    pub fn disk_bytes(&self) -> std::io::Result<u64> {
        staging::disk_bytes(&self.path)
    }

    /// Returns the bytes for which the store's files have room: what they take beyond their records, of which `payloads` bytes are of
    /// messages. An estimate on the safe side, as no one knows how full sled's segments are.
    pub fn room_inside(&self, payloads: u64) -> u64 {
        let live = self.trees.tally.bytes().saturating_add(payloads);
        let taken = self.disk_bytes().unwrap_or(0);
        taken.saturating_sub(live.saturating_mul(MAX_BYTES_FOR_A_BYTE)).saturating_sub(MIN_STORE_BYTES)
    }

    /// Returns the bytes of all keys and values; `u64::MAX` where some can't be read. Reads the long payloads and the audit trail, and blocks: the
    /// others were added up when the store was opened.
    ///
    /// # Errors
    /// If the store fails.
    pub fn live_bytes(&self) -> Result<u64> {
        let mut bytes = self.trees.tally.bytes();
        for entry in self.trees.pieces.tree().iter().chain(self.trees.audit.tree()) {
            let (key, value) = entry?;
            bytes = bytes.saturating_add((key.len() + value.len()) as u64);
        }
        Ok(bytes)
    }

    /// Waits for writes under way, flushes, syncs and stops the writer thread. Blocks for a moment.
    ///
    /// # Errors
    /// If the last flush fails.
    pub fn close(&self) -> Result<()> {
        self.writer.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Recipient;
    use std::fs;

    /// A store in a fresh directory, which lives as long as the guard.
    pub(crate) fn fresh() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, store)
    }

    #[test]
    fn second_opener_is_refused() {
        let (dir, _store) = fresh();
        assert!(matches!(Store::open(&dir.path().join("store")), Err(StoreError::Locked(_))));
    }

    #[tokio::test]
    async fn closed_store_accepts_no_writes_and_reopens_with_the_same_epoch() {
        let (dir, store) = fresh();
        let epoch = store.epoch().to_owned();
        store.close().unwrap();
        assert!(matches!(store.writer.run(|_| Ok::<_, StoreError>(())).await, Err(StoreError::Stopped)));
        drop(store);
        let again = Store::open(&dir.path().join("store")).unwrap();
        assert_eq!(again.epoch(), epoch);
    }

    #[test]
    fn newer_layout_is_refused() {
        let (dir, store) = fresh();
        store.trees.set_schema(SCHEMA + 1).unwrap();
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
    async fn unfinished_summaries_of_sled_do_not_keep_the_store_shut() {
        let (dir, store) = fresh();
        let path = dir.path().join("store");
        let place = Place { front: MessageId(7), ..Place::default() };
        let written = place.clone();
        let write = move |trees: &Trees| trees.places.insert(&Recipient::All, &written);
        store.writer.run(write).await.unwrap();
        let unfinished = path.join("snap.0000000000009999.generating");
        fs::write(&unfinished, "").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Locked(_))));
        assert!(unfinished.exists(), "the process that has the store open may be writing it");
        store.close().unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.trees.places.get(&Recipient::All).unwrap(), Some(place));
        assert!(!unfinished.exists());
    }
}
