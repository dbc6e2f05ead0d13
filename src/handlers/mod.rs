//! Message handlers: one file for each message type, and one match that dispatches to them.
//!
//! Handlers turn a [`Command`] into an [`Event`]; they know nothing of sockets and groups. Commands that need no waiting are
//! answered in place by [`Handlers::answer_immediately`]; those that wait for an upstream run in a task of the connection and
//! end with it.

mod catalog;
mod chat;
mod context;
mod custom;
mod dance;
mod sing;
mod upstream;
mod upstream_client;
mod weather;

use std::sync::Arc;

use crate::change::Changes;
use crate::config::Config;
use crate::core::ids::UserId;
use crate::core::time::Timestamp;
use crate::store::{Catalog, Store};
use crate::telemetry::metrics::Metrics;
use crate::wire::{Command, ErrorCode, Event};

pub use catalog::Catalogs;
pub use context::{ChunkSink, CommandContext, Stop};
pub(crate) use weather::canonical_city;

/// A failure to create the handlers.
#[derive(Debug, thiserror::Error)]
pub enum HandlersError {
    /// The catalog can't be read.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The HTTP client can't be created.
    #[error("failed to create the HTTP client for upstreams: {0}")]
    Client(#[from] reqwest::Error),
}

/// All message handlers.
pub struct Handlers {
    chat: Arc<chat::Chat>,
    weather: Arc<weather::Sources>,
    custom: Arc<custom::CustomHandlers>,
    /// The custom message types.
    custom_types: Vec<String>,
    catalog: Arc<Catalogs>,
    store: Store,
    metrics: Arc<Metrics>,
}

impl Handlers {
    /// Creates the handlers for a configuration.
    ///
    /// # Errors
    /// [`HandlersError`].
    pub fn new(config: &Config, store: Store, changes: Changes, metrics: &Arc<Metrics>) -> Result<Self, HandlersError> {
        let client = client(config)?;
        Ok(Self {
            chat: Arc::new(chat::Chat::new(&config.chat, client.clone(), metrics.clone())),
            weather: Arc::new(weather::Sources::new(&config.weather, store.clone(), client.as_ref(), metrics)),
            custom: Arc::new(custom::CustomHandlers::new(&config.handler, client, metrics)),
            custom_types: custom_types(config),
            catalog: Arc::new(Catalogs::open(store.clone(), changes)?),
            store,
            metrics: metrics.clone(),
        })
    }

    /// Creates the handlers for `new` from these, which were created for `old`. A handler whose section (or `[[handler]]` block)
    /// is unchanged is kept with its state; conversations survive any change.
    ///
    /// # Errors
    /// [`HandlersError`].
    pub fn changed(&self, old: &Config, new: &Config) -> Result<Self, HandlersError> {
        let same = old.chat == new.chat && old.weather == new.weather && old.handler == new.handler;
        let client = if same { None } else { client(new)? };
        let chat = || self.chat.changed(&new.chat, client.clone());
        let weather = || weather::Sources::new(&new.weather, self.store.clone(), client.as_ref(), &self.metrics);
        Ok(Self {
            chat: if old.chat == new.chat { self.chat.clone() } else { Arc::new(chat()) },
            weather: if old.weather == new.weather { self.weather.clone() } else { Arc::new(weather()) },
            custom: if old.handler == new.handler {
                self.custom.clone()
            } else {
                Arc::new(self.custom.changed(&new.handler, client.clone(), &self.metrics))
            },
            custom_types: custom_types(new),
            catalog: self.catalog.clone(),
            store: self.store.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// Returns the custom message types.
    pub fn custom_types(&self) -> &[String] {
        &self.custom_types
    }

    /// Returns the catalogs of songs and dances.
    pub fn catalog(&self) -> &Catalogs {
        &self.catalog
    }

    /// Answers a command of `user`, received at `now`, without waiting.
    ///
    /// # Errors
    /// The command itself when its answer needs waiting: pass it to [`answer`](Self::answer).
    pub fn answer_immediately(&self, user: UserId, command: Command, now: Timestamp) -> Result<Event, Command> {
        let unknown = |which, name: &str, stop| if stop { None } else { self.catalog.unknown_name_error(which, name) };
        match command {
            Command::Chat { text, stream } => self.chat.answer_immediately(&text).ok_or(Command::Chat { text, stream }),
            Command::ChatReset => Ok(self.chat.reset(user)),
            Command::Weather { city } => self.weather.answer_immediately(&city, now).ok_or(Command::Weather { city }),
            Command::Sing { song, artist, stop } => {
                Ok(unknown(Catalog::Songs, &song, stop).unwrap_or_else(|| sing::answer(song, artist, stop)))
            }
            Command::Dance { dance, style, duration, stop } => {
                Ok(unknown(Catalog::Dances, &dance, stop).unwrap_or_else(|| dance::answer(dance, style, duration, stop)))
            }
            Command::Custom { .. } | Command::ChatCancel { .. } => Err(command),
            Command::Ping => Ok(Event::Pong),
        }
    }

    /// Answers a command that [`answer_immediately`](Self::answer_immediately) returned, however long it takes. The parts of a
    /// streamed answer are passed to `sink`.
    pub async fn answer(&self, context: &CommandContext, command: Command, sink: ChunkSink<'_>) -> Event {
        match command {
            Command::Chat { text, .. } => self.chat.answer(context, &text, sink).await,
            Command::Weather { city } => self.weather.answer(&city, Timestamp::now()).await,
            Command::Custom { kind, message } => self.custom.answer(context, &kind, message.as_ref()).await,
            Command::ChatReset | Command::ChatCancel { .. } | Command::Sing { .. } | Command::Dance { .. } | Command::Ping => {
                tracing::error!("a command that needs no waiting was deferred");
                Event::Error { message: "Internal server error".into(), code: ErrorCode::InternalError }
            }
        }
    }

    /// Evicts the rate-limit state of idle users; call it every minute.
    pub fn sweep(&self) {
        self.chat.sweep();
    }
}

/// Returns a client for upstreams if any is configured.
fn client(config: &Config) -> Result<Option<upstream::UpstreamClient>, HandlersError> {
    let required = config.chat.uses_model() || config.weather.qweather.is_some() || !config.handler.is_empty();
    Ok(required.then(upstream::UpstreamClient::new).transpose()?)
}

fn custom_types(config: &Config) -> Vec<String> {
    config.handler.iter().map(|handler| handler.kind.clone()).collect()
}
