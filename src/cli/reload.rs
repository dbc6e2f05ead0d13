//! SIGHUP: the configuration is read anew, and the running server takes up what it can.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::Reload;
use crate::config::Layers;
use crate::log::Log;

/// Reads `layers` whenever `hangup` comes, until the server is gone. What can't be used is logged and changes nothing. `listen` is
/// what counts instead of `server.listen`, where the socket is systemd's.
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
        once(&layers, &mut log, listen, &server).await;
    }
}

async fn once(layers: &Arc<Layers>, log: &mut Log, listen: Option<SocketAddr>, server: &mpsc::Sender<Reload>) {
    let again = layers.clone();
    let mut config = match tokio::task::spawn_blocking(move || again.read()).await {
        Ok(Ok(loaded)) => loaded.config,
        Ok(Err(error)) => return tracing::error!(%error, "the new configuration can't be used; nothing was changed"),
        Err(error) => return tracing::error!(%error, "the configuration was not read"),
    };
    config.server.listen = listen.unwrap_or(config.server.listen);
    let filter = config.log.filter.clone();
    let (done, taken) = oneshot::channel();
    if server.send(Reload { config, done }).await.is_ok()
        && taken.await.unwrap_or(false)
        && let Err(error) = log.filter(&filter)
    {
        tracing::error!(%error, "the log goes on as before");
    }
}
