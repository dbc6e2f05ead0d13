//! What is counted and measured: one struct for each concern, handed down from [`App`](crate::app::App).
//!
//! # Invariants
//! - Counting never waits: relaxed atomics only, no lock, no allocation. So it may stand where every message passes.
//! - Every label's values are enumerated (`labels`), and all of them are there at 0 from the start: a client can't make up new
//!   ones, and an alert on a rate sees the first event.
//! - Nothing is counted twice: what a room knows anyway (connections, groups, what waits) is asked for at the moment of a look
//!   ([`Look`]).
//!
//! `instrument` is counters and histograms, `labels` their labels, `of` what counts for which, `timed` how long things take, `process` what the system says,
//! `expose` the page that a collector reads, in the format of `text`.

mod expose;
mod instrument;
mod labels;
mod of;
pub mod process;
mod text;
mod timed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::time::Timestamp;
use crate::wire::{Command, Event};

pub use expose::{Group, Look};
pub use instrument::{Counter, Histogram, Label, Labelled, Pairs};
pub use labels::{Class, Ended, Fault, LogIn, Operation, Outcome, Received, Refused, Route, Sent, Upstream};
pub use text::CONTENT_TYPE;
pub use timed::Timed;

/// Everything that is counted since the start.
#[derive(Debug)]
pub struct Metrics {
    /// When that was.
    pub started: Timestamp,
    /// WebSockets.
    pub sessions: Sessions,
    /// What goes through them.
    pub traffic: Traffic,
    /// What waits for whom.
    pub mailbox: Mailbox,
    /// What was refused, by reason.
    pub refused: Labelled<Refused>,
    /// Log-ins by what they came to.
    pub logins: Labelled<LogIn>,
    /// Calls of upstreams, by how they ended.
    pub upstreams: Pairs<Upstream, Outcome>,
    /// HTTP.
    pub http: Http,
    /// Lines about refusals that the audit trail left out.
    pub audit_left_out: Counter,
    /// What the store's writer does.
    pub commits: Arc<Commits>,
    /// By [`Operation`]; the place of `Commit` is in `commits`.
    timed: Box<[Timed]>,
}

/// WebSockets.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Those that were let in.
    pub started: Counter,
    /// All that ended, those included that were refused right after the handshake.
    pub ended: Labelled<Ended>,
}

/// Messages, both ways.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From clients.
    pub received: Labelled<Received>,
    /// To clients.
    pub sent: Labelled<Sent>,
    /// `error` events among these.
    pub faults: Labelled<Fault>,
    /// Times a session that had missed something went back to the log.
    pub rereads: Counter,
}

impl Traffic {
    /// Notes that `event` is written to a client.
    pub fn says(&self, event: &Event) {
        self.sent.inc(event.into());
        if let Event::Error { code, .. } = event {
            self.faults.inc((*code).into());
        }
    }
}

/// What waits for whom.
#[derive(Debug, Default)]
pub struct Mailbox {
    /// Messages taken.
    pub accepted: Counter,
    /// Messages that their recipient has acknowledged; a broadcast counts for each user.
    pub delivered: Counter,
    /// Messages whose life ended before that.
    pub expired: Counter,
    /// Pongs and acks that nobody had asked for.
    pub strange_acks: Counter,
}

/// HTTP requests.
#[derive(Debug)]
pub struct Http {
    /// By what they are about and the class of the answer's status.
    pub requests: Pairs<Route, Class>,
    /// How long they took, until the answer's head was ready.
    durations: Box<[Histogram]>,
}

impl Default for Http {
    fn default() -> Self {
        Self { requests: Pairs::default(), durations: Route::ALL.iter().map(|_| Histogram::of_durations()).collect() }
    }
}

impl Http {
    /// Notes an answered request.
    pub fn answered(&self, route: Route, status: u16, took: Duration) {
        self.requests.of(route).inc(Class::of(status));
        self.duration(route).took(took);
    }

    /// How long those about `route` took.
    pub fn duration(&self, route: Route) -> &Histogram {
        &self.durations[route.index()]
    }
}

/// What the store's writer does. Made by the store, which comes before everything else.
#[derive(Debug)]
pub struct Commits {
    /// Flushing and syncing; a failure ends the server.
    pub timed: Timed,
    /// How many changes somebody waited for in one commit.
    pub batch: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        Self { timed: Timed::new(Operation::Commit), batch: Histogram::of_sizes() }
    }
}

impl Metrics {
    /// Everything at 0 but `commits`, which counts already.
    pub fn new(commits: Arc<Commits>) -> Arc<Self> {
        Arc::new(Self {
            started: Timestamp::now(),
            sessions: Sessions::default(),
            traffic: Traffic::default(),
            mailbox: Mailbox::default(),
            refused: Labelled::default(),
            logins: Labelled::default(),
            upstreams: Pairs::default(),
            http: Http::default(),
            audit_left_out: Counter::default(),
            commits,
            timed: Operation::ALL.iter().map(|&operation| Timed::new(operation)).collect(),
        })
    }

    /// How long `operation` takes.
    pub fn timed(&self, operation: Operation) -> &Timed {
        match operation {
            Operation::Commit => &self.commits.timed,
            other => &self.timed[other.index()],
        }
    }

    /// Every operation.
    pub fn operations(&self) -> impl Iterator<Item = &Timed> {
        Operation::ALL.iter().map(|&operation| self.timed(operation))
    }

    /// Notes a call of an upstream that began at `began` and ended now. One that was not made (`OutOfOrder`, `Busy`) took no time.
    pub fn called(&self, upstream: Upstream, outcome: Outcome, began: Instant) {
        self.upstreams.of(upstream).inc(outcome);
        if !matches!(outcome, Outcome::OutOfOrder | Outcome::Busy) {
            self.timed(upstream.into()).note(began.elapsed(), outcome == Outcome::Ok, Timestamp::now());
        }
    }

    /// Notes that `answer` to a command took from `began` until `now`.
    pub fn handled(&self, asked: &Asked, answer: &Event, began: Instant, now: Timestamp) {
        let well = !matches!(answer, Event::Error { .. });
        self.timed(asked.operation).note_named(asked.own.as_deref(), began.elapsed(), well, now);
    }
}

/// What was asked for, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Asked {
    operation: Operation,
    /// The type, where the configuration made it: for the log.
    own: Option<String>,
}

impl From<&Command> for Asked {
    fn from(command: &Command) -> Self {
        let own = if let Command::Own { kind, .. } = command { Some(kind.clone()) } else { None };
        Self { operation: command.into(), own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_own_place() {
        let metrics = Metrics::new(Arc::default());
        for &operation in Operation::ALL {
            assert_eq!(metrics.timed(operation).operation(), operation);
        }
    }

    #[test]
    fn calls_that_were_not_made_took_no_time() {
        let metrics = Metrics::new(Arc::default());
        for outcome in [Outcome::Ok, Outcome::TooSlow, Outcome::OutOfOrder] {
            metrics.called(Upstream::Own, outcome, Instant::now());
        }
        assert_eq!(metrics.upstreams.of(Upstream::Own).sum(), 3);
        let timed = metrics.timed(Operation::UpstreamOwn);
        assert_eq!((timed.total(), timed.failures.get()), (2, 1));
    }
}
