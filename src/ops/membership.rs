//! The part of a server in a cluster: none on one machine.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "cluster")]
use tokio_util::task::AbortOnDropHandle;

use crate::app::{App, OpenError};
#[cfg(feature = "cluster")]
use crate::cluster::{MemberError, drop_copy, node::Node};
use crate::config::Config;

/// What a server takes part in, until this is dropped.
pub struct Membership {
    /// Applies the cluster's log to the store.
    #[cfg(feature = "cluster")]
    task: Option<AbortOnDropHandle<Result<(), MemberError>>>,
}

impl Membership {
    /// Opens the state in the data directory `data`: as one machine, or as a node of the cluster that `config` names, which has caught up
    /// with its log then.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: Config, data: &Path) -> Result<(Arc<App>, Self), OpenError> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = config.cluster.clone() {
            return Self::join(&cluster, config, data).await;
        }
        let place = data.to_owned();
        let app = tokio::task::spawn_blocking(move || App::open(config, &place)).await.map_err(std::io::Error::other)??;
        let this = Self {
            #[cfg(feature = "cluster")]
            task: None,
        };
        Ok((app, this))
    }

    #[cfg(feature = "cluster")]
    async fn join(cluster: &crate::config::ClusterConfig, config: Config, data: &Path) -> Result<(Arc<App>, Self), OpenError> {
        crate::data_dir::release_ballast_if_full(data);
        let node = Node::join(cluster, &config, data).await?;
        let (place, end) = (data.to_owned(), node.end());
        let opened = tokio::task::spawn_blocking(move || App::of_node(config, &place, &node).map(|app| (app, node))).await;
        let (app, node) = opened.map_err(std::io::Error::other)??;
        let view = node.view();
        let mut task = AbortOnDropHandle::new(tokio::spawn(node.run()));
        tracing::info!(position = %end, "catching up with the cluster");
        tokio::select! {
            () = view.caught_up(end) => {
                // Not before: the limits may have been changed since this copy was written.
                if let Err(error) = view.check_config(&app.config()) {
                    drop(task);
                    let _ = tokio::task::spawn_blocking(move || app.store.close()).await; // the reason is the configuration
                    return Err(error.into());
                }
            }
            ended = &mut task => {
                let error = ending(ended);
                let _ = tokio::task::spawn_blocking(move || app.store.close()).await; // the reason is what ended it
                clear(&error, data);
                return Err(error.into());
            }
        }
        Ok((app, Self { task: Some(task) }))
    }

    /// Returns whether opening may wait for something that is not on this machine.
    pub const fn may_wait(config: &Config) -> bool {
        #[cfg(feature = "cluster")]
        return config.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        {
            let _ = config;
            false
        }
    }

    /// Completes when the server can't take part any more; never on one machine.
    pub async fn ended(&mut self) -> OpenError {
        #[cfg(feature = "cluster")]
        if let Some(task) = &mut self.task {
            return ending(task.await).into();
        }
        std::future::pending().await
    }
}

/// Returns the reason for which a node's part has ended.
#[cfg(feature = "cluster")]
fn ending(ended: Result<Result<(), MemberError>, tokio::task::JoinError>) -> MemberError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => std::io::Error::other("the node's part in its cluster has ended").into(),
        Err(panicked) => std::io::Error::other(panicked).into(),
    }
}

/// Removes a copy, closed by now, that is of no use after that error: the next start makes another one.
#[cfg(feature = "cluster")]
fn clear(error: &MemberError, data: &Path) {
    if error.is_of_copy()
        && let Err(error) = drop_copy(data)
    {
        tracing::error!(%error, "the node's copy could not be removed");
    }
}

/// Does what is left when the server has stopped because of `error`.
pub fn clear_after(error: &OpenError, data: &Path) {
    #[cfg(feature = "cluster")]
    if let OpenError::Cluster(error) = error {
        clear(error, data);
    }
    #[cfg(not(feature = "cluster"))]
    let _ = (error, data);
}

/// Tells other nodes who is connected here, until its task is aborted; returns at once on one machine.
pub async fn talk(app: Arc<App>) {
    #[cfg(feature = "cluster")]
    if let Some(view) = app.cluster.clone() {
        view.talk(app.hub.clone()).await;
    }
    #[cfg(not(feature = "cluster"))]
    drop(app);
}

/// Stops serving while this node's copy is too old, until its task is aborted; returns at once on one machine.
pub async fn guard(app: Arc<App>) {
    #[cfg(feature = "cluster")]
    if let Some(view) = app.cluster.clone() {
        let mut was_stale = false;
        let mut look = tokio::time::interval(std::time::Duration::from_millis(250));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let is_stale = view.is_stale();
            match (std::mem::replace(&mut was_stale, is_stale), is_stale) {
                (false, true) => {
                    tracing::error!("the log of the cluster is out of reach: this node serves nobody until it is back")
                }
                (true, false) => tracing::info!("the log of the cluster is back"),
                _ => {}
            }
            if is_stale {
                app.close_all(); // also those whose handshake was under way
            }
        }
    }
    #[cfg(not(feature = "cluster"))]
    drop(app);
}
