//! `offline`: messages for recipients who are absent, and who then come and receive them.

use futures_util::future::BoxFuture;
use std::sync::atomic::Ordering;

use super::push::{Sender, Stop};
use super::{Bench, Delivery, Meter, Tasks, conclude, merge, outcome};
use crate::load::Result;
use crate::load::process::Process;
use crate::load::receivers::{Flow, Receivers, Shared, connect};
use crate::load::report::Outcome;

/// The recipients.
const RECIPIENTS: usize = 100;
/// Connections that are made at the same time.
const AT_ONCE: usize = 64;

impl Bench<'_> {
    /// Queues, and drains.
    pub(super) fn offline(&mut self) -> BoxFuture<'_, Result<Vec<Outcome>>> {
        Box::pin(async move {
            let recipients = self.recipients(RECIPIENTS.min(self.sizes.recipients)).await?;
            let senders = self.sizes.senders;
            let parameters = [
                ("recipients", recipients.len() as f64),
                ("messages", self.sizes.waiting as f64),
                ("size", self.sizes.size as f64),
            ];
            let (mut queue, mut drain) = (outcome("offline queue", &parameters), outcome("offline drain", &parameters));
            let shared = Shared::new(Flow::Free);
            let (disk, memory) = (self.store_bytes(), self.process.and_then(Process::memory));
            let (meter, mut tasks) = (Meter::start(self.process), Tasks::new());
            for number in 0..senders {
                // Each recipient has one sender, or where there are fewer recipients than senders, all of them.
                let own = (0..recipients.len()).filter(|at| at % senders == number || recipients.len() < senders);
                let own = own.map(|at| (at as u32, recipients[at].path.clone()));
                let count = self.sizes.waiting / senders + usize::from(number < self.sizes.waiting % senders);
                tasks.spawn(Sender::new(self, number as u32, own, Delivery::Queued, &shared).run(None, Stop::At(count)));
            }
            let mut all = Vec::new();
            for (sent, refused) in tasks.join(&self.progress, "offline", self.span()).await? {
                all.extend(sent);
                merge(&mut queue.refused, refused);
            }
            let accepted = all.iter().map(|sent| u64::from(sent.count) - sent.unsure.len() as u64).sum::<u64>();
            meter.fill(&mut queue, accepted);
            let each =
                |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?) as f64 / accepted.max(1) as f64);
            if let Some(bytes) = each(disk, self.store_bytes()) {
                queue.figures.insert("disk_bytes_per_message".into(), bytes);
            }
            if let Some(bytes) = each(memory, queue.memory_bytes) {
                queue.figures.insert("memory_bytes_per_message".into(), bytes);
            }
            let meter = Meter::start(self.process);
            let sockets =
                connect(&self.target(), recipients.iter().map(|one| one.token.clone()).collect(), AT_ONCE, &mut drain.refused)
                    .await?;
            let connected: Vec<u32> = sockets.iter().map(|(at, _)| *at as u32).collect();
            // What waits for those whom a limit keeps out is not lost.
            all.retain(|sent| connected.contains(&sent.recipient));
            let expected = all.iter().map(|sent| u64::from(sent.count) - sent.unsure.len() as u64).sum::<u64>();
            let receivers = Receivers::start(sockets, &shared);
            shared.wait_for(expected).await;
            meter.fill(&mut drain, shared.received.load(Ordering::Acquire));
            let inboxes = receivers.end().await;
            conclude(&mut drain, &shared, &all, &inboxes);
            drain.latency_us = None; // the time for which they waited
            Ok(vec![queue, drain])
        })
    }
}
