//! The overview: the figures of the present moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::core::time::Timestamp;
use crate::health::Health;

/// The time for which an overview is the present one: several consoles look at the same.
const PRESENT: Duration = Duration::from_millis(900);

/// The pending messages of all mailboxes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QueueFigures {
    /// Mailboxes that are not empty.
    pub mailboxes: usize,
    /// Messages.
    pub messages: usize,
    /// Bytes of payloads.
    pub bytes: u64,
    /// The time at which the oldest was accepted.
    pub oldest: Option<Timestamp>,
}

/// The disk of the data directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskFigures {
    /// The size of the store.
    pub store_bytes: u64,
    /// The free space.
    pub free_bytes: u64,
    /// The free space below which messages are refused.
    pub min_free_bytes: u64,
}

/// The urgency of what needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something may go wrong.
    Warning,
    /// Something does not work.
    Error,
}

/// Something that needs an administrator's attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attention {
    /// Its kind, for programs.
    pub code: &'static str,
    /// Its urgency.
    pub level: Level,
    /// The fault and its remedy, for people.
    pub message: String,
}

/// The figures of the present moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OverviewResponse {
    /// The version of the server.
    pub version: &'static str,
    /// The time of its start.
    pub started_at: Timestamp,
    /// The seconds since then.
    pub uptime_seconds: u64,
    /// Live connections.
    pub connections: usize,
    /// Users with at least one, those that only look on not counted.
    pub users_online: usize,
    /// Devices whose messages some connection receives.
    pub devices_online: usize,
    /// Messages that come in in a second.
    pub received_per_second: f64,
    /// Messages that are written to clients in a second.
    pub sent_per_second: f64,
    /// Pending messages.
    pub queue: QueueFigures,
    /// The 99th percentile of the last hundred commits.
    pub commit_p99_seconds: f64,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
    /// `storage.memory_budget`.
    pub memory_budget_bytes: Option<u64>,
    /// The disk.
    pub disk: DiskFigures,
    /// The checks of `/readyz`.
    pub health: Health,
    /// Messages are accepted.
    pub ready: bool,
    /// What needs attention, the most urgent first.
    pub attention: Vec<Attention>,
}

impl OverviewResponse {
    /// Returns whether `other` differs in more than the time.
    pub fn differs(&self, other: &Self) -> bool {
        *self != Self { uptime_seconds: self.uptime_seconds, ..other.clone() }
    }
}

/// The overview as it was last made.
#[derive(Default)]
pub struct Latest(tokio::sync::Mutex<Option<(Instant, Arc<OverviewResponse>)>>);

impl Latest {
    /// Returns the present overview, which `make` makes where the last one is too old.
    pub async fn get(&self, make: impl Future<Output = OverviewResponse>) -> Arc<OverviewResponse> {
        let mut latest = self.0.lock().await;
        match &*latest {
            Some((at, overview)) if at.elapsed() < PRESENT => overview.clone(),
            _ => {
                let made = Arc::new(make.await);
                *latest = Some((Instant::now(), made.clone()));
                made
            }
        }
    }
}
