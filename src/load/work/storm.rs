//! `storm`: all connections end at once and come back at once, each to a message that waits.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::push::{Sender, Stop};
use super::{Bench, Delivery, Meter, Tasks, conclude, merge, outcome};
use crate::core::awake::timeout;
use crate::load::ledger::Inbox;
use crate::load::receivers::{Flow, Shared, connect, refused};
use crate::load::report::Outcome;
use crate::load::ws::Socket;
use crate::load::{LoadError, Refusal, Result};

/// Connections that are made at the same time, before the storm.
const AT_ONCE: usize = 64;
/// The longest wait for the message that waits.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

impl Bench<'_> {
    /// Ends the connections, and measures how they come back.
    pub(super) fn storm(&mut self) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            let recipients = self.recipients(self.sizes.recipients).await?;
            let mut outcome = outcome("storm", &[("connections", recipients.len() as f64)]);
            let tokens = recipients.iter().map(|one| one.token.clone()).collect();
            let sockets = connect(&self.target(), tokens, AT_ONCE, &mut outcome.refused).await?;
            let open: Vec<usize> = sockets.iter().map(|(at, _)| *at).collect();
            drop(sockets);
            let shared = Shared::new(Flow::Free);
            let own = open.iter().map(|at| (*at as u32, recipients[*at].path.clone()));
            let (mut sent, refused) =
                Sender::new(self, 0, own, Delivery::Queued, &shared).run(None, Stop::At(open.len())).await?;
            merge(&mut outcome.refused, refused);
            self.progress.show("storm", 0.3);

            let (target, mut tasks, begin) = (self.target(), Tasks::new(), Instant::now());
            let meter = Meter::start(self.process);
            for at in open {
                let (target, token, shared) = (target.clone(), recipients[at].token.clone(), shared.clone());
                let waits = sent.iter().any(|sent| sent.recipient == at as u32 && sent.count > 0 && sent.unsure.is_empty());
                tasks.spawn(Box::pin(async move { come_back(&target, &token, at, waits, begin, &shared).await }));
            }
            let (mut inboxes, mut took) = (Vec::new(), Duration::ZERO);
            for back in tasks.join(&self.progress, "storm", self.span()).await? {
                match back {
                    Ok((inbox, after)) => {
                        inboxes.push(inbox);
                        took = took.max(after);
                    }
                    // Its message still waits.
                    Err((at, refusal)) => {
                        sent.retain(|sent| sent.recipient != at as u32);
                        refused_by(&mut outcome, refusal)?;
                    }
                }
            }
            meter.fill(&mut outcome, inboxes.len() as u64);
            // Without the time for acknowledgements.
            outcome.seconds = took.as_secs_f64();
            outcome.rate = inboxes.len() as f64 / outcome.seconds.max(f64::MIN_POSITIVE);
            outcome.figures.insert("connects_per_second".into(), outcome.rate);
            if let Some(each) = outcome.cpu_seconds_per_million {
                outcome.figures.insert("cpu_us_per_connect_and_message".into(), each);
            }
            outcome.figures.insert("messages_received".into(), shared.received.load(Ordering::Acquire) as f64);
            conclude(&mut outcome, &shared, &sent, &inboxes);
            Ok(outcome)
        })
    }
}

fn refused_by(outcome: &mut Outcome, refusal: Refusal) -> Result<()> {
    refused(&mut outcome.refused, LoadError::Refused(refusal))
}

/// Connects and receives what waits; returns how long after the beginning of the storm it had it, which is also the latency. A refusal
/// comes back with the place.
async fn come_back(
    target: &crate::load::Target,
    token: &str,
    at: usize,
    waits: bool,
    begin: Instant,
    shared: &Arc<Shared>,
) -> Result<Result<(Inbox, Duration), (usize, Refusal)>> {
    let mut socket = match Socket::connect(target, token, "").await {
        Ok(socket) => socket,
        Err(LoadError::Refused(refusal)) => return Ok(Err((at, refusal))),
        Err(error) => return Err(error),
    };
    let mut inbox = Inbox::new(at as u32);
    let mut received = false;
    let receiving = async {
        while waits && !received {
            let Some(mark) = shared.marks.find(socket.next().await?) else { continue };
            inbox.record(mark);
            shared.received.fetch_add(1, Ordering::AcqRel);
            received = true;
        }
        Ok::<_, LoadError>(())
    };
    // Without it, it counts as lost.
    if let Ok(outcome) = timeout(MESSAGE_TIMEOUT, receiving).await
        && let Err(error) = outcome
    {
        shared.note_end(&error);
    }
    let after = begin.elapsed();
    shared.latencies.record(at, after);
    // Reads on a while: the answer to the ping behind the message acknowledges it.
    let _ = timeout(Duration::from_millis(200), async {
        loop {
            let Ok(text) = socket.next().await else { break };
            if let Some(mark) = shared.marks.find(text) {
                inbox.record(mark);
            }
        }
    })
    .await;
    Ok(Ok((inbox, after)))
}
