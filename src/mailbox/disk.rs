//! Free space on the disk. sled can neither be written to nor opened once a disk is full, so sends are refused well before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::data_dir::free_bytes;

/// The time between two looks for sends: what can be written within it is far below any floor that makes sense.
const RECHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The free space of the file system, checked against the least that must stay free.
pub(super) struct DiskSpace {
    path: PathBuf,
    /// The least free space, in bytes; 0: no check.
    floor: u64,
    low: AtomicBool,
    started: Instant,
    /// The time of the last check, in milliseconds since the start.
    checked: AtomicU64,
}

impl DiskSpace {
    /// Checks the file system that holds `path`.
    pub(super) fn new(path: &Path, floor: u64) -> Self {
        let this =
            Self { path: path.into(), floor, low: AtomicBool::new(false), started: Instant::now(), checked: AtomicU64::new(0) };
        this.check();
        this
    }

    /// Checks again where the last check is older than [`RECHECK_INTERVAL`]: it costs a system call, and a fast writer fills a small
    /// disk within the second between two sweeps.
    pub(super) fn recheck(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let checked = self.checked.load(Ordering::Relaxed);
        if u128::from(now - checked.min(now)) >= RECHECK_INTERVAL.as_millis() {
            self.checked.store(now, Ordering::Relaxed);
            self.check();
        }
    }

    /// Checks again, and logs a change.
    pub(super) fn check(&self) {
        if self.floor == 0 {
            return;
        }
        let free = free_bytes(&self.path);
        // A directory that is gone, with its disk maybe, can store nothing.
        let low = free.as_ref().map_or(true, |&free| free < self.floor);
        if self.low.swap(low, Ordering::Relaxed) != low {
            match free {
                Err(error) => tracing::error!(%error, "data directory unreachable: messages are refused"),
                Ok(free) if low => {
                    tracing::error!(free, floor = self.floor, "disk nearly full: messages are refused until space is freed")
                }
                Ok(free) => tracing::info!(free, "enough free disk space again"),
            }
        }
    }

    /// Returns whether there was enough free space at the last check.
    pub(super) fn ok(&self) -> bool {
        !self.low.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_low_below_the_floor_and_never_without_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DiskSpace::new(dir.path(), 1).ok());
        assert!(!DiskSpace::new(dir.path(), u64::MAX).ok());
        assert!(DiskSpace::new(dir.path(), 0).ok());
        let gone = tempfile::tempdir().unwrap();
        let space = DiskSpace::new(gone.path(), 1);
        assert!(space.ok());
        drop(gone);
        space.check();
        assert!(!space.ok(), "a directory that is gone has no space");
    }
}
