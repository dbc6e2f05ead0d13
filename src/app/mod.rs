//! The shared state of a server, in build order.

mod revocation;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::audit::Audit;
use crate::auth::pairings::Polls;
use crate::auth::{Auth, AuthError, Caller};
use crate::change::Changes;
#[cfg(feature = "cluster")]
use crate::cluster::{MemberError, node::Node, node::View};
use crate::config::{Config, Provenance};
use crate::core::awake::timeout;
use crate::data_dir::{self, DataDirError};
use crate::handlers::{Handlers, HandlersError};
use crate::health::{Health, Prober};
use crate::history::History;
use crate::hub::{Hub, Presence};
use crate::mailbox::{self, Mailbox};
use crate::net::tls::CertificateEnd;
use crate::net::urls;
use crate::store::{Caches, Store, StoreError, Watch, compact, repair_for_start};
use crate::telemetry::metrics::Metrics;
use crate::wire::CloseCode;

/// The longest wait for the last writes when the server stops: a worn disk takes seconds, and the unit of systemd gives a server thirty.
const LAST_WRITES: Duration = Duration::from_secs(15);

/// The shared state of one running server.
pub struct App {
    /// Counters and measurements.
    pub metrics: Arc<Metrics>,
    /// The durable state, for reading.
    pub store: Store,
    /// The way to change it.
    pub changes: Changes,
    /// The audit trail.
    pub audit: Audit,
    /// Authentication.
    pub auth: Auth,
    /// The pace of devices that wait to be paired.
    pub polls: Polls,
    /// Admission control.
    pub admission: Admission,
    /// Groups and presence.
    pub hub: Arc<Hub>,
    /// The live connections of consoles: nobody's presence.
    pub consoles: Arc<Presence>,
    /// Queued messages.
    pub mailbox: Mailbox,
    /// The figures of the last hour and the last day.
    pub history: History,
    /// Checks the health; use [`App::health`].
    prober: Prober,
    /// The tasks of all sessions: stopping waits for them.
    pub sessions: TaskTracker,
    /// Cancelled when the server is stopping: no session starts after that.
    pub stopping: CancellationToken,
    /// The time of the start, for the uptime.
    pub started: Instant,
    /// The address of the main listener, once there is one; a command that opens the data directory itself never has one.
    pub address: OnceLock<SocketAddr>,
    /// The end of validity of the server's certificate, where it has one.
    pub certificate_end: OnceLock<CertificateEnd>,
    /// Its part in a cluster; `None` on one machine.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Arc<View>>,
    config: ArcSwap<Config>,
    /// The origins of the settings; none where the state was opened without them.
    provenance: ArcSwap<Provenance>,
    handlers: ArcSwap<Handlers>,
}

/// An error of opening the application state.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store can't be opened or closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The handlers can't be set up.
    #[error(transparent)]
    Handlers(#[from] HandlersError),
    /// The thread that opens it has ended early.
    #[error(transparent)]
    Thread(#[from] std::io::Error),
    /// The node can't take part in its cluster.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] MemberError),
}

impl App {
    /// Opens the store in the data directory `data`, as [`data_dir::prepare`] returned it, and builds the state on top of it. Compacts
    /// a wasteful store first. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: Config, data: &Path) -> Result<Arc<Self>, OpenError> {
        data_dir::release_ballast_if_full(data);
        let path = data.join(data_dir::STORE_DIRECTORY);
        let caches = Caches { pages: config.storage.page_cache_bytes(), blocks: config.storage.message_cache_bytes(0) };
        let mut store = open_or_repair(&path, caches)?;
        if !store.trees().cluster.is_empty()? {
            return Err(StoreError::OfCluster.into());
        }
        if is_wasteful(&store, &config, data)? {
            store.close()?;
            drop(store); // closes its files
            match compact(&path, Watch::NONE) {
                Ok(done) => tracing::info!(before = done.before, after = done.after, "compacted the store"),
                Err(error) => tracing::warn!(%error, "failed to compact the store; it is used as it is"),
            }
            store = Store::open_with(&path, caches)?;
        }
        data_dir::create_ballast(data, config.storage.ballast_bytes, config.storage.min_free_bytes);
        match Self::new(config.clone(), store.clone()) {
            // Without this, a page that can't be read would keep the server from starting for ever.
            Err(HandlersError::Store(error)) if error.is_damage() => {
                tracing::error!(%error, "something in the store can't be read");
                let _ = store.close(); // an error of it changes nothing: the repair reads what is on the disk
                drop(store);
                repair_for_start(&path)?;
                Ok(Self::new(config, Store::open_with(&path, caches)?)?)
            }
            made => Ok(made?),
        }
    }

    /// Builds the state on top of a node's copy. Blocks.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(feature = "cluster")]
    pub fn of_node(config: Config, data: &Path, node: &Node) -> Result<Arc<Self>, HandlersError> {
        data_dir::create_ballast(data, config.storage.ballast_bytes, config.storage.min_free_bytes);
        let parts = Parts { store: node.store(), changes: node.changes(), metrics: node.metrics(), cluster: Some(node.view()) };
        Self::assemble(config, parts)
    }

    /// Writes state that is only in memory, and closes the store.
    ///
    /// # Errors
    /// If the last flush fails.
    pub async fn close(self: Arc<Self>) -> Result<(), StoreError> {
        // A node that is cut off its log can't change anything.
        if timeout(LAST_WRITES, self.write_last()).await.is_err() {
            tracing::warn!("the last times of use and acknowledgements were not written in time");
        }
        tokio::task::spawn_blocking(move || self.store.close()).await.map_err(std::io::Error::other)?
    }

    /// Writes state that is only in memory.
    async fn write_last(&self) {
        if let Err(error) = self.sweep_auth().await {
            tracing::warn!(%error, "failed to write the last times of use");
        }
        if let Err(error) = self.mailbox.sweep(true).await {
            tracing::warn!(%error, "failed to write the last acknowledgements");
        }
        if let Err(error) = self.audit.flush().await {
            tracing::warn!(%error, "failed to write the last entries of the audit trail");
        }
    }

    /// Builds the state on top of an open store. Blocks: it reads the message log.
    ///
    /// # Errors
    /// A message log that can't be read, or upstreams that can't be set up.
    pub fn new(config: Config, store: Store) -> Result<Arc<Self>, HandlersError> {
        let metrics = Metrics::new(store.commits().clone());
        let changes = Changes::open(store.clone(), mailbox::settings(&config), metrics.clone())?;
        let parts = Parts {
            store,
            changes,
            metrics,
            #[cfg(feature = "cluster")]
            cluster: None,
        };
        Self::assemble(config, parts)
    }

    /// Builds the state from what is open.
    fn assemble(config: Config, parts: Parts) -> Result<Arc<Self>, HandlersError> {
        let Parts { store, changes, metrics, .. } = parts;
        let hub = Hub::new(config.limits.group_buffer, config.group_bytes());
        metrics.live.show_contents(config.server.console_contents);
        let app = Arc::new(Self {
            history: History::open(store.clone(), changes.clone(), config.storage.history_samples),
            prober: Prober::new(store.clone(), changes.clone(), hub.clone()),
            mailbox: Mailbox::new(store.clone(), changes.clone(), hub.clone(), &config, metrics.clone()),
            audit: Audit::new(changes.clone(), config.storage.audit_entries),
            handlers: ArcSwap::from_pointee(Handlers::new(&config, store.clone(), changes.clone(), &metrics)?),
            auth: Auth::new(store.clone(), changes.clone(), &config.limits, config.storage.max_concurrent_hashes())
                .map_err(StoreError::from)?,
            polls: Polls::default(),
            admission: Admission::new(&config, metrics.clone()),
            consoles: Arc::default(),
            hub,
            metrics,
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            address: OnceLock::new(),
            certificate_end: OnceLock::new(),
            #[cfg(feature = "cluster")]
            cluster: parts.cluster,
            changes,
            store,
            config: ArcSwap::from_pointee(config),
            provenance: ArcSwap::default(),
        });
        let reacting = Arc::downgrade(&app);
        app.changes.set_revocation(move |touched| {
            if let Some(app) = reacting.upgrade() {
                revocation::react(&app, touched);
            }
        });
        Ok(app)
    }

    /// Returns the health of the server, which is checked at most once a second.
    pub async fn health(&self) -> Health {
        self.with_cluster(self.prober.check(!self.stopping.is_cancelled(), self.mailbox.disk_ok()).await)
    }

    /// Adds whether the node is in touch with its cluster.
    fn with_cluster(&self, health: Health) -> Health {
        #[cfg(feature = "cluster")]
        if let Some(view) = &self.cluster {
            return Health { cluster: Some(view.is_ready()), ..health };
        }
        health
    }

    /// On several nodes, applies what was acknowledged before this call. Returns whether that is so, and what was not there is to be looked
    /// for again; never on one machine.
    pub async fn catch_up(&self) -> bool {
        #[cfg(feature = "cluster")]
        if let Some(view) = &self.cluster {
            return view.catch_up().await;
        }
        false
    }

    /// Returns whether this is one of several nodes.
    pub fn is_node(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// Returns whether this node's copy of the cluster's data is too old to serve anybody.
    pub fn is_stale(&self) -> bool {
        #[cfg(feature = "cluster")]
        if let Some(view) = &self.cluster {
            return view.is_stale();
        }
        false
    }

    /// Returns the health of the server as far as it is known without a write to the disk.
    pub async fn glance(&self) -> Health {
        self.with_cluster(self.prober.glance(!self.stopping.is_cancelled(), self.mailbox.disk_ok()).await)
    }

    /// Closes every session with 1001.
    pub fn close_all(&self) {
        for connections in [self.hub.presence(), &self.consoles] {
            connections.close_where(CloseCode::GoingAway, |_| true);
        }
    }

    /// Returns the URL of the main listener for a browser on this machine, without a path; `None` where there is no listener.
    pub fn url(&self) -> Option<String> {
        self.address.get().map(|&listen| urls::local(listen, self.config().tls.enabled()))
    }

    /// Returns the current settings; clone the `Arc` to keep a snapshot.
    pub fn config(&self) -> Guard<Arc<Config>> {
        self.config.load()
    }

    /// Returns the origins of the current settings.
    pub fn provenance(&self) -> Guard<Arc<Provenance>> {
        self.provenance.load()
    }

    /// Sets the origins of the current settings.
    pub fn set_provenance(&self, provenance: Provenance) {
        self.provenance.store(Arc::new(provenance));
    }

    /// Returns the current handlers; clone the `Arc` for a call that waits for an upstream, which ends with the handlers it began with.
    pub fn handlers(&self) -> Guard<Arc<Handlers>> {
        self.handlers.load()
    }

    /// Evicts what has expired in authentication, and writes the last times of use. To be called once a minute.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sweep_auth(&self) -> Result<(), AuthError> {
        let elevation = self.config().limits.elevation().unwrap_or_default();
        self.auth.sweep(elevation).await
    }

    /// Returns the time for which the browser session of `caller` is elevated still; `None` where it is not, or sessions need no elevation.
    pub fn elevated_for(&self, caller: &Caller) -> Option<Duration> {
        let elevation = self.config().limits.elevation()?;
        self.auth.elevated_for(caller, elevation)
    }

    /// Returns whether the browser session of `caller` is elevated, where that is needed.
    pub fn is_elevated(&self, caller: &Caller) -> bool {
        self.config().limits.elevation().is_none_or(|elevation| self.auth.elevated_for(caller, elevation).is_some())
    }

    /// Applies `config` and the `handlers` made for it.
    pub fn reload(&self, config: Config, handlers: Handlers) {
        self.admission.reload(&config);
        self.auth.reload(&config.limits);
        self.hub.reload(config.limits.group_buffer, config.group_bytes());
        self.mailbox.reload(&config);
        self.metrics.live.show_contents(config.server.console_contents);
        self.handlers.store(Arc::new(handlers));
        self.config.store(Arc::new(config));
    }
}

/// What the state is built from.
struct Parts {
    store: Store,
    changes: Changes,
    metrics: Arc<Metrics>,
    #[cfg(feature = "cluster")]
    cluster: Option<Arc<View>>,
}

/// Opens the store at `path`; one that is damaged is rebuilt from what can be read.
fn open_or_repair(path: &Path, caches: Caches) -> Result<Store, StoreError> {
    match Store::open_with(path, caches) {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "something in the store can't be read");
            repair_for_start(path)?;
            Store::open_with(path, caches)
        }
        opened => opened,
    }
}

/// The size of a store that has just been written, at most, as a multiple of the bytes of its records.
const MAX_FRESH_STORE_RATIO: u64 = 10;

/// Reports whether the store takes far more disk space than its records, and there is space for another store beside it.
fn is_wasteful(store: &Store, config: &Config, data: &Path) -> Result<bool, StoreError> {
    let (disk, settings) = (store.disk_bytes()?, &config.storage);
    if settings.compact_ratio == 0 || disk < settings.compact_min_bytes {
        return Ok(false);
    }
    let live = match store.live_bytes() {
        Err(error) if error.is_damage() => return Ok(false), // it would be copied as far as the damage
        live => live?,
    };
    let free = data_dir::free_bytes(data)?;
    tracing::info!(disk, live, free, "size of the store, of its records and of the free disk space");
    // Not the least free space for messages: to give it back is what this is for.
    let enough = free > live.saturating_mul(MAX_FRESH_STORE_RATIO).saturating_add(data_dir::MIN_BYTES_TO_OPEN);
    Ok(enough && disk > live.saturating_mul(settings.compact_ratio.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{Recipient, UserId};
    use crate::store::{NewUser, QUARANTINE, Role};

    #[tokio::test(flavor = "multi_thread")]
    async fn damaged_record_does_not_keep_the_server_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(data_dir::STORE_DIRECTORY);
        let open = || tokio::task::block_in_place(|| App::open(Config::default(), dir.path()).unwrap());
        let app = open();
        let new = NewUser { username: "ana".into(), role: Role::Admin, password_hash: "x".into() };
        app.changes.run(crate::change::CreateUser { new, authority: crate::store::Authority::System }).await.unwrap();
        app.close().await.unwrap();
        let store = Store::open(&path).unwrap();
        store.trees().places.tree().insert(Recipient::User(UserId(1)).to_key(), b"garbage").unwrap();
        store.close().unwrap();
        let epoch = store.epoch().to_owned();
        drop(store);

        let app = open();
        assert_eq!(app.store.user_by_name("ana").unwrap().map(|user| user.id), Some(UserId(1)));
        assert_eq!(app.store.loss().map(|loss| (loss.commits, loss.records)), Some((0, 1)));
        assert_eq!(app.store.loss().map(|loss| loss.altered), Some(1), "not what the last commit left");
        assert!(!app.health().await.store);
        assert!(app.store.check(Watch::NONE).unwrap().findings[0].what.contains("1 records or pages could not be read"));
        assert_ne!(app.store.epoch(), epoch);
        assert!(dir.path().join(QUARANTINE).read_dir().unwrap().count() == 1);
        app.store.acknowledge_loss().unwrap();
        app.close().await.unwrap();
        let app = open();
        assert_eq!(app.store.loss(), None);
        app.close().await.unwrap();
    }
}
