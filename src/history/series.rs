//! Samples on an even grid of moments.

use std::collections::VecDeque;

use serde::Serialize;

use crate::core::time::Timestamp;
use crate::store::samples::KEPT_MINUTES;
use crate::store::{MINUTE_SECONDS, Sample};

/// The seconds between two samples of the last hour.
pub(super) const FINE_SECONDS: u64 = 10;
/// The number of samples of the last hour.
pub(super) const FINE_SAMPLES: usize = 360;

/// A range of time up to the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// The last hour, since the start at most.
    Hour,
    /// The last day.
    Day,
}

impl Range {
    /// Returns the range of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            _ => None,
        }
    }
}

/// The grid of a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    seconds: u64,
    count: u64,
}

impl Step {
    /// The grid of `range`.
    pub(super) const fn of(range: Range) -> Self {
        match range {
            Range::Hour => Self { seconds: FINE_SECONDS, count: FINE_SAMPLES as u64 },
            Range::Day => Self { seconds: MINUTE_SECONDS, count: KEPT_MINUTES },
        }
    }
}

/// Samples as columns, of the same length as `at`; `null` where there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeriesResponse {
    range: Range,
    step_seconds: u64,
    /// The first moment.
    from: Timestamp,
    /// The moments, in seconds since 1970.
    at: Vec<u64>,
    connections: Vec<Option<u32>>,
    received_per_second: Vec<Option<f64>>,
    sent_per_second: Vec<Option<f64>>,
    queue_messages: Vec<Option<u64>>,
    commit_p99_ms: Vec<Option<f64>>,
    memory_bytes: Vec<Option<u64>>,
    disk_bytes: Vec<Option<u64>>,
}

/// Returns a figure with three decimals: more are noise, and long.
fn rounded(figure: f32) -> f64 {
    (f64::from(figure) * 1000.0).round() / 1000.0
}

impl SeriesResponse {
    /// The samples of a range up to `now`, which are in the order of their numbers.
    pub(super) fn new(range: Range, step: Step, now: Timestamp, samples: &VecDeque<(u64, Sample)>) -> Self {
        let last = u64::try_from(now.unix_seconds()).unwrap_or(0) / step.seconds;
        let first = last.saturating_sub(step.count - 1);
        let mut grid: Vec<Option<&Sample>> = vec![None; usize::try_from(last - first + 1).unwrap_or(0)];
        for (number, sample) in samples {
            let place = number.checked_sub(first).and_then(|n| usize::try_from(n).ok());
            if let Some(place) = place.and_then(|place| grid.get_mut(place)) {
                *place = Some(sample);
            }
        }
        // A sample that was late by a moment is in the next step: the one that it has left has its predecessor's figures.
        for n in 1..grid.len().saturating_sub(1) {
            if grid[n].is_none() && grid[n + 1].is_some() {
                grid[n] = grid[n - 1];
            }
        }
        let begin = i64::try_from(first * step.seconds).unwrap_or(0);
        Self {
            range,
            step_seconds: step.seconds,
            from: Timestamp::from_unix_micros(begin.saturating_mul(1_000_000)),
            at: (first..=last).map(|number| number * step.seconds).collect(),
            connections: column(&grid, |sample| sample.connections),
            received_per_second: column(&grid, |sample| rounded(sample.received_per_second)),
            sent_per_second: column(&grid, |sample| rounded(sample.sent_per_second)),
            queue_messages: column(&grid, |sample| sample.queue_messages),
            commit_p99_ms: column(&grid, |sample| rounded(sample.commit_p99_ms)),
            memory_bytes: grid.iter().map(|place| place.map(|sample| sample.memory_bytes).filter(|&bytes| bytes > 0)).collect(),
            disk_bytes: column(&grid, |sample| sample.disk_bytes),
        }
    }
}

/// Returns one figure of each sample.
fn column<T>(grid: &[Option<&Sample>], figure: impl Fn(&Sample) -> T) -> Vec<Option<T>> {
    grid.iter().map(|place| place.map(&figure)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(range: Range, now: i64, numbers: &[u64]) -> SeriesResponse {
        let samples = numbers.iter().map(|&n| (n, Sample { connections: n as u32, ..Sample::default() })).collect();
        SeriesResponse::new(range, Step::of(range), Timestamp::from_unix_micros(now * 1_000_000), &samples)
    }

    #[test]
    fn grid_ends_with_the_present_and_has_gaps_where_nothing_is_known() {
        let hour = series(Range::Hour, 100_009, &[5, 9_641, 9_997, 9_999, 10_000]);
        assert_eq!((hour.at.len(), hour.at[0], hour.at[359]), (360, 96_410, 100_000));
        assert_eq!(hour.from.unix_seconds(), 96_410);
        assert_eq!((hour.connections[0], hour.connections[1]), (Some(9_641), None));
        assert_eq!(hour.connections[355..], [None, Some(9_997), Some(9_997), Some(9_999), Some(10_000)]);
        assert_eq!(hour.memory_bytes[359], None, "not known");
        let day = series(Range::Day, 600_059, &[]);
        assert_eq!((day.at.len(), day.step_seconds, day.at[1439]), (1440, 60, 600_000));
        assert!(day.connections.iter().all(Option::is_none));
    }

    #[test]
    fn clock_at_its_beginning_makes_a_short_grid() {
        assert_eq!(series(Range::Day, 61, &[0, 1]).connections, [Some(0), Some(1)]);
        assert_eq!(series(Range::Hour, -5, &[]).at, [0]);
    }
}
