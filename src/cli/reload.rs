//! Reloading on SIGHUP: reads the configuration and passes it to the running server, then to the log.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::config::Layers;
use crate::log::Log;
use crate::ops::reload::Reload;

/// Reads `layers` at each `hangup`, until the server has stopped. An unusable configuration is logged and changes nothing. `listen`
/// replaces `server.listen` where systemd provides the socket.
pub(super) async fn follow(
    mut hangup: Signal,
    layers: Layers,
    mut log: Log,
    listen: Option<SocketAddr>,
    server: mpsc::Sender<Reload>,
) {
    let layers = Arc::new(layers);
    while hangup.recv().await.is_some() {
        if server.is_closed() {
            return;
        }
        reload(&layers, &mut log, listen, &server).await;
    }
}

async fn reload(layers: &Arc<Layers>, log: &mut Log, listen: Option<SocketAddr>, server: &mpsc::Sender<Reload>) {
    let layers = layers.clone();
    let mut config = match tokio::task::spawn_blocking(move || layers.read()).await {
        Ok(Ok(loaded)) => loaded.config,
        Ok(Err(error)) => return tracing::error!(%error, "the new configuration can't be used; nothing was changed"),
        Err(error) => return tracing::error!(%error, "failed to read the configuration; nothing was changed"),
    };
    config.server.listen = listen.unwrap_or(config.server.listen);
    let filter = config.log.filter.clone();
    let (done, applied) = oneshot::channel();
    if server.send(Reload { config, done }).await.is_ok()
        && applied.await.unwrap_or(false)
        && let Err(error) = log.filter(&filter)
    {
        tracing::error!(%error, "failed to change the log's filter; the previous one stays in force");
    }
}
