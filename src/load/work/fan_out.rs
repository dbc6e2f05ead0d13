//! `fan-out`: live messages to everybody who is connected.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::push::{Answered, body, post};
use super::{Bench, Meter, Tasks, conclude, merge, outcome};
use crate::core::awake::timeout;
use crate::load::http::Http;
use crate::load::ledger::Sent;
use crate::load::mark::{EVERYBODY, Mark};
use crate::load::pace;
use crate::load::receivers::{Flow, Receivers, Refusals, Shared, connect};
use crate::load::report::Outcome;
use crate::load::work::Delivery;
use crate::load::ws::Socket;
use crate::load::{LoadError, Result};

/// Messages that may be open where there is no rate, counted by their deliveries: a message may be sent once as many recipients as it has
/// have received others.
const WINDOW: usize = 4;
/// Those at a fixed rate, where none is waited for while the server keeps up.
const WINDOW_AT_A_RATE: usize = 2048;
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;
/// The longest wait until everybody has a message.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

impl Bench<'_> {
    /// Broadcasts to all recipients: as fast as they receive, or at a rate.
    pub(super) fn fan_out(&mut self, rate: Option<f64>) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            let recipients = self.recipients(self.sizes.recipients).await?;
            let tokens = recipients.iter().map(|one| one.token.clone()).collect();
            let mut refused = Refusals::new();
            let sockets = connect(&self.target(), tokens, AT_ONCE, &mut refused).await?;
            let name = if rate.is_some() { "fan-out rate" } else { "fan-out max" };
            let mut outcome = publish_to(self, name, "/api/messages/broadcast/", rate, sockets).await?;
            merge(&mut outcome.refused, refused);
            Ok(outcome)
        })
    }
}

/// Publishes live messages to a path, whose recipients `sockets` are.
///
/// # Errors
/// A server that can't be reached, or fails.
pub fn publish_to<'a>(
    bench: &'a Bench<'_>,
    name: &'a str,
    path: &'a str,
    rate: Option<f64>,
    sockets: Vec<(usize, Socket)>,
) -> BoxFuture<'a, Result<Outcome>> {
    Box::pin(async move {
        let mut outcome = outcome(name, &[("recipients", bench.sizes.recipients as f64), ("size", bench.sizes.size as f64)]);
        if let Some(rate) = rate {
            outcome.parameters.insert("rate".into(), rate);
        }
        let window = if rate.is_some() { WINDOW_AT_A_RATE } else { WINDOW };
        let shared = Shared::new(Flow::Window(Semaphore::new(window * sockets.len())));
        let receivers = Receivers::start(sockets, &shared);
        let count = receivers.count();
        let due = rate.and_then(|rate| pace::start(shared.epoch, rate, bench.span(), 1).pop());
        let mut publisher = Publisher {
            http: Http::new(bench.population.target(), bench.population.admin()),
            path: path.to_owned(),
            size: bench.sizes.size,
            recipients: count as u32,
            shared: shared.clone(),
            sent: Sent { sender: 0, recipient: EVERYBODY, ..Sent::default() },
            refused: Refusals::new(),
        };
        let (meter, span, mut tasks) = (Meter::start(bench.process), bench.span(), Tasks::new());
        tasks.spawn(Box::pin(async move {
            publisher.run(due, span).await?;
            Ok((publisher.sent, publisher.refused))
        }));
        let mut all = Vec::new();
        for (sent, refused) in tasks.join(&bench.progress, name, span).await? {
            all.push(sent);
            merge(&mut outcome.refused, refused);
        }
        let expected = all.iter().map(|sent| u64::from(sent.count) - sent.unsure.len() as u64).sum::<u64>() * count as u64;
        shared.wait_for(expected).await;
        meter.fill(&mut outcome, shared.received.load(Ordering::Acquire));
        outcome.figures.insert("connections".into(), count as f64);
        let inboxes = receivers.end().await;
        conclude(&mut outcome, &shared, &all, &inboxes);
        Ok(outcome)
    })
}

/// One connection that broadcasts.
struct Publisher {
    http: Http,
    path: String,
    size: usize,
    recipients: u32,
    shared: Arc<Shared>,
    sent: Sent,
    refused: Refusals,
}

impl Publisher {
    /// Publishes at due times, or without them as long as `span`.
    async fn run(&mut self, mut due: Option<mpsc::Receiver<u64>>, span: Duration) -> Result<()> {
        let (begin, shared) = (Instant::now(), self.shared.clone());
        let Flow::Window(permits) = &shared.flow else { return Ok(()) };
        let mut out = Vec::new();
        while self.recipients > 0 {
            let nanos = match &mut due {
                Some(due) => match due.recv().await {
                    Some(nanos) => Some(nanos),
                    None => break,
                },
                None if begin.elapsed() >= span => break,
                None => None,
            };
            match timeout(OPEN_TIMEOUT, permits.acquire_many(self.recipients)).await {
                Ok(Ok(permit)) => permit.forget(),
                _ => break, // a message does not arrive: it will be counted
            }
            let number = self.sent.count;
            let nanos = nanos.unwrap_or_else(|| shared.now());
            body(&mut out, &shared.marks, Mark { sender: 0, recipient: EVERYBODY, number, nanos }, self.size, Delivery::Live);
            match post(&mut self.http, &self.path, &out, &mut self.refused).await? {
                Answered::Accepted => self.sent.count += 1,
                Answered::Refused => {
                    permits.add_permits(self.recipients as usize);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Answered::Unknown(error) => {
                    self.sent.unsure.push(number);
                    self.sent.count += 1;
                    shared.note_end(&error);
                    if self.sent.unsure.len() > super::push::MOST_UNSURE {
                        return Err(LoadError::Other(format!("the server breaks connections: {error}")));
                    }
                }
            }
        }
        Ok(())
    }
}
