//! Periodic cleaning: limiters forget, tickets run out, sightings are written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Sweeps until its task is aborted.
pub async fn run(app: Arc<App>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        app.door.sweep();
        if let Err(error) = app.auth.sweep().await {
            tracing::warn!(%error, "sightings were not written");
        }
    }
}
