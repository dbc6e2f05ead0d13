//! Opening sled's database.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FlockOperation, fadvise, flock};

use super::quiet::quietly;
use super::segments::segments;
use super::{Result, StoreError, commit_note, damage};
use crate::core::disk::remedy;
use crate::core::time::Timestamp;

/// Segment size of sled's log. With 1 MiB no value is large enough for sled's `blobs/`, which are never synced. Fixed when the
/// store is created.
pub const SEGMENT_BYTES: usize = 1 << 20;
/// The directory of damaged stores after a repair, and of damaged files, in the data directory.
pub const QUARANTINE: &str = "quarantine";
/// The bytes behind the last summary for which a stop makes a new one.
const SUMMARIZED_BYTES: std::ops::RangeInclusive<u64> = 8 << 20..=256 << 20;
/// Longest wait for another process that may be about to release its lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to get a lock.
pub const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Opens sled's database at `path` with a page cache of `cache` bytes, waiting up to [`LOCK_TIMEOUT`] for another process to
/// release it. Where it can't be opened, its summaries are moved to [`QUARANTINE`] and it is opened without them: they repeat what
/// is in its log. Blocks.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::NoRoom`], [`StoreError::DamagedLog`], [`StoreError::Unreadable`].
pub fn open(path: &Path, cache: u64) -> Result<sled::Db> {
    remove_unfinished_summaries(path);
    let found = segments(&path.join("db"))?;
    if !found.is_empty() && found.iter().all(|segment| !segment.sound) {
        // sled would take it for an empty log, and write over it.
        return Err(StoreError::Unreadable("its log is damaged from the start".into()));
    }
    if commit_note::read(path).is_some_and(|noted| !noted.closed && noted.boot == commit_note::boot()) {
        sync_and_evict(path)?;
    }
    if damage::is_in_front_of_commits(path)? {
        return Err(StoreError::DamagedLog);
    }
    let first = open_once(path, cache);
    let Err(StoreError::Unreadable(why)) = first else { return first };
    let (place, moved) = set_summaries_aside(path)?;
    if moved.is_empty() {
        return Err(StoreError::Unreadable(why));
    }
    match open_once(path, cache) {
        Ok(db) => {
            tracing::warn!(quarantine = %place.display(), "the summary of the store was damaged; opened without it, nothing is lost");
            Ok(db)
        }
        Err(error) => {
            // Not the summary's fault: everything as it was found. What this attempt has written is no summary of anything.
            remove_summaries(path)?;
            for name in moved {
                fs::rename(place.join(&name), path.join(&name))?;
            }
            fs::remove_dir(&place)?;
            Err(error)
        }
    }
}

/// Opens the database as it is.
///
/// # Errors
/// As [`open`].
pub fn open_once(path: &Path, cache: u64) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(cache)
        // The writer thread alone flushes, then syncs: nothing may be written outside it.
        .flush_every_ms(None);
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        // A damaged log can make sled panic while it opens; that is an answer, not a reason to die with a trace.
        match quietly(|| catch_unwind(AssertUnwindSafe(|| config.open()))) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(StoreError::Locked(path.into()));
                }
                std::thread::sleep(LOCK_RETRY_INTERVAL);
            }
            Ok(Err(sled::Error::Io(error))) if error.kind() == ErrorKind::StorageFull => return Err(StoreError::NoRoom),
            // Nothing is damaged, and no repair would help.
            Ok(Err(sled::Error::Io(error))) if remedy(error.kind()).is_some() || error.kind() == ErrorKind::PermissionDenied => {
                return Err(StoreError::Disk(error));
            }
            Ok(Err(sled::Error::Corruption { .. })) => return Err(StoreError::Unreadable("its log is damaged".into())),
            Ok(Err(error)) => return Err(StoreError::Unreadable(error.to_string())),
            Err(_) => return Err(StoreError::Unreadable("its log is damaged".into())),
        }
    }
}

/// Has sled summarise the log of a store that has just been closed, where much is behind its last summary but not so much that the stop
/// would take long: the next start has less to read, and less that a flipped bit can make it leave out. Returns whether it did.
///
/// # Errors
/// As [`open`].
pub fn summarize(path: &Path) -> Result<bool> {
    let wanted = SUMMARIZED_BYTES.contains(&damage::bytes_behind_summary(path)?);
    if wanted {
        drop(open_once(path, super::staging::CACHE_BYTES)?); // sled writes a summary when it opens a log, and only then
    }
    Ok(wanted)
}

/// Syncs the files of the store and evicts them from the system's page cache, so that what is read is what the disk holds. For the start
/// after a run that did not close the store: where writes of it have failed, the cache may hold what the disk does not.
///
/// # Errors
/// [`StoreError::Disk`] where the disk still fails.
pub fn sync_and_evict(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::options().read(true).write(true).open(entry.path())?;
            file.sync_data()?;
            // Advice: where the system does not take it, nothing is worse than before.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }
    Ok(())
}

/// Frees what sled's cache has dropped for this thread. Otherwise it stays until the thread has dropped some sixty pages, of up to
/// 200 KB each.
pub fn free_dropped_pages() {
    crossbeam_epoch::pin().flush();
}

/// Returns the names of the summaries of its log that sled has written: one, and those that it was writing when it was cut off.
pub fn summaries(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("snap.")).collect()
}

/// Removes the summaries of the log.
///
/// # Errors
/// If the disk fails.
pub fn remove_summaries(path: &Path) -> Result<()> {
    summaries(path).into_iter().try_for_each(|name| Ok(fs::remove_file(path.join(name))?))
}

/// Creates a directory for damaged files beside the store.
///
/// # Errors
/// If the disk fails.
pub fn quarantine(path: &Path) -> Result<PathBuf> {
    let place = path.with_file_name(QUARANTINE).join(Timestamp::now().unix_micros().to_string());
    DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
    Ok(place)
}

/// Moves the summaries of the log to [`QUARANTINE`]. Returns the directory that they are in, and their names.
fn set_summaries_aside(path: &Path) -> Result<(PathBuf, Vec<String>)> {
    let names = summaries(path);
    if names.is_empty() {
        return Ok((PathBuf::new(), names));
    }
    let place = quarantine(path)?;
    for name in &names {
        fs::rename(path.join(name), place.join(name))?;
    }
    Ok((place, names))
}

/// Removes the summaries of its log that sled was writing when it was cut off, by a full disk or a power cut: it can't be opened
/// beside one. Does nothing while another process has the store open.
fn remove_unfinished_summaries(path: &Path) {
    let Ok(file) = File::open(path.join("db")) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    for name in summaries(path).into_iter().filter(|name| name.ends_with(".generating")) {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Ok(()) => tracing::info!(file = %file.display(), "removed an unfinished summary of an earlier run"),
            Err(error) => tracing::warn!(%error, file = %file.display(), "can't remove an unfinished summary"),
        }
    }
}
