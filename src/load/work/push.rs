//! `push-live`, `push-queued`: messages by REST to single recipients.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::{Bench, Meter, Tasks, conclude, merge, outcome};
use crate::core::awake::timeout;
use crate::load::error::Doing;
use crate::load::http::{Http, check};
use crate::load::ledger::Sent;
use crate::load::mark::{Mark, Marks};
use crate::load::pace;
use crate::load::population::Recipient;
use crate::load::receivers::{Flow, Receivers, Refusals, Shared, connect, refused};
use crate::load::report::Outcome;
use crate::load::{LoadError, Result};

/// Messages that may be open, sent and not received, for each sender.
const WINDOW_PER_SENDER: usize = 8;
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;
/// The longest wait for a message that is open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Sends of unknown acceptance after which a load ends.
pub(super) const MOST_UNSURE: usize = 100;
/// The pause after a refusal.
const REFUSAL_PAUSE: Duration = Duration::from_millis(10);

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// To whoever is connected, and not kept.
    Live,
    /// On disk until it is received.
    Queued,
}

impl Delivery {
    /// Returns the word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Queued => "queued",
        }
    }
}

/// Writes the body of a send; the text of its message has the mark, and `size` bytes if the mark is not longer.
pub(super) fn body(out: &mut Vec<u8>, marks: &Marks, mark: Mark, size: usize, delivery: Delivery) {
    out.clear();
    out.extend_from_slice(br#"{"type":"bench","message":""#);
    let start = out.len();
    marks.append(out, mark);
    out.resize(out.len().max(start + size), b'x');
    out.extend_from_slice(match delivery {
        Delivery::Live => br#"","delivery":"live"}"#,
        Delivery::Queued => br#""}"#,
    });
}

/// What came of a send.
pub(super) enum Answered {
    /// Accepted.
    Accepted,
    /// Refused by a limit, which is counted.
    Refused,
    /// The connection broke: nobody knows.
    Unknown(LoadError),
}

/// Posts a message.
///
/// # Errors
/// An answer that is neither a success nor a refusal by a limit.
pub(super) async fn post(http: &mut Http, path: &str, body: &[u8], refusals: &mut Refusals) -> Result<Answered> {
    match http.send("POST", path, body).await {
        Ok((status, answer)) => match check(Doing::Call, "POST /api/messages", status, answer) {
            Ok(()) => Ok(Answered::Accepted),
            Err(error) => refused(refusals, error).map(|()| Answered::Refused),
        },
        Err(error @ LoadError::Io { .. }) => Ok(Answered::Unknown(error)),
        Err(error) => Err(error),
    }
}

/// Sends to those of the recipients who are connected: as fast as they receive, or at a rate.
///
/// # Errors
/// A server that can't be reached, or fails.
pub fn push<'a>(
    bench: &'a Bench<'_>,
    delivery: Delivery,
    rate: Option<f64>,
    recipients: &'a [Recipient],
) -> BoxFuture<'a, Result<Outcome>> {
    Box::pin(async move {
        let name = format!("push {} {}", delivery.word(), if rate.is_some() { "rate" } else { "max" });
        let senders = bench.sizes.senders.min(recipients.len()).max(1);
        let mut outcome = outcome(
            &name,
            &[("recipients", recipients.len() as f64), ("senders", senders as f64), ("size", bench.sizes.size as f64)],
        );
        if let Some(rate) = rate {
            outcome.parameters.insert("rate".into(), rate);
        }
        let tokens = recipients.iter().map(|one| one.token.clone()).collect();
        let sockets = connect(&bench.target(), tokens, AT_ONCE, &mut outcome.refused).await?;
        let open: Vec<usize> = sockets.iter().map(|(at, _)| *at).collect();
        let window = if rate.is_some() { Semaphore::MAX_PERMITS / 2 } else { senders * WINDOW_PER_SENDER };
        let shared = Shared::new(Flow::Window(Semaphore::new(window)));
        let receivers = Receivers::start(sockets, &shared);
        let mut due = rate.map(|rate| pace::start(shared.epoch, rate, bench.span(), senders)).unwrap_or_default().into_iter();
        let (meter, mut tasks) = (Meter::start(bench.process), Tasks::new());
        for number in 0..senders {
            let own = open.iter().filter(|at| *at % senders == number).map(|at| (*at as u32, recipients[*at].path.clone()));
            let sender = Sender::new(bench, number as u32, own, delivery, &shared);
            let (due, span) = (due.next(), bench.span());
            tasks.spawn(sender.run(due, Stop::After(span)));
        }
        let mut all = Vec::new();
        for (sent, refused) in tasks.join(&bench.progress, &name, bench.span()).await? {
            all.extend(sent);
            merge(&mut outcome.refused, refused);
        }
        let expected = all.iter().map(|sent| u64::from(sent.count) - sent.unsure.len() as u64).sum();
        shared.wait_for(expected).await;
        meter.fill(&mut outcome, shared.received.load(Ordering::Acquire));
        let inboxes = receivers.end().await;
        conclude(&mut outcome, &shared, &all, &inboxes);
        Ok(outcome)
    })
}

/// The end of what a sender sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// After a time, where nothing says when messages are due.
    After(Duration),
    /// At a number of messages, whether anybody receives them or not.
    At(usize),
}

/// One connection that sends to recipients of its own in turn, so that the order of what each receives is defined.
pub(super) struct Sender {
    http: Http,
    number: u32,
    paths: Vec<String>,
    sent: Vec<Sent>,
    refused: Refusals,
    delivery: Delivery,
    size: usize,
    shared: Arc<Shared>,
}

impl Sender {
    /// For recipients with those numbers and paths.
    pub(super) fn new(
        bench: &Bench<'_>,
        number: u32,
        recipients: impl Iterator<Item = (u32, String)>,
        delivery: Delivery,
        shared: &Arc<Shared>,
    ) -> Self {
        let sent = |recipient| Sent { sender: number, recipient, ..Sent::default() };
        let (sent, paths) = recipients.map(|(recipient, path)| (sent(recipient), path)).unzip();
        Self {
            http: Http::new(bench.population.target(), bench.population.admin()),
            number,
            paths,
            sent,
            refused: Refusals::new(),
            delivery,
            size: bench.sizes.size,
            shared: shared.clone(),
        }
    }

    /// With another token than the administrator's.
    pub(super) fn with_token(mut self, token: &str) -> Self {
        self.http.authorize(token);
        self
    }

    /// Sends at due times, or without them until `stop`.
    pub(super) fn run(
        mut self,
        mut due: Option<mpsc::Receiver<u64>>,
        stop: Stop,
    ) -> BoxFuture<'static, Result<(Vec<Sent>, Refusals)>> {
        Box::pin(async move {
            let (begin, mut turn) = (Instant::now(), 0);
            while !self.sent.is_empty() {
                let nanos = match &mut due {
                    Some(due) => match due.recv().await {
                        Some(nanos) => Some(nanos),
                        None => break,
                    },
                    None => None,
                };
                let stops = match stop {
                    Stop::After(span) => due.is_none() && begin.elapsed() >= span,
                    Stop::At(count) => turn >= count,
                };
                if stops || !self.send(turn, nanos).await? {
                    break;
                }
                turn += 1;
            }
            Ok((self.sent, self.refused))
        })
    }

    /// Sends the message of that turn; false where the ones before it don't arrive.
    async fn send(&mut self, turn: usize, nanos: Option<u64>) -> Result<bool> {
        let shared = self.shared.clone();
        if let Flow::Window(permits) = &shared.flow {
            match timeout(OPEN_TIMEOUT, permits.acquire()).await {
                Ok(Ok(permit)) => permit.forget(),
                _ => return Ok(false),
            }
        }
        let at = turn % self.sent.len();
        let (sent, mut out) = (&mut self.sent[at], Vec::with_capacity(self.size + 64));
        let nanos = nanos.unwrap_or_else(|| shared.now());
        let mark = Mark { sender: self.number, recipient: sent.recipient, number: sent.count, nanos };
        body(&mut out, &shared.marks, mark, self.size, self.delivery);
        match post(&mut self.http, &self.paths[at], &out, &mut self.refused).await? {
            Answered::Accepted => sent.count += 1,
            Answered::Refused => {
                // Its number is used again.
                if let Flow::Window(permits) = &shared.flow {
                    permits.add_permits(1);
                }
                tokio::time::sleep(REFUSAL_PAUSE).await;
            }
            Answered::Unknown(error) => {
                sent.unsure.push(sent.count);
                sent.count += 1;
                if sent.unsure.len() > MOST_UNSURE {
                    return Err(LoadError::Other(format!("the server breaks connections: {error}")));
                }
                shared.note_end(&error);
            }
        }
        Ok(true)
    }
}
