//! What all parts share, in build order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::pairing::Pairings;
use crate::admission::Admission;
use crate::auth::Auth;
use crate::config::Config;
use crate::data_dir::{self, DataDirError};
use crate::handlers::{Handlers, HandlersError};
use crate::health::{Health, Prober};
use crate::hub::Hub;
use crate::mailbox::Mailbox;
use crate::store::{Store, StoreError, compact};
use crate::telemetry::metrics::Metrics;

/// The shared state of one running server.
pub struct App {
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// What outlives the process.
    pub store: Store,
    /// Who is who.
    pub auth: Auth,
    /// Devices that wait to be claimed.
    pub pairings: Pairings,
    /// Who may connect.
    pub admission: Admission,
    /// Who hears what.
    pub hub: Arc<Hub>,
    /// What waits for whom.
    pub mailbox: Mailbox,
    /// Looks whether all of it works; ask [`App::health`].
    prober: Prober,
    /// Every session's task: stopping waits for them.
    pub sessions: TaskTracker,
    /// Cancelled when the server stops: nobody new gets in.
    pub stopping: CancellationToken,
    /// For the uptime.
    pub started: Instant,
    /// Where it listens, once it does: a command line that works on the data directory itself never does.
    pub address: OnceLock<SocketAddr>,
    config: ArcSwap<Config>,
    handlers: ArcSwap<Handlers>,
}

/// Why there is nothing to share.
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
}

impl App {
    /// Opens what is in the data directory `data`, as [`data_dir::prepare`] returned it, and puts the parts together on top of it.
    /// Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: Config, data: &Path) -> Result<Arc<Self>, OpenError> {
        data_dir::release_ballast_if_full(data);
        let (path, cache) = (data.join(data_dir::STORE_DIRECTORY), config.storage.cache_bytes());
        let mut store = Store::open_with(&path, cache)?;
        if wasteful(&store, &config, data)? {
            store.close()?;
            drop(store); // else it is still open
            match compact(&path) {
                Ok(done) => tracing::info!(before = done.before, after = done.after, "the store was written anew"),
                Err(error) => tracing::warn!(%error, "the store could not be written anew; it goes on as it was"),
            }
            store = Store::open_with(&path, cache)?;
        }
        data_dir::create_ballast(data, config.storage.ballast_bytes, config.storage.min_free_bytes);
        Ok(Self::new(config, store)?)
    }

    /// Writes what is still only in memory, and closes the store.
    ///
    /// # Errors
    /// When the last flush fails.
    pub async fn close(self: Arc<Self>) -> Result<(), StoreError> {
        if let Err(error) = self.auth.sweep().await {
            tracing::warn!(%error, "the last last_seen were not written");
        }
        if let Err(error) = self.mailbox.sweep(true).await {
            tracing::warn!(%error, "the last acknowledgements were not written");
        }
        tokio::task::spawn_blocking(move || self.store.close()).await.map_err(std::io::Error::other)?
    }

    /// Puts the parts together on top of an open store. Blocks: it reads the log.
    ///
    /// # Errors
    /// When the log can't be read, or upstreams can't be set up.
    pub fn new(config: Config, store: Store) -> Result<Arc<Self>, HandlersError> {
        let hub = Hub::new(config.limits.group_buffer, config.group_bytes());
        let metrics = Metrics::new(store.commits().clone());
        Ok(Arc::new(Self {
            prober: Prober::new(store.clone(), hub.clone()),
            mailbox: Mailbox::open(store.clone(), hub.clone(), &config, metrics.clone())?,
            handlers: ArcSwap::from_pointee(Handlers::new(&config, store.clone(), &metrics)?),
            auth: Auth::new(store.clone(), &config.limits, config.storage.max_concurrent_hashes()).map_err(StoreError::from)?,
            pairings: Pairings::default(),
            admission: Admission::new(&config, metrics.clone()),
            hub,
            metrics,
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            address: OnceLock::new(),
            store,
            config: ArcSwap::from_pointee(config),
        }))
    }

    /// How the server does: looked at anew at most once a second, whoever asks.
    pub async fn health(&self) -> Health {
        self.prober.check(!self.stopping.is_cancelled(), self.mailbox.disk_ok()).await
    }

    /// The settings in force. For a look; who needs them for longer clones the `Arc`, and keeps what has been.
    pub fn config(&self) -> Guard<Arc<Config>> {
        self.config.load()
    }

    /// What the companion answers. For a look; a call that waits for an upstream clones the `Arc`, and ends on it.
    pub fn handlers(&self) -> Guard<Arc<Handlers>> {
        self.handlers.load()
    }

    /// Takes up `config` and the `handlers` made for it: everybody goes by them from the next look on.
    pub fn reload(&self, config: Config, handlers: Handlers) {
        self.admission.reload(&config);
        self.auth.reload(&config.limits);
        self.hub.reload(config.limits.group_buffer, config.group_bytes());
        self.mailbox.reload(&config);
        self.handlers.store(Arc::new(handlers));
        self.config.store(Arc::new(config));
    }
}

/// A store that has just been written takes no more than so many times what is in it.
const FRESH: u64 = 10;

/// Whether the store takes far more room than what is in it, and there is room for another one beside it.
fn wasteful(store: &Store, config: &Config, data: &Path) -> Result<bool, StoreError> {
    let (disk, settings) = (store.disk_bytes()?, &config.storage);
    if settings.compact_ratio == 0 || disk < settings.compact_min_bytes {
        return Ok(false);
    }
    let (live, free) = (store.live_bytes()?, data_dir::free_bytes(data)?);
    tracing::info!(disk, live, free, "bytes in the store and on the disk");
    let room = free > live.saturating_mul(FRESH).saturating_add(settings.min_free_bytes);
    Ok(room && disk > live.saturating_mul(settings.compact_ratio.into()))
}
