//! Periodic clean-up: expires messages, tickets and pairings, evicts idle limiters, writes the times of last use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::core::boot::BootInstant;
use crate::monitor;
use crate::telemetry::audit::AuditEvent;

/// The interval at which due messages of the mailbox expire.
const MAILBOX_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The number of these intervals between two samples of the history.
const SAMPLE_EVERY_TICKS: u64 = 10;
/// The number of these intervals between two sweeps of everything.
const FULL_SWEEP_EVERY_TICKS: u64 = 60;

/// Sweeps until its task is aborted.
pub async fn run(app: Arc<App>) {
    let mut tick = interval(MAILBOX_SWEEP_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0u64.. {
        tick.tick().await;
        let full = n % FULL_SWEEP_EVERY_TICKS == 0;
        // Before the mailbox, whose sweep commits each minute anyway: the sample is in the same commit.
        if n > 0 && n % SAMPLE_EVERY_TICKS == 0 {
            monitor::sample(&app, full).await;
        }
        if let Err(error) = app.mailbox.sweep(full).await {
            tracing::warn!(%error, "failed to sweep the mailbox");
        }
        app.audit.schedule();
        if full {
            if let Some(count) = app.admission.sweep() {
                app.audit.record(AuditEvent::LeftOut(count), None, None);
            }
            app.handlers().sweep();
            app.polls.sweep(BootInstant::now());
            if let Err(error) = app.sweep_auth().await {
                tracing::warn!(%error, "failed to write the times of last use");
            }
        }
    }
}
