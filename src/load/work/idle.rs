//! `idle`: what a connection that does nothing costs.

use futures_util::future::BoxFuture;
use std::time::Duration;

use tokio::time::sleep;

use super::{Bench, Meter, outcome};
use crate::load::Result;
use crate::load::process::Process;
use crate::load::receivers::{Receivers, Shared, connect};
use crate::load::report::Outcome;

/// Connections that are made first, so that what all share is there.
const WARM_UP: usize = 20;
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;
/// The time for the server to come to rest.
const REST: Duration = Duration::from_millis(700);

impl Bench<'_> {
    /// Opens connections and holds them.
    pub(super) fn idle(&mut self, connections: usize) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            let (target, mut outcome) = (self.target(), outcome("idle", &[("connections", connections as f64)]));
            let recipients = self.recipients(self.sizes.recipients.min(connections)).await?;
            // Several connections of one account share its groups, and so cost less each than those of as many accounts.
            outcome.parameters.insert("accounts".into(), recipients.len() as f64);
            let tokens = |count: usize| recipients.iter().cycle().take(count).map(|one| one.token.clone()).collect::<Vec<_>>();
            drop(connect(&target, tokens(WARM_UP), AT_ONCE, &mut outcome.refused).await?);
            sleep(REST).await;
            let before = self.process.and_then(Process::memory);
            let meter = Meter::start(self.process);
            let sockets = connect(&target, tokens(connections), AT_ONCE, &mut outcome.refused).await?;
            let open = sockets.len();
            meter.fill(&mut outcome, open as u64);
            self.progress.show("idle", 0.5);
            let shared = Shared::new(crate::load::receivers::Flow::Free);
            let receivers = Receivers::start(sockets, &shared);
            sleep(REST).await;
            let after = self.process.and_then(Process::memory);
            outcome.memory_bytes = after;
            outcome.figures.insert("connections".into(), open as f64);
            outcome.figures.insert("connects_per_second".into(), outcome.rate);
            // Per million, in seconds, is each, in microseconds.
            if let Some(each) = outcome.cpu_seconds_per_million {
                outcome.figures.insert("cpu_us_per_connect".into(), each);
            }
            if let (Some(before), Some(after)) = (before, after)
                && open > 0
            {
                outcome.figures.insert("bytes_per_connection".into(), after.saturating_sub(before) as f64 / open as f64);
            }
            let inboxes = receivers.end().await;
            super::conclude(&mut outcome, &shared, &[], &inboxes);
            Ok(outcome)
        })
    }
}
