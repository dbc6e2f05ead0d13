//! The figures of the last hour and the last day, and the devices that were online in it: what the charts of a console show.
//!
//! The last hour is in memory, a sample every ten seconds. The last day is a sample a minute, in memory and in the store, where the
//! sweep of each minute writes it together with what it writes anyway.

mod online;
mod overview;
mod rates;
mod series;

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use crate::change::{Changes, RecordSample};
use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;
use crate::store::samples::{KEPT_MINUTES, KEPT_SLOTS};
use crate::store::{Minute, Sample, Slot, Store};
use online::Online;
pub use overview::{Attention, DiskFigures, Latest, Level, OverviewResponse, QueueFigures};
pub use rates::Counters;
use rates::Rate;
use series::{FINE_SAMPLES, FINE_SECONDS, Step};
pub use series::{Range, SeriesResponse};

/// The figures of one moment, as they are gathered for a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// All that a sample has but the rates.
    pub sample: Sample,
    /// The counters that the rates are made of.
    pub counters: Counters,
}

/// The history.
pub struct History {
    store: Store,
    changes: Changes,
    /// Samples are kept in the store.
    is_kept: bool,
    samples: Mutex<Samples>,
    online: Mutex<Online>,
    /// The overview, as it was last made.
    pub overview: Latest,
}

/// The samples in memory.
struct Samples {
    /// By the number of the ten seconds that they are of.
    fine: VecDeque<(u64, Sample)>,
    /// By the number of the minute.
    minutes: VecDeque<(u64, Sample)>,
    fine_rate: Rate,
    minute_rate: Rate,
    /// That of the overview.
    present_rate: Rate,
    /// The longest `commit_p99_ms` since the last minute.
    slowest: f32,
}

/// Adds a sample to those of one kind; `most` of them are kept.
fn push(samples: &mut VecDeque<(u64, Sample)>, at: u64, sample: Sample, most: usize) {
    // A clock that was set back: what is of the future is in no chart.
    while samples.back().is_some_and(|&(last, _)| last >= at) {
        samples.pop_back();
    }
    samples.push_back((at, sample));
    while samples.len() > most {
        samples.pop_front();
    }
}

impl History {
    /// Opens the history of `store`, which is kept up there where `is_kept`. Reads the samples of the last day.
    pub fn open(store: Store, changes: Changes, is_kept: bool) -> Self {
        let (now, began) = (Timestamp::now(), Instant::now());
        let minute = Minute::of(now);
        let kept = store.samples(minute.before(KEPT_MINUTES - 1)).into_iter();
        let minutes = kept.filter(|(at, _)| *at <= minute).map(|(at, sample)| (at.0, sample)).collect();
        let rate = || Rate::begin(began, Counters::default());
        let samples = Samples {
            fine: VecDeque::new(),
            minutes,
            fine_rate: rate(),
            minute_rate: rate(),
            present_rate: rate(),
            slowest: 0.0,
        };
        let online = Online::load(&store, Slot::of(now));
        Self { store, changes, is_kept, samples: Mutex::new(samples), online: Mutex::new(online), overview: Latest::default() }
    }

    /// Returns the messages that come in and go out in a second at present: the average of the time since the last call, at least a
    /// second.
    pub fn present_rates(&self, now: Instant, counters: Counters) -> (f64, f64) {
        self.samples.lock().present_rate.observe(now, counters)
    }

    /// Adds the figures of the ten seconds up to `at`.
    pub fn add(&self, at: Timestamp, now: Instant, figures: Figures) {
        let mut samples = self.samples.lock();
        samples.slowest = samples.slowest.max(figures.sample.commit_p99_ms);
        let sample = with_rates(figures.sample, samples.fine_rate.observe(now, figures.counters));
        let number = u64::try_from(at.unix_seconds()).unwrap_or(0) / FINE_SECONDS;
        push(&mut samples.fine, number, sample, FINE_SAMPLES);
    }

    /// Adds the figures of the minute up to `at`, and the devices that were online in it. They reach the store with the next commit.
    pub fn add_minute(&self, at: Timestamp, now: Instant, figures: Figures, online: Vec<DeviceId>) {
        let (minute, slot) = (Minute::of(at), Slot::of(at));
        let sample = {
            let mut samples = self.samples.lock();
            let slowest = std::mem::take(&mut samples.slowest).max(figures.sample.commit_p99_ms);
            let sample = Sample { commit_p99_ms: slowest, ..figures.sample };
            let sample = with_rates(sample, samples.minute_rate.observe(now, figures.counters));
            push(&mut samples.minutes, minute.0, sample, KEPT_MINUTES as usize);
            sample
        };
        let online = self.online.lock().add(slot, online);
        let kept = self.is_kept && self.changes.defer(move || RecordSample { minute, sample, online }, drop);
        if !kept {
            self.online.lock().not_written();
        }
    }

    /// Returns the samples of a range up to `now`.
    pub fn series(&self, range: Range, now: Timestamp) -> SeriesResponse {
        let samples = self.samples.lock();
        let step = Step::of(range);
        let found = match range {
            Range::Hour => &samples.fine,
            Range::Day => &samples.minutes,
        };
        SeriesResponse::new(range, step, now, found)
    }

    /// Returns for each of the last 144 slots up to that of `now`, in order, whether `device` was online. Reads the store.
    pub fn presence(&self, device: DeviceId, now: Timestamp) -> Vec<bool> {
        let last = Slot::of(now);
        let first = last.before(KEPT_SLOTS - 1);
        let mut slots = vec![false; KEPT_SLOTS as usize];
        let mut mark = |slot: Slot| {
            let at = usize::try_from(slot.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
            if let Some(mark) = slots.get_mut(at) {
                *mark = true;
            }
        };
        for (slot, devices) in self.store.online_devices(first) {
            if devices.contains(device) {
                mark(slot);
            }
        }
        if let Some(slot) = self.online.lock().slot_of(device) {
            mark(slot);
        }
        slots
    }
}

/// Returns `sample` with these rates.
fn with_rates(sample: Sample, (received, sent): (f64, f64)) -> Sample {
    Sample { received_per_second: received as f32, sent_per_second: sent as f32, ..sample }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::telemetry::metrics::Metrics;

    fn opened(dir: &std::path::Path, is_kept: bool) -> History {
        let store = Store::open(&dir.join("store")).unwrap();
        let settings = crate::mailbox::settings(&Config::default());
        let changes = Changes::open(store.clone(), settings, Metrics::new(Arc::default())).unwrap();
        History::open(store, changes, is_kept)
    }

    fn figures(connections: u32, received: u64) -> Figures {
        let counters = Counters { received, sent: 2 * received };
        Figures { sample: Sample { connections, commit_p99_ms: connections as f32, ..Sample::default() }, counters }
    }

    #[tokio::test]
    async fn minutes_and_online_devices_survive_a_restart_where_they_are_kept() {
        for is_kept in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let now = Timestamp::now();
            let history = opened(dir.path(), is_kept);
            let began = Instant::now();
            history.add(now, began + Duration::from_secs(10), figures(9, 10));
            history.add_minute(now, began + Duration::from_secs(60), figures(5, 60), vec![DeviceId(3)]);
            assert!(history.presence(DeviceId(3), now)[143] && !history.presence(DeviceId(4), now)[143]);
            history.changes.commit().await.unwrap();
            history.store.close().unwrap();
            drop(history);
            let again = opened(dir.path(), is_kept);
            let series = serde_json::to_value(again.series(Range::Day, now)).unwrap();
            let connections: Vec<_> = series["connections"].as_array().unwrap().iter().filter(|n| !n.is_null()).collect();
            assert_eq!(connections.len(), usize::from(is_kept));
            assert_eq!(again.presence(DeviceId(3), now)[143], is_kept);
            if is_kept {
                let last = |name: &str| series[name].as_array().unwrap().iter().find(|n| !n.is_null()).unwrap().clone();
                assert_eq!((last("received_per_second"), last("sent_per_second")), (1.0.into(), 2.0.into()));
                assert_eq!(last("commit_p99_ms"), 9.0, "the slowest of the minute");
            }
        }
    }

    #[test]
    fn samples_of_the_future_are_dropped_when_the_clock_is_set_back() {
        let mut samples = VecDeque::new();
        for at in [1, 2, 9, 3, 4] {
            push(&mut samples, at, Sample::default(), 3);
        }
        assert_eq!(samples.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
