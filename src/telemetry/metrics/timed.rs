//! How long things take: a histogram since the start, and the last hundred one by one (guide section 7.2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::instrument::{Counter, Histogram, Label};
use super::labels::Operation;
use crate::core::time::Timestamp;

/// How many are remembered one by one.
pub const REMEMBERED: usize = 100;
/// What takes longer is said in the log.
pub const SLOW: Duration = Duration::from_secs(1);

/// Bits of a slot: seconds since 1970 in the upper half, then whether it went well, then microseconds.
const WELL: u64 = 1 << 31;

/// One operation.
#[derive(Debug)]
pub struct Timed {
    operation: Operation,
    /// Since the start.
    pub durations: Histogram,
    /// How many went wrong.
    pub failures: Counter,
    /// How many took longer than [`SLOW`].
    pub slow: Counter,
    /// How many there were; the next one's slot.
    noted: AtomicU64,
    /// The last ones, each packed into a word, so that noting one takes no lock. 0: empty.
    slots: Box<[AtomicU64]>,
}

/// The last hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// How many there are.
    pub count: usize,
    /// How many of them went well.
    pub success: usize,
    /// Half of them took no longer than this.
    pub p50: Duration,
    /// 99 of 100 took no longer than this.
    pub p99: Duration,
    /// None took longer than this.
    pub max: Duration,
    /// When the last one ended, to the second; `None` where there was none.
    pub last: Option<Timestamp>,
}

impl Timed {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            durations: Histogram::of_durations(),
            failures: Counter::default(),
            slow: Counter::default(),
            noted: AtomicU64::new(0),
            slots: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// What is measured.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// One took `took`, and went well or did not. It has just ended, at `now`.
    pub fn note(&self, took: Duration, well: bool, now: Timestamp) {
        self.note_named(None, took, well, now);
    }

    /// The same; the log names it by `name`, where there is one.
    pub fn note_named(&self, name: Option<&str>, took: Duration, well: bool, now: Timestamp) {
        self.durations.took(took);
        if !well {
            self.failures.inc();
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(WELL - 1);
        let seconds = u64::from(u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX));
        let place = self.noted.fetch_add(1, Ordering::Relaxed) as usize % REMEMBERED;
        self.slots[place].store(seconds << 32 | if well { WELL } else { 0 } | micros, Ordering::Relaxed);
        if took > SLOW {
            self.slow.inc();
            let operation = name.unwrap_or(self.operation.name());
            tracing::warn!(operation, seconds = took.as_secs_f64(), well, "slow operation");
        }
    }

    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.noted.load(Ordering::Relaxed)
    }

    /// The last hundred.
    pub fn recent(&self) -> Recent {
        let slots: Vec<u64> = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&slot| slot != 0).collect();
        let mut took: Vec<u64> = slots.iter().map(|slot| slot & (WELL - 1)).collect();
        took.sort_unstable();
        // The smallest value that so many of a hundred do not exceed.
        let percentile = |p: usize| {
            let rank = (took.len() * p).div_ceil(100).max(1);
            Duration::from_micros(took.get(rank - 1).copied().unwrap_or(0))
        };
        let last = slots.iter().map(|slot| slot >> 32).max();
        Recent {
            count: slots.len(),
            success: slots.iter().filter(|&slot| slot & WELL != 0).count(),
            p50: percentile(50),
            p99: percentile(99),
            max: percentile(100),
            last: last.and_then(|seconds| i64::try_from(seconds).ok()).map(|s| Timestamp::from_unix_micros(s * 1_000_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_yet() {
        let recent = Timed::new(Operation::Send).recent();
        assert_eq!((recent.count, recent.success, recent.max, recent.last), (0, 0, Duration::ZERO, None));
    }

    #[test]
    fn the_last_hundred_count() {
        let (timed, now) = (Timed::new(Operation::Send), Timestamp::from_unix_micros(1_800_000_000_000_000));
        timed.note(Duration::from_secs(50), false, now);
        for n in 1..=100 {
            timed.note(Duration::from_millis(n), n % 4 != 0, now.plus_seconds(n));
        }
        let recent = timed.recent();
        assert_eq!((recent.count, recent.success), (100, 75));
        assert_eq!([recent.p50, recent.p99, recent.max].map(|d| d.as_millis()), [50, 99, 100]);
        assert_eq!(recent.last, Some(now.plus_seconds(100)));
        assert_eq!((timed.total(), timed.failures.get(), timed.slow.get()), (101, 26, 1));
    }

    #[test]
    fn any_duration_fits() {
        let timed = Timed::new(Operation::Send);
        timed.note(Duration::MAX, true, Timestamp::now());
        assert_eq!(timed.recent().max, Duration::from_micros(WELL - 1));
    }
}
