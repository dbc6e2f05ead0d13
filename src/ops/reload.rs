//! Reloading the configuration of a running server: settings that can change live are applied, the others are named in the log.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::systemd;
use crate::app::App;
use crate::config::{Config, ConfigDiff, Provenance};
use crate::handlers::HandlersError;
use crate::net::tls::{ReadFiles, TlsError};

/// A request to reload.
pub struct Reload {
    /// A configuration with which a server could start.
    pub config: Config,
    /// Its origins.
    pub provenance: Provenance,
    /// Receives whether the configuration was applied.
    pub done: oneshot::Sender<bool>,
}

/// An error that keeps a configuration from being applied.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Handlers(#[from] HandlersError),
    #[error("{0}")]
    Task(#[from] io::Error),
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] crate::cluster::MemberError),
}

/// Applies the configurations that arrive, one after another, until its task is aborted. `tls` leads to the task that follows the
/// certificate's files, where there is one.
pub async fn run(app: Arc<App>, tls: Option<mpsc::Sender<ReadFiles>>, mut reloads: mpsc::Receiver<Reload>) {
    while let Some(Reload { config, provenance, done }) = reloads.recv().await {
        systemd::reloading();
        let outcome = apply(&app, tls.as_ref(), config, provenance).await;
        systemd::reloaded("the configuration was reloaded; see the log for the outcome");
        match &outcome {
            Ok(ConfigDiff { live, restart }) => {
                for setting in restart {
                    tracing::warn!(setting, "changed in the configuration; takes effect after a restart");
                }
                let changed = if live.is_empty() { "nothing".to_owned() } else { live.join(", ") };
                tracing::info!(changed, "reloaded the configuration");
            }
            Err(error) => tracing::error!(%error, "the new configuration can't be used; nothing was changed"),
        }
        let _ = done.send(outcome.is_ok()); // the requester may have stopped waiting
    }
}

async fn apply(
    app: &Arc<App>,
    tls: Option<&mpsc::Sender<ReadFiles>>,
    config: Config,
    provenance: Provenance,
) -> Result<ConfigDiff, ReloadError> {
    let old = Arc::clone(&app.config());
    let changes = old.diff(&config);
    let new = old.apply_live(config);
    #[cfg(feature = "cluster")]
    if let Some(view) = &app.cluster {
        view.check_length(&new)?;
    }
    // First everything that can fail. Creating a client for upstreams blocks: it reads the system's certificates.
    let (handlers, before, after) = (Arc::clone(&app.handlers()), old, new.clone());
    let handlers = tokio::task::spawn_blocking(move || handlers.changed(&before, &after)).await.map_err(io::Error::other)??;
    if let Some(tls) = tls {
        let (done, outcome) = oneshot::channel();
        let files = new.tls.cert.clone().zip(new.tls.key.clone());
        // Both channels are closed when the server is stopping.
        if tls.send(ReadFiles { files, done }).await.is_ok()
            && let Ok(outcome) = outcome.await
        {
            outcome?;
        }
    }
    app.reload(new, handlers);
    let provenance = app.provenance().reloaded(provenance, &changes.restart);
    app.set_provenance(provenance);
    Ok(changes)
}
