//! What all parts share, in build order.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::config::Config;
use crate::door::Door;
use crate::handlers::{Handlers, HandlersError};
use crate::health::{Health, Prober};
use crate::hub::Hub;
use crate::mailbox::Mailbox;
use crate::store::{Store, StoreError};

/// The shared state of one running server.
pub struct App {
    /// The settings.
    pub config: Config,
    /// What outlives the process.
    pub store: Store,
    /// Who is who.
    pub auth: Auth,
    /// Who may knock.
    pub door: Door,
    /// Who hears what.
    pub hub: Arc<Hub>,
    /// What the companion answers.
    pub handlers: Handlers,
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
}

impl App {
    /// Puts the parts together on top of an open store. Blocks: it reads the log.
    ///
    /// # Errors
    /// When the log can't be read, or upstreams can't be set up.
    pub fn new(config: Config, store: Store) -> Result<Arc<Self>, HandlersError> {
        let hub = Hub::new(config.limits.group_buffer, config.limits.group_bytes);
        Ok(Arc::new(Self {
            prober: Prober::new(store.clone(), hub.clone()),
            mailbox: Mailbox::open(store.clone(), hub.clone(), &config)?,
            handlers: Handlers::new(&config, store.clone())?,
            auth: Auth::new(store.clone(), &config.limits).map_err(StoreError::from)?,
            door: Door::new(&config),
            hub,
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            store,
            config,
        }))
    }

    /// How the server does: looked at anew at most once a second, whoever asks.
    pub async fn health(&self) -> Health {
        self.prober.look(!self.stopping.is_cancelled(), self.mailbox.disk_ok()).await
    }
}
