//! The bound on repeated lines: so many of one kind in a minute, then one a minute, with the number of those that were left out.
//!
//! The kind of a line is the place in the program that it comes from. Lines of libraries, which nobody wrote with this log in mind,
//! have a bound of one. The audit trail is never shortened here (`admission` bounds its refusals by address, and counts them), nor
//! are lines at `debug`, which somebody has asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use super::record::{Record, Sink};
use crate::config::LogConfig;
use crate::telemetry::audit;

/// The time that the bounds are for.
const WINDOW: Duration = Duration::from_secs(60);

/// The beginning of the targets of this program's own lines.
const OWN_TARGET: &str = "qy_lty";

/// The lines of one kind in the present window.
struct Kind {
    began: Instant,
    written: u32,
    /// The lines of the window before were too many: until they are few again, one a window is written.
    flooded: bool,
    /// The first line that was left out, and the number of those after it.
    held: Option<(Record, u64)>,
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self { began: now, written: 0, flooded: false, held: None }
    }

    /// Begins a new window where the present one is over; returns the line to write for that one.
    fn roll(&mut self, now: Instant) -> Option<Record> {
        if now.saturating_duration_since(self.began) < WINDOW {
            return None;
        }
        let summary = self.held.take().map(summary);
        *self = Self { written: u32::from(summary.is_some()), flooded: summary.is_some(), ..Self::new(now) };
        summary
    }
}

/// Returns a line that stands for itself and for those that were left out after it.
fn summary((mut record, left_out): (Record, u64)) -> Record {
    if left_out > 0 {
        record.set("left_out", left_out);
    }
    record
}

/// The bounds, and the kinds of lines: at most as many as there are places in the program.
struct State {
    /// The most lines of one kind a minute at `error` and `warn`; 0: any number.
    warnings: AtomicU32,
    /// The same at `info`.
    lines: AtomicU32,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// Hands records to a sink, as far as the bounds allow.
pub(super) struct Bounded {
    sink: Box<dyn Sink>,
    state: State,
    clock: fn() -> Instant,
}

impl Bounded {
    pub(super) fn new(sink: Box<dyn Sink>, config: &LogConfig, clock: fn() -> Instant) -> Arc<Self> {
        let state = State { warnings: AtomicU32::new(0), lines: AtomicU32::new(0), kinds: Mutex::default() };
        let bounded = Self { sink, state, clock };
        bounded.set(config);
        Arc::new(bounded)
    }

    /// Applies other bounds.
    pub(super) fn set(&self, config: &LogConfig) {
        self.state.warnings.store(config.warnings_per_minute, Ordering::Relaxed);
        self.state.lines.store(config.lines_per_minute, Ordering::Relaxed);
    }

    /// Returns the most lines of a kind in a window; 0: any number.
    fn limit(&self, metadata: &Metadata<'_>) -> u32 {
        let (level, target) = (*metadata.level(), metadata.target());
        let limit = match level {
            _ if target == audit::TARGET => 0,
            Level::ERROR | Level::WARN => self.state.warnings.load(Ordering::Relaxed),
            Level::INFO => self.state.lines.load(Ordering::Relaxed),
            Level::DEBUG | Level::TRACE => 0,
        };
        if target.starts_with(OWN_TARGET) { limit } else { limit.min(1) }
    }

    /// Writes what was left out in windows that are over, and forgets kinds without lines. To be called every few seconds.
    pub(super) fn sweep(&self) {
        self.write_held(|kind, now| kind.roll(now));
        self.state.kinds.lock().retain(|_, kind| kind.written > 0);
    }

    /// Writes what was left out so far. To be called at the end.
    pub(super) fn flush(&self) {
        self.write_held(|kind, _| kind.held.take().map(summary));
    }

    fn write_held(&self, take: impl Fn(&mut Kind, Instant) -> Option<Record>) {
        let now = (self.clock)();
        // Written without the lock: a line may wait for its reader.
        let due: Vec<Record> = self.state.kinds.lock().values_mut().filter_map(|kind| take(kind, now)).collect();
        due.iter().for_each(|record| self.sink.write(record));
    }
}

impl Sink for Arc<Bounded> {
    fn write(&self, record: &Record) {
        let limit = self.limit(record.metadata);
        if limit == 0 {
            return self.sink.write(record);
        }
        let now = (self.clock)();
        let (earlier, fits) = {
            let mut kinds = self.state.kinds.lock();
            let kind = kinds.entry(record.metadata.callsite()).or_insert_with(|| Kind::new(now));
            let earlier = kind.roll(now);
            let fits = kind.written < if kind.flooded { 1 } else { limit };
            match &mut kind.held {
                _ if fits => kind.written += 1,
                Some((_, left_out)) => *left_out += 1,
                held => *held = Some((record.clone(), 0)),
            }
            (earlier, fits)
        };
        if let Some(earlier) = earlier {
            self.sink.write(&earlier);
        }
        if fits {
            self.sink.write(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{Kept, logged};
    use crate::log::text::TextLines;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    fn now() -> Instant {
        NOW.get().unwrap()
    }

    fn advance(seconds: u64) {
        NOW.set(Some(now() + Duration::from_secs(seconds)));
    }

    /// A log with bounds, and its lines without the time.
    fn log(warnings_per_minute: u32, lines_per_minute: u32) -> (Arc<Bounded>, impl Fn() -> Vec<String>) {
        NOW.set(Some(Instant::now()));
        let (kept, config) = (Kept::default(), LogConfig { warnings_per_minute, lines_per_minute, ..LogConfig::default() });
        let write = kept.clone();
        let bounded =
            Bounded::new(Box::new(TextLines { write: move |line: &str| write.push(line), colours: false }), &config, now);
        let lines = move || kept.take().lines().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>();
        (bounded, lines)
    }

    fn fail(n: u32) {
        tracing::warn!(n, "failed");
    }

    fn library_fails() {
        tracing::error!(target: "salvo_core::server", "accept failed");
    }

    #[test]
    fn repeated_line_becomes_one_a_minute_with_a_count() {
        let (bounded, lines) = log(3, 0);
        logged(bounded.clone(), || {
            for second in 0..180 {
                (0..100).for_each(|n| fail(second * 100 + n));
                bounded.sweep();
                advance(1);
            }
        });
        let expected = ["failed n=0", "failed n=1", "failed n=2", "failed n=3 left_out=5996", "failed n=6000 left_out=5999"];
        assert_eq!(lines(), expected);
        bounded.flush();
        assert_eq!(lines(), ["failed n=12000 left_out=5999"], "what is left out is counted at the end");
        bounded.flush();
        assert!(lines().is_empty());
    }

    #[test]
    fn count_is_written_without_another_line_and_calm_ends_the_bound() {
        let (bounded, lines) = log(2, 0);
        logged(bounded.clone(), || (0..5).for_each(fail));
        assert_eq!(lines(), ["failed n=0", "failed n=1"]);
        advance(59);
        bounded.sweep();
        assert!(lines().is_empty());
        advance(1);
        bounded.sweep();
        assert_eq!(lines(), ["failed n=2 left_out=2"]);
        advance(60);
        bounded.sweep();
        bounded.sweep();
        advance(60);
        bounded.sweep();
        assert!(bounded.state.kinds.lock().is_empty(), "kinds without lines are forgotten");
        logged(bounded.clone(), || (0..2).for_each(fail));
        assert_eq!(lines(), ["failed n=0", "failed n=1"]);
        advance(60);
        logged(bounded.clone(), || fail(7));
        assert_eq!(lines(), ["failed n=7"], "few lines are never held back");
    }

    #[test]
    fn each_kind_has_a_bound_of_its_own_and_a_library_one_line() {
        let (bounded, lines) = log(2, 4);
        logged(bounded.clone(), || {
            for n in 0..6 {
                fail(n);
                library_fails();
                tracing::info!(n, "connected");
                tracing::info!(target: "audit", event = "login", n);
                tracing::debug!("asked for");
            }
        });
        let lines = lines();
        let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        let counts = ["failed n=", "accept failed", "connected", "login", "asked for"].map(count);
        assert_eq!(counts, [2, 1, 4, 6, 6], "{lines:#?}");
    }

    #[test]
    fn bounds_of_0_are_none_and_can_be_changed() {
        let (bounded, lines) = log(0, 0);
        logged(bounded.clone(), || {
            for n in 0..500 {
                fail(n);
                library_fails();
            }
            assert_eq!(lines().len(), 1000);
            bounded.set(&LogConfig { warnings_per_minute: 1, ..LogConfig::default() });
            (0..5).for_each(fail);
            assert_eq!(lines().len(), 1);
        });
    }
}
