//! Metrics: one struct for each concern, passed down from [`App`](crate::app::App).
//!
//! # Invariants
//! - Recording never blocks: relaxed atomics only, no lock, no allocation. It may happen for every message.
//! - The values of every label are enumerated (`labels`) and exposed from the start, at 0: a client can't create new ones, and an
//!   alert on a rate sees the first event.
//! - Nothing is counted twice: numbers that another module keeps anyway (connections, groups, pending messages) are read when
//!   the page is rendered ([`Snapshot`]).
//!
//! `instruments` holds counters and histograms, `labels` their labels, `classify` the label of each wire type,
//! `operation_stats` durations, `process` the resource usage of the process, `page` the metrics page and `exposition` its text
//! format.

mod classify;
mod exposition;
mod instruments;
mod labels;
mod operation_stats;
mod page;
pub mod process;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::time::Timestamp;
use crate::telemetry::live::Live;
use crate::wire::{Command, Event};

pub use exposition::CONTENT_TYPE;
pub use instruments::{Counter, CounterFamily, CounterMatrix, Histogram, Label};
pub use labels::{
    LogIn, Operation, Received, Refused, Route, Sent, SentError, SessionEnd, StatusClass, Upstream, UpstreamOutcome,
};
pub use operation_stats::OperationStats;
pub use page::{GroupStats, Snapshot};

/// All metrics since the start.
#[derive(Debug)]
pub struct Metrics {
    /// The time of the start.
    pub started: Timestamp,
    /// WebSocket sessions.
    pub sessions: Sessions,
    /// Messages on these sessions.
    pub traffic: Traffic,
    /// Queued messages.
    pub mailbox: Mailbox,
    /// Refusals, by reason.
    pub refused: CounterFamily<Refused>,
    /// Password log-ins, by result.
    pub logins: CounterFamily<LogIn>,
    /// Calls of upstreams, by outcome.
    pub upstreams: CounterMatrix<Upstream, UpstreamOutcome>,
    /// HTTP requests.
    pub http: Http,
    /// Refusals that were left out of the audit trail.
    pub audit_suppressed: Counter,
    /// Commits of the store's writer.
    pub commits: Arc<Commits>,
    /// Events for those who look on. Without anybody, they cost a relaxed load.
    pub live: Live,
    /// Indexed by [`Operation`]; the entry of `Commit` is unused, its statistics are in `commits`.
    timed: Box<[OperationStats]>,
}

/// WebSocket sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Sessions that were accepted.
    pub started: Counter,
    /// Sessions that ended, including those that were refused right after the handshake.
    pub ended: CounterFamily<SessionEnd>,
    /// Sessions, of those that ended with 4102, whose peer still acknowledged.
    pub stalled: Counter,
    /// Sessions that the client closed with 1009: a message was too large for it.
    pub too_big_for_client: Counter,
    /// Sessions that proved nothing for two ping intervals, although messages were in flight and the client was alive.
    pub unproved: Counter,
}

/// Messages in both directions.
#[derive(Debug)]
pub struct Traffic {
    /// Messages from clients.
    pub received: CounterFamily<Received>,
    /// Messages to clients.
    pub sent: CounterFamily<Sent>,
    /// `error` events among the messages to clients.
    pub errors: CounterFamily<SentError>,
    /// Returns to the log of sessions that had missed live messages.
    pub rereads: Counter,
    /// The sizes of delivery windows after each change, in messages.
    pub windows: Histogram,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            received: CounterFamily::default(),
            sent: CounterFamily::default(),
            errors: CounterFamily::default(),
            rereads: Counter::default(),
            windows: Histogram::of_sizes(),
        }
    }
}

impl Traffic {
    /// Counts an event that is written to a client.
    #[inline]
    pub fn record_sent(&self, event: &Event) {
        self.sent.inc(event.into());
        if let Event::Error { code, .. } = event {
            self.errors.inc((*code).into());
        }
    }
}

/// Queued messages.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Messages that were accepted.
    pub accepted: Counter,
    /// Messages that were acknowledged, once for each reader.
    pub delivered: Counter,
    /// Messages that expired before they were acknowledged.
    pub expired: Counter,
    /// Messages that were taken back before they were acknowledged.
    pub cancelled: Counter,
    /// Messages that were cleared before they were acknowledged.
    pub cleared: Counter,
    /// Messages that every reader passed over.
    pub undeliverable: Counter,
    /// Messages that one reader passed over.
    pub passed_over: Counter,
    /// Messages that were removed before every reader had them.
    pub missed: Counter,
    /// Receipts that were removed before their time.
    pub receipts_evicted: Counter,
    /// Pongs and acks that acknowledge no message in flight.
    pub unmatched_acks: Counter,
}

/// HTTP requests.
#[derive(Debug)]
pub struct Http {
    /// Requests by route and class of the status.
    pub requests: CounterMatrix<Route, StatusClass>,
    /// The time until the head of the response was ready, by route.
    durations: Box<[Histogram]>,
}

impl Default for Http {
    fn default() -> Self {
        let durations = Route::ALL.iter().map(|_| Histogram::of_durations()).collect();
        Self { requests: CounterMatrix::default(), durations }
    }
}

impl Http {
    /// Records a request that was answered with `status`.
    pub fn record_response(&self, route: Route, status: u16, duration: Duration) {
        self.requests.of(route).inc(StatusClass::of(status));
        self.duration(route).observe_duration(duration);
    }

    /// Returns the durations of requests for `route`.
    pub fn duration(&self, route: Route) -> &Histogram {
        &self.durations[route.index()]
    }
}

/// Commits of the store's writer. Created with the store, which is opened before everything else.
#[derive(Debug)]
pub struct Commits {
    /// The durations of flush and sync; a failure ends the server.
    pub timed: OperationStats,
    /// The number of changes per commit for which a caller waited.
    pub batch: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        Self { timed: OperationStats::new(Operation::Commit), batch: Histogram::of_sizes() }
    }
}

impl Metrics {
    /// Creates metrics at 0, except for `commits`, which the store updates already.
    pub fn new(commits: Arc<Commits>) -> Arc<Self> {
        Arc::new(Self {
            started: Timestamp::now(),
            sessions: Sessions::default(),
            traffic: Traffic::default(),
            mailbox: Mailbox::default(),
            refused: CounterFamily::default(),
            logins: CounterFamily::default(),
            upstreams: CounterMatrix::default(),
            http: Http::default(),
            audit_suppressed: Counter::default(),
            commits,
            live: Live::default(),
            timed: Operation::ALL.iter().map(|&operation| OperationStats::new(operation)).collect(),
        })
    }

    /// Returns the durations of `operation`.
    #[inline]
    pub fn timed(&self, operation: Operation) -> &OperationStats {
        match operation {
            Operation::Commit => &self.commits.timed,
            other => &self.timed[other.index()],
        }
    }

    /// Returns the durations of every operation.
    pub fn operations(&self) -> impl Iterator<Item = &OperationStats> {
        Operation::ALL.iter().map(|&operation| self.timed(operation))
    }

    /// Records a call of an upstream that began at `began` and ended now. A call that was not made (`CircuitOpen`, `Busy`) has no
    /// duration.
    pub fn record_upstream_call(&self, upstream: Upstream, outcome: UpstreamOutcome, began: Instant) {
        self.upstreams.of(upstream).inc(outcome);
        if !matches!(outcome, UpstreamOutcome::CircuitOpen | UpstreamOutcome::Busy) {
            self.timed(upstream.into()).record(began.elapsed(), outcome == UpstreamOutcome::Ok, Timestamp::now());
        }
    }

    /// Records a command that was received at `began` and answered with `answer` at `now`.
    #[inline]
    pub fn record_command(&self, command: &MeasuredCommand, answer: &Event, took: Duration, now: Timestamp) {
        let success = !matches!(answer, Event::Error { .. });
        self.timed(command.operation).record_named(command.custom_type.as_deref(), took, success, now);
    }
}

/// The label of a command, kept while the command itself is consumed.
#[derive(Debug, Clone)]
pub struct MeasuredCommand {
    operation: Operation,
    /// The type of a custom message, for the log.
    custom_type: Option<String>,
}

impl From<&Command> for MeasuredCommand {
    fn from(command: &Command) -> Self {
        let custom_type = if let Command::Custom { kind, .. } = command { Some(kind.clone()) } else { None };
        Self { operation: command.into(), custom_type }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timed_returns_the_statistics_of_its_operation() {
        let metrics = Metrics::new(Arc::default());
        for &operation in Operation::ALL {
            assert_eq!(metrics.timed(operation).operation(), operation);
        }
    }

    #[test]
    fn upstream_call_that_was_not_made_has_no_duration() {
        let metrics = Metrics::new(Arc::default());
        for outcome in [UpstreamOutcome::Ok, UpstreamOutcome::TooSlow, UpstreamOutcome::CircuitOpen] {
            metrics.record_upstream_call(Upstream::Custom, outcome, Instant::now());
        }
        assert_eq!(metrics.upstreams.of(Upstream::Custom).sum(), 3);
        let timed = metrics.timed(Operation::UpstreamCustom);
        assert_eq!((timed.total(), timed.failures.get()), (2, 1));
    }
}
