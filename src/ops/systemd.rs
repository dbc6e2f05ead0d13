//! Notifications to systemd, where it started the process (`Type=notify`); elsewhere they do nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

use crate::app::App;

/// The interval at which a long start requests more time.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(10);
/// The time that each request asks for.
const EXTENSION: Duration = Duration::from_secs(60);
/// The longest time for which a start requests more; after that systemd's own timeout applies.
const MAX_START_DURATION: Duration = Duration::from_secs(3600);
/// The interval at which the status line is updated without a watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);
/// The interval between health checks while one has failed.
const UNHEALTHY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Sends a notification. One that can't be sent is logged, and is no reason to fail.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}

/// Reports that the store is being opened, and requests more time as long as the returned future is polled, for an hour at most.
pub fn starting() -> impl Future<Output = ()> + Send {
    notify(&[NotifyState::Status("opening the store"), more_time()]);
    async {
        let end = Instant::now() + MAX_START_DURATION;
        while Instant::now() < end {
            sleep(EXTENSION_INTERVAL).await;
            notify(&[more_time()]);
        }
    }
}

fn more_time() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX))
}

/// Reports that the start is complete: the first administrator, the certificate, the listeners.
pub fn ready(address: SocketAddr) {
    notify(&[NotifyState::Status(&format!("serving on {address}")), NotifyState::Ready]);
}

/// Reports that a reload has begun; [`reloaded`] must follow, whether it succeeds or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading the configuration")]),
        Err(error) => tracing::warn!(%error, "failed to notify systemd of the reload"),
    }
}

/// Reports that a reload has ended; `systemctl status` shows `outcome` until the next update of the status line.
pub fn reloaded(outcome: &str) {
    notify(&[NotifyState::Status(outcome), NotifyState::Ready]);
}

/// Reports that the server is stopping.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping"), more_time()]);
}

/// Updates the status line until the server stops and, where the unit has a watchdog, notifies it at half its timeout, but only while
/// commits and the hub work: systemd restarts a process that does not notify its watchdog.
pub async fn watch(app: Arc<App>, address: SocketAddr) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()).map(|timeout| timeout / 2);
    let interval = watchdog.unwrap_or(STATUS_INTERVAL);
    let mut healthy = true;
    while !app.stopping.is_cancelled() {
        let health = app.health().await;
        if healthy && !health.is_alive() {
            tracing::error!(trouble = health.not_ready_reason(), "unhealthy; if this lasts, a watchdog ends this process");
        }
        healthy = health.is_alive();
        let trouble = health.not_ready_reason().map(|trouble| format!("; not ready: {trouble}")).unwrap_or_default();
        let status = format!("serving on {address}; {} connected{trouble}", app.hub.presence().count());
        let status = NotifyState::Status(&status);
        if app.stopping.is_cancelled() {
            return;
        }
        if healthy && watchdog.is_some() {
            notify(&[NotifyState::Watchdog, status]);
        } else {
            notify(&[status]);
        }
        let pause = sleep(if healthy { interval } else { UNHEALTHY_CHECK_INTERVAL.min(interval) });
        tokio::select! { () = pause => {}, () = app.stopping.cancelled() => {} }
    }
}
