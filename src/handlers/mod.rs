//! What the companion answers: one file a message type, one match that calls them.
//!
//! Handlers turn a [`Command`] into an [`Event`]; they know nothing of sockets and groups. What takes no time is answered by
//! [`Handlers::quick`] where it is asked; what waits for an upstream runs beside the connection, and ends with it.

mod catalog;
mod chat;
mod dance;
mod own;
mod sing;
mod upstream;
mod weather;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::config::Config;
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::store::{Catalog, Store};
use crate::telemetry::metrics::Metrics;
use crate::wire::{Command, ErrorCode, Event};

pub use catalog::Catalogs;
pub(crate) use weather::canonical;

/// Why the handlers could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HandlersError {
    /// The catalogue can't be read.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The HTTP client could not be made.
    #[error("the HTTP client for upstreams could not be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The account.
    pub user: UserId,
    /// What the connection stands for.
    pub device: Option<DeviceId>,
    /// The client's own mark.
    pub reference: Option<String>,
}

/// Takes a piece of an answer that comes in pieces.
pub type Chunk<'a> = &'a (dyn Fn(&str) -> BoxFuture<'static, ()> + Send + Sync);

/// All handlers.
pub struct Handlers {
    chat: Arc<chat::Chat>,
    weather: Arc<weather::Sources>,
    own: Arc<own::OwnTypes>,
    /// The types in the configuration.
    own_types: Vec<String>,
    catalog: Arc<Catalogs>,
    store: Store,
    metrics: Arc<Metrics>,
}

impl Handlers {
    /// As configured.
    ///
    /// # Errors
    /// [`HandlersError`].
    pub fn new(config: &Config, store: Store, metrics: &Arc<Metrics>) -> Result<Self, HandlersError> {
        let client = client(config)?;
        Ok(Self {
            chat: Arc::new(chat::Chat::new(&config.chat, client.clone(), metrics.clone())),
            weather: Arc::new(weather::Sources::new(&config.weather, store.clone(), client.as_ref(), metrics)),
            own: Arc::new(own::OwnTypes::new(&config.handler, client, metrics)),
            own_types: own_types(config),
            catalog: Arc::new(Catalogs::open(store.clone())?),
            store,
            metrics: metrics.clone(),
        })
    }

    /// The handlers for `new`, these having been made for `old`. What is configured as before, each `[[handler]]` by itself,
    /// is the same as before, with all that it remembers; conversations outlive any change.
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
            own: if old.handler == new.handler {
                self.own.clone()
            } else {
                Arc::new(self.own.changed(&new.handler, client.clone(), &self.metrics))
            },
            own_types: own_types(new),
            catalog: self.catalog.clone(),
            store: self.store.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// The types that the configuration adds.
    pub fn own_types(&self) -> &[String] {
        &self.own_types
    }

    /// The songs and dances that the devices know.
    pub fn catalog(&self) -> &Catalogs {
        &self.catalog
    }

    /// The answer to `command` of `user`, asked at `now`.
    ///
    /// # Errors
    /// The command itself where its answer takes time: for [`Handlers::answer`].
    pub fn quick(&self, user: UserId, command: Command, now: Timestamp) -> Result<Event, Command> {
        let refusal = |which, name: &str, stop| if stop { None } else { self.catalog.refusal(which, name) };
        match command {
            Command::Chat { text, stream } => self.chat.quick(&text).ok_or(Command::Chat { text, stream }),
            Command::ChatReset => Ok(self.chat.reset(user)),
            Command::Weather { city } => self.weather.quick(&city, now).ok_or(Command::Weather { city }),
            Command::Sing { song, artist, stop } => {
                Ok(refusal(Catalog::Songs, &song, stop).unwrap_or_else(|| sing::answer(song, artist, stop)))
            }
            Command::Dance { dance, style, duration, stop } => {
                Ok(refusal(Catalog::Dances, &dance, stop).unwrap_or_else(|| dance::answer(dance, style, duration, stop)))
            }
            Command::Own { .. } => Err(command),
            Command::Ping => Ok(Event::Pong),
        }
    }

    /// The answer to a command that [`Handlers::quick`] gave back, however long it takes; pieces of one that comes in pieces
    /// go to `piece`.
    pub async fn answer(&self, asked: &Asked, command: Command, piece: Chunk<'_>) -> Event {
        match command {
            Command::Chat { text, .. } => self.chat.answer(asked.user, &text, piece).await,
            Command::Weather { city } => self.weather.answer(&city, Timestamp::now()).await,
            Command::Own { kind, message } => self.own.answer(asked, &kind, message.as_ref()).await,
            Command::ChatReset | Command::Sing { .. } | Command::Dance { .. } | Command::Ping => {
                tracing::error!("a command that takes no time was not answered");
                Event::Error { message: "Internal server error".into(), code: ErrorCode::InternalError }
            }
        }
    }

    /// Forgets who has not come for a while; call it every minute.
    pub fn sweep(&self) {
        self.chat.sweep();
    }
}

/// The client for upstreams, where there are any.
fn client(config: &Config) -> Result<Option<reqwest::Client>, HandlersError> {
    let calls = config.chat.uses_model() || config.weather.qweather.is_some() || !config.handler.is_empty();
    Ok(calls.then(upstream::client).transpose()?)
}

fn own_types(config: &Config) -> Vec<String> {
    config.handler.iter().map(|handler| handler.kind.clone()).collect()
}
