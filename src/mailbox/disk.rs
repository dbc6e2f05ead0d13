//! Room on the disk. sled can neither be written to nor opened once a disk is full, so sends are refused well before.
//!
//! What counts is the free space, and the room inside the store: space that removed messages have left is used again, although the file
//! does not get smaller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::data_dir::{MIN_BYTES_TO_OPEN, free_bytes};

/// The time between two looks for sends: what can be written within it is far below any floor that makes sense.
const RECHECK_INTERVAL: Duration = Duration::from_millis(10);
/// The part of the floor that must stay free in any case: although there is room inside the store, and for administrators and services.
const LAST_PART_DIVISOR: u64 = 4;
/// The bytes that the store may write for each byte of a message: the message, and pages that are written anew.
const WRITTEN_FOR_A_BYTE: u64 = 4;

/// The answer of a look at the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Outcome {
    Enough,
    Low,
    /// The data directory is gone, with its disk maybe: nothing can be stored.
    Gone,
}

/// The room for messages on the disk, checked against the least that must stay free.
pub(super) struct DiskSpace {
    path: PathBuf,
    /// Returns the bytes that the store's files have room for.
    room_inside: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The least free space, in bytes; 0: no check.
    floor: u64,
    /// The outcome of the last check.
    outcome: AtomicU8,
    /// The free space above the floor at the last check, in bytes.
    above: AtomicU64,
    /// The free space above the last part of the floor, in bytes.
    above_last: AtomicU64,
    /// Bytes of messages on their way to the disk.
    in_flight: AtomicU64,
    started: Instant,
    /// The time of the last check, in milliseconds since the start.
    checked: AtomicU64,
}

/// Bytes of a message on its way to the disk, until it is dropped.
pub(super) struct InFlight {
    space: Arc<DiskSpace>,
    bytes: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.space.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl DiskSpace {
    /// Checks the file system that holds `path`.
    pub(super) fn new(path: &Path, floor: u64, room_inside: impl Fn() -> u64 + Send + Sync + 'static) -> Arc<Self> {
        let this = Arc::new(Self {
            path: path.into(),
            room_inside: Box::new(room_inside),
            floor,
            outcome: AtomicU8::new(Outcome::Enough as u8),
            above: AtomicU64::new(u64::MAX),
            above_last: AtomicU64::new(u64::MAX),
            in_flight: AtomicU64::new(0),
            started: Instant::now(),
            checked: AtomicU64::new(0),
        });
        this.check();
        this
    }

    /// Returns a hold on the room for a message of `bytes`, `None` where there is none. Most of the floor is kept for `privileged` senders.
    /// Checks again where the last check is older than
    /// [`RECHECK_INTERVAL`]: it costs a system call, and a fast writer fills a small disk within the second between two sweeps.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize, privileged: bool) -> Option<InFlight> {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let checked = self.checked.load(Ordering::Relaxed);
        if u128::from(now - checked.min(now)) >= RECHECK_INTERVAL.as_millis() {
            self.checked.store(now, Ordering::Relaxed);
            self.check();
        }
        let bytes = (bytes as u64).saturating_mul(WRITTEN_FOR_A_BYTE);
        let held = InFlight { space: self.clone(), bytes };
        let others = self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        let above = if privileged { &self.above_last } else { &self.above }.load(Ordering::Relaxed);
        let has_room = self.ok() || privileged && self.is_low() && above > 0;
        (has_room && others <= above).then_some(held)
    }

    /// Checks again, and logs a change.
    pub(super) fn check(&self) {
        if self.floor == 0 {
            return;
        }
        let (free, mut floor) = (free_bytes(&self.path), self.floor);
        let last = (floor / LAST_PART_DIVISOR).max(MIN_BYTES_TO_OPEN).min(floor);
        let mut inside = 0;
        if free.as_ref().is_ok_and(|&free| free < floor) {
            inside = (self.room_inside)();
            if inside >= floor {
                floor = last;
            }
        }
        let (above, outcome) = match free {
            Ok(free) if free < floor => (0, Outcome::Low),
            Ok(free) => (free - floor, Outcome::Enough),
            Err(_) => (0, Outcome::Gone),
        };
        self.above.store(above, Ordering::Relaxed);
        self.above_last.store(free.as_ref().map_or(0, |free| free.saturating_sub(last)), Ordering::Relaxed);
        if self.outcome.swap(outcome as u8, Ordering::Relaxed) == outcome as u8 {
            return;
        }
        match (free, outcome) {
            (Err(error), _) => tracing::error!(%error, "data directory unreachable: messages are refused"),
            (Ok(free), Outcome::Low) => {
                tracing::error!(free, floor, inside, "disk nearly full: messages are refused until space is freed");
            }
            (Ok(free), _) => tracing::info!(free, inside, "enough disk space again"),
        }
    }

    /// Returns whether there was enough space at the last check.
    pub(super) fn ok(&self) -> bool {
        self.outcome.load(Ordering::Relaxed) == Outcome::Enough as u8
    }

    /// Returns whether there was too little space at the last check.
    pub(super) fn is_low(&self) -> bool {
        self.outcome.load(Ordering::Relaxed) == Outcome::Low as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(path: &Path, floor: u64, inside: u64) -> Arc<DiskSpace> {
        DiskSpace::new(path, floor, move || inside)
    }

    #[test]
    fn space_is_low_below_the_floor_and_never_without_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(space(dir.path(), 1, 0).ok());
        assert!(space(dir.path(), u64::MAX, 0).is_low());
        assert!(space(dir.path(), 0, 0).ok());
        let gone = tempfile::tempdir().unwrap();
        let space = space(gone.path(), 1, 0);
        assert!(space.ok());
        drop(gone);
        space.check();
        assert!(!space.ok() && !space.is_low(), "a directory that is gone has no space");
    }

    #[test]
    fn room_inside_the_store_counts_down_to_a_part_of_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let free = free_bytes(dir.path()).unwrap();
        assert!(free > MIN_BYTES_TO_OPEN * 8, "this test needs some free space");
        assert!(space(dir.path(), free * 2, free * 2).ok());
        assert!(space(dir.path(), free * 2, free * 2 - 1).is_low());
        assert!(space(dir.path(), free * 8, u64::MAX).is_low(), "a quarter must be free");
        assert!(space(dir.path(), free / 2, 0).ok());
    }

    #[test]
    fn most_of_the_floor_is_kept_for_the_privileged() {
        let dir = tempfile::tempdir().unwrap();
        let free = free_bytes(dir.path()).unwrap();
        let admits = |floor, privileged| space(dir.path(), floor, 0).admit(10, privileged).is_some();
        assert_eq!((admits(free * 2, false), admits(free * 2, true)), (false, true));
        assert_eq!((admits(free / 2, false), admits(free / 2, true)), (true, true));
        assert_eq!((admits(free * 8, false), admits(free * 8, true)), (false, false));
    }

    #[test]
    fn messages_on_their_way_count() {
        let dir = tempfile::tempdir().unwrap();
        let free = free_bytes(dir.path()).unwrap();
        let space = space(dir.path(), free / 2, 0);
        let part = usize::try_from(free / 2 / WRITTEN_FOR_A_BYTE / 4).unwrap();
        let held: Vec<_> = (0..100).map_while(|_| space.admit(part, false)).collect();
        assert!((4..=6).contains(&held.len()), "{}", held.len());
        drop(held);
        assert!(space.admit(part * 100, false).is_some(), "one message alone");
        assert_eq!(space.in_flight.load(Ordering::Relaxed), 0);
    }
}
