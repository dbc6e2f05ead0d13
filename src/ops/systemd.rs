//! What systemd is told, where it started us (`Type=notify`): nothing happens elsewhere.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

use crate::app::App;

/// How often more time is asked for while the start takes long, and how much.
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_FOR: Duration = Duration::from_secs(60);
/// After that long systemd's own patience decides.
const ASK_UNTIL: Duration = Duration::from_secs(3600);
/// How often the status line is renewed where there is no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How soon to look again when all was not well.
const AGAIN: Duration = Duration::from_secs(1);

/// Sends it. Words that don't arrive are no reason to fail.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The store is being opened: says so at once, and asks for more time as long as the future is polled, an hour at most.
pub fn starting() -> impl Future<Output = ()> + Send {
    tell(&[NotifyState::Status("opening the store"), more_time()]);
    async {
        let end = Instant::now() + ASK_UNTIL;
        while Instant::now() < end {
            sleep(ASK_EVERY).await;
            tell(&[more_time()]);
        }
    }
}

fn more_time() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(ASK_FOR.as_micros()).unwrap_or(u32::MAX))
}

/// Everything is up: the first administrator, the certificate, the listeners.
pub fn ready(address: SocketAddr) {
    tell(&[NotifyState::Status(&format!("serving on {address}")), NotifyState::Ready]);
}

/// The settings are being read anew; call [`reloaded`] when that has ended, well or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reading the settings")]),
        Err(error) => tracing::warn!(%error, "systemd could not be told of the reload"),
    }
}

/// The settings have been read anew, or kept; `outcome` is what `systemctl status` shows until the next look.
pub fn reloaded(outcome: &str) {
    tell(&[NotifyState::Status(outcome), NotifyState::Ready]);
}

/// Stopping has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping"), more_time()]);
}

/// Keeps systemd informed until the server stops: the status line, and, where the unit has a watchdog, a sign of life at
/// half its time, but only while commits and the hub are well. Who stays silent is restarted.
pub async fn watch(app: Arc<App>, address: SocketAddr) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled().filter(|whole| !whole.is_zero()).map(|whole| whole / 2);
    let every = watchdog.unwrap_or(STATUS_EVERY);
    let mut well = true;
    while !app.stopping.is_cancelled() {
        let health = app.health().await;
        if well && !health.is_alive() {
            tracing::error!(
                trouble = health.not_ready_reason(),
                "not well; under a watchdog that lasts, this process will be ended"
            );
        }
        well = health.is_alive();
        let trouble = health.not_ready_reason().map(|trouble| format!("; not ready: {trouble}")).unwrap_or_default();
        let status = format!("serving on {address}; {} connected{trouble}", app.hub.presence().count());
        let status = NotifyState::Status(&status);
        if app.stopping.is_cancelled() {
            return;
        }
        if well && watchdog.is_some() {
            tell(&[NotifyState::Watchdog, status]);
        } else {
            tell(&[status]);
        }
        let pause = sleep(if well { every } else { AGAIN.min(every) });
        tokio::select! { () = pause => {}, () = app.stopping.cancelled() => {} }
    }
}
