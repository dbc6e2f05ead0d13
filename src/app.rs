//! What all parts share, in build order.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::config::Config;
use crate::door::Door;
use crate::handlers::{Handlers, HandlersError};
use crate::hub::Hub;
use crate::mailbox::Mailbox;
use crate::store::{Store, StoreError};

/// The shared state of one running server.
pub struct App {
    /// What outlives the process.
    pub store: Store,
    /// Who is who.
    pub auth: Auth,
    /// Who may knock.
    pub door: Door,
    /// Who hears what.
    pub hub: Arc<Hub>,
    /// What waits for whom.
    pub mailbox: Mailbox,
    /// Every session's task: stopping waits for them.
    pub sessions: TaskTracker,
    /// Cancelled when the server stops: nobody new gets in.
    pub stopping: CancellationToken,
    /// For the uptime.
    pub started: Instant,
    config: ArcSwap<Config>,
    handlers: ArcSwap<Handlers>,
}

impl App {
    /// Puts the parts together on top of an open store. Blocks: it reads the log.
    ///
    /// # Errors
    /// When the log can't be read, or upstreams can't be set up.
    pub fn new(config: Config, store: Store) -> Result<Arc<Self>, HandlersError> {
        let hub = Hub::new(config.limits.group_buffer, config.limits.group_bytes);
        Ok(Arc::new(Self {
            mailbox: Mailbox::open(store.clone(), hub.clone(), &config)?,
            handlers: ArcSwap::from_pointee(Handlers::new(&config, store.clone())?),
            auth: Auth::new(store.clone(), &config.limits).map_err(StoreError::from)?,
            door: Door::new(&config),
            hub,
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            store,
            config: ArcSwap::from_pointee(config),
        }))
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
        self.door.reload(&config);
        self.auth.reload(&config.limits);
        self.hub.reload(config.limits.group_buffer, config.limits.group_bytes);
        self.mailbox.reload(&config);
        self.handlers.store(Arc::new(handlers));
        self.config.store(Arc::new(config));
    }
}
