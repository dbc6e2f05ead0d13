//! The settings: one documented tree, in layers: defaults, TOML file, environment, flags.
//!
//! Everything has a default; an empty file is a valid configuration. What is unknown or impossible is refused with its place
//! and, for a misspelt key, the nearest right name: a setting that silently does nothing is worse than none.

mod companion;
mod credentials;
mod diff;
mod env;
mod explain;
mod layers;
mod limits;
mod log_filter;
mod network;
mod render;
mod secret;
mod sections;
#[cfg(test)]
mod tests;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use companion::{ChatConfig, HandlerConfig, QWeatherConfig, Responder, WeatherConfig};
pub use diff::Changes;
pub use layers::{Flag, Layers, Loaded};
pub use limits::Limits;
pub use log_filter::log_filter;
pub use network::Network;
pub use render::DEFAULT;
pub use secret::Secret;
pub use sections::{
    AuthConfig, ForwardedHeader, HistoryConfig, LogConfig, LogFormat, MailboxConfig, MessagesConfig, MetricsConfig, Registration,
    ServerConfig, StorageConfig, TlsConfig,
};

use explain::explain;
use validate::Place;

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen and where to keep things.
    pub server: ServerConfig,
    /// Encryption on the wire.
    pub tls: TlsConfig,
    /// Who may get in.
    pub auth: AuthConfig,
    /// Who may write to whom.
    pub messages: MessagesConfig,
    /// How much waits for whom, and for how long.
    pub mailbox: MailboxConfig,
    /// What is kept of received messages.
    pub history: HistoryConfig,
    /// The disk and the memory.
    pub storage: StorageConfig,
    /// Figures for a collector.
    pub metrics: MetricsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Who answers `chat_message`.
    pub chat: ChatConfig,
    /// Where the weather comes from.
    pub weather: WeatherConfig,
    /// Message types of one's own.
    pub handler: Vec<HandlerConfig>,
    /// Every other bound.
    pub limits: Limits,
}

/// Why a configuration was refused. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read but can't be used.
    #[error("{path}:{line}: {what}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and, where possible, what would be right.
        what: String,
    },
    /// A variable of the environment or a flag can't be used.
    #[error("{by}: {what}")]
    Setting {
        /// The variable or the flag.
        by: String,
        /// What is wrong and, where possible, what would be right.
        what: String,
    },
    /// A secret is missing or can't be read.
    #[error("{0}")]
    Secret(String),
}

impl Config {
    /// Bytes of announcements that a connection may fall behind, all its groups together: where it is not set, a 32nd of the
    /// memory budget.
    pub fn group_bytes(&self) -> usize {
        self.limits.group_bytes.unwrap_or(usize::try_from(self.storage.memory_budget / 32).unwrap_or(usize::MAX))
    }

    /// Reads TOML text; an error is the line and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let config = typed(text)?;
        match config.impossible() {
            None => Ok(config),
            Some(complaint) => {
                let (place, what) = complaint.to(|place| line_of(text, place).is_some());
                Err((line_near(text, place), what))
            }
        }
    }
}

/// Reads TOML text without asking whether its values are possible together; an error is the line and what is wrong there.
fn typed(text: &str) -> Result<Config, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        (line, explain(error.message(), key_on(text, line)))
    })
}

/// The line, from 1, that holds byte `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// The line on which something is set; `None` when it is not in the file.
fn line_of(text: &str, place: Place) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let value = section_of(&table, place)?.get_ref().get(place.key)?;
    Some(line_at(text, value.span().start))
}

/// The same, or where its section is; 1 when that is not in the file either.
fn line_near(text: &str, place: Place) -> usize {
    let section = || {
        let table = toml::de::DeTable::parse(text).ok()?;
        Some(line_at(text, section_of(&table, place)?.span().start))
    };
    line_of(text, place).or_else(section).unwrap_or(1)
}

type Found<'t, 'i> = &'t toml::Spanned<toml::de::DeValue<'i>>;

fn section_of<'t, 'i>(table: &'t toml::Spanned<toml::de::DeTable<'i>>, place: Place) -> Option<Found<'t, 'i>> {
    let mut keys = place.section.split('.');
    let first = table.get_ref().get(keys.next()?)?;
    let found = keys.try_fold(first, |at, key| at.get_ref().get(key))?;
    if found.get_ref().is_array() { found.get_ref().get(place.block) } else { Some(found) }
}

/// The key that is set on a line, where one is.
fn key_on(text: &str, line: usize) -> Option<&str> {
    text.lines().nth(line - 1)?.split_once('=').map(|(key, _)| key.trim())
}
