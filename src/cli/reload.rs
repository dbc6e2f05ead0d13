//! Reloading on SIGHUP: reads the configuration and passes it to the running server, then to the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::interval;

use crate::config::{Layers, Provenance};
use crate::log::Log;
use crate::ops::reload::Reload;

/// The interval at which the log writes what it has left out.
const LOG_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Reads `layers` at each `hangup`, where that asks for it, until the server has stopped. An unusable configuration is logged and changes nothing. `listen`
/// replaces `server.listen` where systemd provides the socket.
pub(super) async fn follow(
    mut hangup: Option<Signal>,
    layers: Layers,
    mut log: Log,
    listen: Option<SocketAddr>,
    server: mpsc::Sender<Reload>,
) {
    let layers = Arc::new(layers);
    let mut sweep = interval(LOG_SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = sweep.tick() => log.sweep(),
            hung_up = next(&mut hangup) => {
                if hung_up.is_none() || server.is_closed() {
                    return;
                }
                reload(&layers, &mut log, listen, &server).await;
            }
        }
    }
}

/// Waits for the next signal; for ever where there is none to wait for.
pub(super) async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

async fn reload(layers: &Arc<Layers>, log: &mut Log, listen: Option<SocketAddr>, server: &mpsc::Sender<Reload>) {
    let reread = layers.clone();
    let (mut config, sources) = match tokio::task::spawn_blocking(move || reread.read()).await {
        Ok(Ok(loaded)) => (loaded.config, loaded.sources),
        Ok(Err(error)) => {
            for error in error.problems() {
                tracing::error!(%error, "the new configuration can't be used; nothing was changed");
            }
            return;
        }
        Err(error) => return tracing::error!(%error, "failed to read the configuration; nothing was changed"),
    };
    config.server.listen = listen.unwrap_or(config.server.listen);
    let provenance = Provenance::new(layers.file(), sources);
    let settings = config.log.clone();
    let (done, applied) = oneshot::channel();
    if server.send(Reload { config, provenance, done }).await.is_ok()
        && applied.await.unwrap_or(false)
        && let Err(error) = log.reload(&settings)
    {
        tracing::error!(%error, "failed to change the log's filter; the previous one stays in force");
    }
}
