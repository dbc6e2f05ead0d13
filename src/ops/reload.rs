//! Another configuration for a running server: what can change live does so, what can't is named.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::systemd;
use crate::app::App;
use crate::config::{Config, ConfigDiff};
use crate::handlers::HandlersError;
use crate::net::tls::{Look, TlsError};

/// Asks for it.
pub struct Reload {
    /// A configuration that could be served with from the start.
    pub config: Config,
    /// Told when it is done: whether it was taken up.
    pub done: oneshot::Sender<bool>,
}

/// Why a configuration was not taken up.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Handlers(#[from] HandlersError),
    #[error("{0}")]
    Task(#[from] io::Error),
}

/// Takes up what comes, one after another, until its task is aborted; `tls` is who follows the certificate, if anybody.
pub async fn run(app: Arc<App>, tls: Option<mpsc::Sender<Look>>, mut reloads: mpsc::Receiver<Reload>) {
    while let Some(Reload { config, done }) = reloads.recv().await {
        systemd::reloading();
        let taken = take_up(&app, tls.as_ref(), config).await;
        systemd::reloaded("the settings were read again; the log says what became of it");
        match &taken {
            Ok(ConfigDiff { live, restart }) => {
                for setting in restart {
                    tracing::warn!(setting, "changed in the configuration; holds after a restart");
                }
                let changed = if live.is_empty() { "nothing".to_owned() } else { live.join(", ") };
                tracing::info!(changed, "the configuration was read again");
            }
            Err(error) => tracing::error!(%error, "the new configuration can't be used; nothing was changed"),
        }
        let _ = done.send(taken.is_ok()); // who asked may be gone
    }
}

async fn take_up(app: &Arc<App>, tls: Option<&mpsc::Sender<Look>>, config: Config) -> Result<ConfigDiff, ReloadError> {
    let old = Arc::clone(&app.config());
    let changes = old.diff(&config);
    let new = old.apply_live(config);
    // First what can fail. A client for upstreams reads the system's certificates.
    let (handlers, before, after) = (Arc::clone(&app.handlers()), old, new.clone());
    let made = tokio::task::spawn_blocking(move || handlers.changed(&before, &after)).await.map_err(io::Error::other)??;
    if let Some(tls) = tls {
        let (done, looked) = oneshot::channel();
        let files = new.tls.cert.clone().zip(new.tls.key.clone());
        // Neither is there any more when the server stops.
        if tls.send(Look { files, done }).await.is_ok()
            && let Ok(outcome) = looked.await
        {
            outcome?;
        }
    }
    app.reload(new, made);
    Ok(changes)
}
