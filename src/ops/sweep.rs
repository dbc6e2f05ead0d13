//! Periodic clean-up: expires messages, tickets and pairings, evicts idle limiters, writes the times of last use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;

/// How often the mailbox looks for what is due.
const EVERY: Duration = Duration::from_secs(1);
/// Every so many of these, everything else is swept, too.
const THOROUGH: u64 = 60;

/// Sweeps until its task is aborted.
pub async fn run(app: Arc<App>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0u64.. {
        tick.tick().await;
        let thorough = n % THOROUGH == 0;
        if let Err(error) = app.mailbox.sweep(thorough).await {
            tracing::warn!(%error, "the mailbox was not swept");
        }
        if thorough {
            app.admission.sweep();
            app.handlers().sweep();
            app.pairings.sweep(std::time::Instant::now());
            if let Err(error) = app.auth.sweep().await {
                tracing::warn!(%error, "the times of last use were not written");
            }
        }
    }
}
