//! Opening sled's database.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{Result, StoreError};

/// Segment size of sled's log. With 1 MiB no value is large enough for sled's `blobs/`, which are never synced. Fixed when the
/// store is created.
const SEGMENT_BYTES: usize = 1 << 20;
/// Longest wait for another process that may be about to release its lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to get a lock.
pub const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Opens sled's database at `path` with a page cache of `cache` bytes, waiting up to [`LOCK_TIMEOUT`] for another process to
/// release it. Blocks.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::NoRoom`], [`StoreError::Unreadable`].
pub fn open(path: &Path, cache: u64) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(cache)
        // The writer thread alone flushes, then syncs: nothing may be written outside it.
        .flush_every_ms(None);
    let deadline = Instant::now() + LOCK_TIMEOUT;
    remove_unfinished_summaries(path);
    loop {
        // A damaged log can make sled panic while it opens; that is an answer, not a reason to die with a trace.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(StoreError::Locked(path.into()));
                }
                std::thread::sleep(LOCK_RETRY_INTERVAL);
            }
            Ok(Err(sled::Error::Io(error))) if error.kind() == std::io::ErrorKind::StorageFull => return Err(StoreError::NoRoom),
            Ok(Err(sled::Error::Corruption { .. })) => return Err(StoreError::Unreadable("its log is damaged".into())),
            Ok(Err(error)) => return Err(StoreError::Unreadable(error.to_string())),
            Err(_) => return Err(StoreError::Unreadable("its log is damaged".into())),
        }
    }
}

/// Frees what sled's cache has dropped for this thread. Otherwise it stays until the thread has dropped some sixty pages, of up to
/// 200 KB each.
pub fn free_dropped_pages() {
    crossbeam_epoch::pin().flush();
}

/// Removes the summaries of its log that sled was writing when it was cut off, by a full disk or a power cut: it can't be opened
/// beside one. Does nothing while another process has the store open.
fn remove_unfinished_summaries(path: &Path) {
    let Ok(file) = File::open(path.join("db")) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let unfinished = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.starts_with("snap.") && n.ends_with(".generating"));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| unfinished(&entry.file_name())) {
        match std::fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "removed an unfinished summary of an earlier run"),
            Err(error) => tracing::warn!(%error, file = %entry.path().display(), "can't remove an unfinished summary"),
        }
    }
}
