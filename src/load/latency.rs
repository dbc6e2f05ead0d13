//! Latencies: a histogram with a bounded error, written by many tasks.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// The shortest and the longest latency that are told apart, in microseconds.
const BOUNDS: (u64, u64) = (1, 600_000_000);
/// Significant decimal digits: an error of 1 % at most.
const DIGITS: u8 = 2;
/// Parts that tasks write to, so that they seldom wait for each other.
const PARTS: usize = 16;

/// The latencies of one workload.
#[derive(Debug)]
pub struct Latencies {
    parts: Vec<Mutex<Histogram<u64>>>,
}

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// That of 99 in 100.
    pub p99: f64,
    /// That of 999 in 1,000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latencies {
    /// Without any.
    pub fn new() -> Self {
        // The bounds are constants, and possible.
        let part = || Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, DIGITS).ok().map(Mutex::new);
        Self { parts: (0..PARTS).filter_map(|_| part()).collect() }
    }

    /// Adds one; `near` is any number that differs among tasks.
    pub fn record(&self, near: usize, latency: Duration) {
        if let Some(part) = self.parts.get(near % PARTS) {
            part.lock().saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Returns the percentiles; `None` where there is no latency.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut parts = self.parts.iter();
        let mut all = parts.next()?.lock().clone();
        for part in parts {
            all.add(&*part.lock()).ok()?;
        }
        let at = |share: f64| all.value_at_quantile(share) as f64;
        (!all.is_empty()).then(|| Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: all.max() as f64 })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_latency_has_no_percentiles() {
        assert_eq!(Latencies::new().percentiles(), None);
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values_within_a_hundredth(mut micros in proptest::collection::vec(1_u64..100_000_000, 1..2000)) {
            let latencies = Latencies::new();
            for (n, value) in micros.iter().enumerate() {
                latencies.record(n, Duration::from_micros(*value));
            }
            micros.sort_unstable();
            let found = latencies.percentiles().unwrap();
            for (share, value) in [(0.5, found.p50), (0.99, found.p99), (0.999, found.p999), (1.0, found.max)] {
                let at = ((micros.len() as f64 * share).ceil() as usize).max(1) - 1;
                let exact = micros[at] as f64;
                prop_assert!((value - exact).abs() <= exact * 0.01 + 1.0, "{} of {}: {} is {}", share, micros.len(), value, exact);
            }
        }
    }
}
