//! Counters and histograms that cost a relaxed atomic or two, and never a lock: they stand where every message passes.
//!
//! A library's families look a label up behind a lock, and its histograms lock to observe. Here a label is a place in an array.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// So many since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An enumerated label value.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`index`](Self::index).
    const ALL: &'static [Self];

    /// The value's text.
    fn name(self) -> &'static str;

    /// Its place among all.
    fn index(self) -> usize;
}

/// A counter for each value of a label; all of them are there from the start, at 0.
#[derive(Debug)]
pub struct Labelled<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Labelled<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Labelled<L> {
    /// The counter of one value.
    pub fn of(&self, label: L) -> &Counter {
        &self.counters[label.index()]
    }

    /// One more of that value.
    pub fn inc(&self, label: L) {
        self.of(label).inc();
    }

    /// Every value with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        L::ALL.iter().map(|&label| (label.name(), self.of(label).get()))
    }

    /// All of them together.
    pub fn sum(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

/// A counter for each pair of two labels' values.
#[derive(Debug)]
pub struct Pairs<A, B> {
    rows: Box<[Labelled<B>]>,
    label: PhantomData<A>,
}

impl<A: Label, B: Label> Default for Pairs<A, B> {
    fn default() -> Self {
        Self { rows: A::ALL.iter().map(|_| Labelled::default()).collect(), label: PhantomData }
    }
}

impl<A: Label, B: Label> Pairs<A, B> {
    /// The counters of one value of the first label.
    pub fn of(&self, label: A) -> &Labelled<B> {
        &self.rows[label.index()]
    }
}

/// Bounds of durations, in nanoseconds: from a tenth of a millisecond, for what memory answers, to a minute, for a model that talks.
const DURATIONS: &[u64] = &[
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
/// Bounds of batches.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// How often values of each size came.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// What one of the unit is in the values observed.
    unit: f64,
    /// One more than there are bounds: the last is for what exceeds all of them.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of durations, exposed in seconds.
    pub fn of_durations() -> Self {
        Self::new(DURATIONS, 1e9)
    }

    /// Of small numbers.
    pub fn of_sizes() -> Self {
        Self::new(SIZES, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        Self { bounds, unit, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Takes in one value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Takes in one duration.
    pub fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The upper bounds with how many values lie at or below each, without the last, unbounded one.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut below = 0;
        self.bounds.iter().zip(&self.buckets).map(move |(&bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (bound as f64 / self.unit, below)
        })
    }

    /// How many values beyond the last bound.
    pub fn beyond(&self) -> u64 {
        self.buckets.last().map_or(0, |bucket| bucket.load(Ordering::Relaxed))
    }

    /// All values together.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_where_they_belong() {
        let sizes = Histogram::of_sizes();
        for value in [1, 2, 3, 512, 513] {
            sizes.observe(value);
        }
        let cumulative: Vec<_> = sizes.cumulative().collect();
        assert_eq!(cumulative[..3], [(1.0, 1), (2.0, 2), (4.0, 3)]);
        assert_eq!((cumulative[9], sizes.beyond(), sizes.sum()), ((512.0, 4), 1, 1031.0));
    }

    #[test]
    fn durations_come_out_in_seconds() {
        let durations = Histogram::of_durations();
        durations.took(Duration::from_millis(1));
        durations.took(Duration::from_secs(3600));
        assert_eq!(durations.cumulative().find(|&(bound, _)| bound == 0.001), Some((0.001, 1)));
        assert_eq!((durations.beyond(), durations.sum()), (1, 3600.001));
    }
}
