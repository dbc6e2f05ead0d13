//! The overview of a server, and the samples of its history.

use std::sync::Arc;
use std::time::Instant;

use super::attention::{Facts, attention};
use crate::app::App;
use crate::core::time::Timestamp;
use crate::data_dir::free_bytes;
use crate::history::{Counters, DiskFigures, Figures, OverviewResponse, QueueFigures};
use crate::store::Sample;
use crate::telemetry::metrics::{Operation, process};

/// Returns the present overview. Writes nothing: a console that stays open must not keep a disk awake.
pub async fn overview(app: &Arc<App>) -> Arc<OverviewResponse> {
    app.history.overview.get(make(app)).await
}

/// Makes an overview.
async fn make(app: &Arc<App>) -> OverviewResponse {
    let health = app.glance().await;
    let reader = app.clone();
    // Not on the runtime's threads: this reads directories and waits for locks.
    let measured = tokio::task::spawn_blocking(move || measure(&reader)).await;
    let (queue, disk, memory_bytes) = measured.unwrap_or_else(|_| {
        let queue = QueueFigures { mailboxes: 0, messages: 0, bytes: 0, oldest: None };
        (queue, DiskFigures { store_bytes: 0, free_bytes: 0, min_free_bytes: 0 }, None)
    });
    let (received_per_second, sent_per_second) = app.history.present_rates(Instant::now(), counters(app));
    let (users_online, devices_online) = app.hub.presence().online_counts();
    let connections = app.hub.presence().count();
    let attention = attention(app, &Facts { health, disk: &disk, connections });
    let rounded = |rate: f64| (rate * 1000.0).round() / 1000.0;
    OverviewResponse {
        version: env!("CARGO_PKG_VERSION"),
        started_at: app.metrics.started,
        uptime_seconds: app.started.elapsed().as_secs(),
        connections,
        users_online,
        devices_online,
        received_per_second: rounded(received_per_second),
        sent_per_second: rounded(sent_per_second),
        queue,
        commit_p99_seconds: app.metrics.commits.timed.recent().p99.as_secs_f64(),
        memory_bytes,
        memory_budget_bytes: Some(app.config().storage.memory_budget),
        disk,
        health,
        ready: health.not_ready_reason().is_none(),
        attention,
    }
}

/// Reads what takes locks or system calls. Blocks.
fn measure(app: &App) -> (QueueFigures, DiskFigures, Option<u64>) {
    let (mailboxes, waiting) = app.mailbox.total();
    let oldest = waiting.oldest.and_then(|id| app.mailbox.taken_at(id).ok().flatten());
    let queue = QueueFigures { mailboxes, messages: waiting.messages, bytes: waiting.bytes, oldest };
    let config = app.config();
    let disk = DiskFigures {
        store_bytes: app.store.disk_bytes().unwrap_or(0),
        free_bytes: free_bytes(&config.server.data_dir).unwrap_or(0),
        min_free_bytes: config.storage.min_free_bytes,
    };
    (queue, disk, process::resident())
}

/// Returns the numbers of messages in both directions since the start.
fn counters(app: &App) -> Counters {
    let sends = app.metrics.timed(Operation::Send);
    let pushed = sends.total().saturating_sub(sends.failures.get());
    Counters { received: app.metrics.traffic.received.sum() + pushed, sent: app.metrics.traffic.sent.sum() }
}

/// Adds the figures of the last seconds to the history, and where `minute` is set those of the last minute, with the devices that were
/// online in it.
pub async fn sample(app: &Arc<App>, minute: bool) {
    let reader = app.clone();
    let Ok(figures) = tokio::task::spawn_blocking(move || figures(&reader)).await else { return };
    let (at, now) = (Timestamp::now(), Instant::now());
    app.history.add(at, now, figures);
    if minute {
        app.history.add_minute(at, now, figures, app.hub.presence().take_seen_devices());
    }
}

/// Reads the figures of a sample. Blocks.
fn figures(app: &App) -> Figures {
    let sample = Sample {
        connections: u32::try_from(app.hub.presence().count()).unwrap_or(u32::MAX),
        queue_messages: app.mailbox.total().1.messages as u64,
        commit_p99_ms: app.metrics.commits.timed.recent().p99.as_secs_f32() * 1000.0,
        memory_bytes: process::resident().unwrap_or(0),
        disk_bytes: app.store.disk_bytes().unwrap_or(0),
        ..Sample::default()
    };
    Figures { sample, counters: counters(app) }
}
