//! Durations of operations: a histogram since the start, and the last hundred individually (guide section 7.2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::instruments::{Counter, Histogram, Label};
use super::labels::Operation;
use crate::core::time::Timestamp;

/// The number of runs that are kept individually.
const RECENT_RUNS: usize = 100;
/// The duration above which a run is logged and counted as slow.
const SLOW_RUN: Duration = Duration::from_secs(1);

/// The bit of a slot that marks success. Below it are microseconds; above it, in the upper half, seconds since 1970.
const SUCCESS_BIT: u64 = 1 << 31;

/// The durations and outcomes of one operation.
#[derive(Debug)]
pub struct OperationStats {
    operation: Operation,
    /// The durations since the start.
    pub durations: Histogram,
    /// The number of failed runs.
    pub failures: Counter,
    /// The number of runs that took longer than a second.
    pub slow: Counter,
    /// The number of runs; determines the slot of the next one.
    runs: AtomicU64,
    /// The last runs, each packed into one word, so that recording takes no lock. 0: empty.
    slots: Box<[AtomicU64]>,
}

/// A summary of the last hundred runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentRuns {
    /// The number of runs, at most a hundred.
    pub count: usize,
    /// The number of successful ones.
    pub success: usize,
    /// The median duration.
    pub p50: Duration,
    /// The 99th percentile of the durations.
    pub p99: Duration,
    /// The longest duration.
    pub max: Duration,
    /// The end of the last run, to the second; `None` when there was none.
    pub last: Option<Timestamp>,
}

impl OperationStats {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            durations: Histogram::of_durations(),
            failures: Counter::default(),
            slow: Counter::default(),
            runs: AtomicU64::new(0),
            slots: (0..RECENT_RUNS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Returns the operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Records the duration and the outcome of a run that ended at `now`.
    pub fn record(&self, duration: Duration, success: bool, now: Timestamp) {
        self.record_named(None, duration, success, now);
    }

    /// Records a run like [`record`](Self::record); a slow one is logged under `name` instead of the operation's name.
    #[inline]
    pub fn record_named(&self, name: Option<&str>, duration: Duration, success: bool, now: Timestamp) {
        self.durations.observe_duration(duration);
        if !success {
            self.failures.inc();
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(SUCCESS_BIT - 1);
        let seconds = u64::from(u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX));
        let slot = self.runs.fetch_add(1, Ordering::Relaxed) as usize % RECENT_RUNS;
        self.slots[slot].store(seconds << 32 | if success { SUCCESS_BIT } else { 0 } | micros, Ordering::Relaxed);
        if duration > SLOW_RUN {
            self.slow.inc();
            let operation = name.unwrap_or(self.operation.name());
            tracing::warn!(operation, seconds = duration.as_secs_f64(), success, "slow operation");
        }
    }

    /// Returns the number of runs since the start.
    pub fn total(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Returns a summary of the last hundred runs.
    pub fn recent(&self) -> RecentRuns {
        let slots: Vec<u64> = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&slot| slot != 0).collect();
        let mut micros: Vec<u64> = slots.iter().map(|slot| slot & (SUCCESS_BIT - 1)).collect();
        micros.sort_unstable();
        // Nearest rank: the smallest value that at least p percent of the values do not exceed.
        let percentile = |p: usize| {
            let rank = (micros.len() * p).div_ceil(100).max(1);
            Duration::from_micros(micros.get(rank - 1).copied().unwrap_or(0))
        };
        let last = slots.iter().map(|slot| slot >> 32).max();
        RecentRuns {
            count: slots.len(),
            success: slots.iter().filter(|&slot| slot & SUCCESS_BIT != 0).count(),
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
    fn recent_without_runs_is_zero() {
        let recent = OperationStats::new(Operation::Send).recent();
        assert_eq!((recent.count, recent.success, recent.max, recent.last), (0, 0, Duration::ZERO, None));
    }

    #[test]
    fn recent_summarizes_the_last_hundred_runs() {
        let (stats, now) = (OperationStats::new(Operation::Send), Timestamp::from_unix_micros(1_800_000_000_000_000));
        stats.record(Duration::from_secs(50), false, now);
        for n in 1..=100 {
            stats.record(Duration::from_millis(n), n % 4 != 0, now.plus_seconds(n));
        }
        let recent = stats.recent();
        assert_eq!((recent.count, recent.success), (100, 75));
        assert_eq!([recent.p50, recent.p99, recent.max].map(|d| d.as_millis()), [50, 99, 100]);
        assert_eq!(recent.last, Some(now.plus_seconds(100)));
        assert_eq!((stats.total(), stats.failures.get(), stats.slow.get()), (101, 26, 1));
    }

    #[test]
    fn record_of_an_excessive_duration_saturates() {
        let stats = OperationStats::new(Operation::Send);
        stats.record(Duration::MAX, true, Timestamp::now());
        assert_eq!(stats.recent().max, Duration::from_micros(SUCCESS_BIT - 1));
    }
}
