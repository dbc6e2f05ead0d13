//! Counters and histograms. Each update takes one or two relaxed atomic operations and never a lock, since it may happen for every
//! message.
//!
//! Metrics libraries look label values up behind a lock, and their histograms lock to observe. Here a label value is an index into
//! an array.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the count since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A label with enumerated values.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`index`](Self::index).
    const ALL: &'static [Self];

    /// Returns the text of the value.
    fn name(self) -> &'static str;

    /// Returns the position in [`ALL`](Self::ALL).
    fn index(self) -> usize;
}

/// One counter for each value of a label; all of them exist from the start, at 0.
#[derive(Debug)]
pub struct CounterFamily<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterFamily<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterFamily<L> {
    /// Returns the counter of one value.
    #[inline]
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }

    /// Adds one to the counter of a value.
    #[inline]
    pub fn inc(&self, label: L) {
        self.of(label).inc();
    }

    /// Returns every value with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        L::ALL.iter().map(|&label| (label.name(), self.of(label).get()))
    }

    /// Returns the sum over all values.
    pub fn sum(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

/// One counter for each pair of values of two labels.
#[derive(Debug)]
pub struct CounterMatrix<A, B> {
    rows: Box<[CounterFamily<B>]>,
    label: PhantomData<A>,
}

impl<A: Label, B: Label> Default for CounterMatrix<A, B> {
    fn default() -> Self {
        Self { rows: A::ALL.iter().map(|_| CounterFamily::default()).collect(), label: PhantomData }
    }
}

impl<A: Label, B: Label> CounterMatrix<A, B> {
    /// Returns the counters of one value of the first label.
    #[inline]
    pub fn of(&self, label: A) -> &CounterFamily<B> {
        &self.rows[label.index()]
    }
}

/// Bucket bounds of durations, in nanoseconds: from 0.1 ms, for answers from memory, to a minute, for answers of a language model.
const DURATION_BOUNDS: &[u64] = &[
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// Bucket bounds of batch sizes.
const SIZE_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A histogram: counts of observed values in fixed buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Observed units per exposed unit: 1e9 where nanoseconds are exposed as seconds.
    unit: f64,
    /// One more than there are bounds; the last holds the values beyond all bounds.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Creates a histogram of durations, exposed in seconds.
    pub fn of_durations() -> Self {
        Self::new(DURATION_BOUNDS, 1e9)
    }

    /// Creates a histogram of batch sizes.
    pub fn of_sizes() -> Self {
        Self::new(SIZE_BOUNDS, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        Self { bounds, unit, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Observes a value.
    #[inline]
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Observes a duration.
    #[inline]
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns each upper bound, without the last, infinite one, with the number of values at or below it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut count = 0;
        self.bounds.iter().zip(&self.buckets).map(move |(&bound, bucket)| {
            count += bucket.load(Ordering::Relaxed);
            (bound as f64 / self.unit, count)
        })
    }

    /// Returns the number of values beyond the last bound.
    pub fn beyond(&self) -> u64 {
        self.buckets.last().map_or(0, |bucket| bucket.load(Ordering::Relaxed))
    }

    /// Returns the sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_values_at_or_below_each_bound() {
        let sizes = Histogram::of_sizes();
        for value in [1, 2, 3, 512, 513] {
            sizes.observe(value);
        }
        let cumulative: Vec<_> = sizes.cumulative().collect();
        assert_eq!(cumulative[..3], [(1.0, 1), (2.0, 2), (4.0, 3)]);
        assert_eq!((cumulative[9], sizes.beyond(), sizes.sum()), ((512.0, 4), 1, 1031.0));
    }

    #[test]
    fn histogram_of_durations_is_exposed_in_seconds() {
        let durations = Histogram::of_durations();
        durations.observe_duration(Duration::from_millis(1));
        durations.observe_duration(Duration::from_secs(3600));
        assert_eq!(durations.cumulative().find(|&(bound, _)| bound == 0.001), Some((0.001, 1)));
        assert_eq!((durations.beyond(), durations.sum()), (1, 3600.001));
    }
}
