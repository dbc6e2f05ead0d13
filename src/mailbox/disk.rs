//! Room on the disk. sled can't be written to, nor opened, once a disk is full; so sends are refused well before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::data_dir::free_bytes;

/// The free space below which nothing is taken, looked at from time to time.
pub(super) struct DiskSpace {
    path: PathBuf,
    /// Bytes; 0: never look.
    floor: u64,
    low: AtomicBool,
}

impl DiskSpace {
    /// Watches the file system that holds `path`.
    pub(super) fn new(path: &Path, floor: u64) -> Self {
        let this = Self { path: path.into(), floor, low: AtomicBool::new(false) };
        this.check();
        this
    }

    /// Looks again.
    pub(super) fn check(&self) {
        if self.floor == 0 {
            return;
        }
        let free = free_bytes(&self.path);
        // A directory that is gone, with its disk maybe, keeps nothing.
        let low = free.as_ref().map_or(true, |&free| free < self.floor);
        if self.low.swap(low, Ordering::Relaxed) != low {
            match free {
                Err(error) => tracing::error!(%error, "the data directory can't be reached: messages are refused"),
                Ok(free) if low => tracing::error!(free, floor = self.floor, "the disk is nearly full: messages are refused"),
                Ok(free) => tracing::info!(free, "the disk has room again"),
            }
        }
    }

    /// Whether there was room enough at the last look.
    pub(super) fn ok(&self) -> bool {
        !self.low.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_below_the_floor_and_never_without_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DiskSpace::new(dir.path(), 1).ok());
        assert!(!DiskSpace::new(dir.path(), u64::MAX).ok());
        assert!(DiskSpace::new(dir.path(), 0).ok());
        let gone = tempfile::tempdir().unwrap();
        let space = DiskSpace::new(gone.path(), 1);
        assert!(space.ok());
        drop(gone);
        space.check();
        assert!(!space.ok(), "what is gone has no room");
    }
}
