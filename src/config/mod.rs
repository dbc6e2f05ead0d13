//! Configuration: one tree of settings, read in layers (defaults, TOML file, environment, flags).
//!
//! Every setting has a default, so an empty file is a valid configuration. Unknown keys and impossible values are refused with
//! their location and, for a misspelt key, the nearest valid name: a setting that is silently ignored is worse than none.
//!
//! `sections`, `companion` and `limits` define the settings, with `units` and `addresses` for values with several forms, and
//! `default_file` documents them; `parse` reads the file and keeps track of lines, `env` the environment, `credentials` the
//! upstreams' secrets; `layers` merges all of it, `validate` checks the result, `diff` compares two configurations, `render` prints
//! one and `effective` lists one with the source of each value.

mod addresses;
#[cfg(feature = "cluster")]
mod cluster;
mod companion;
mod credentials;
mod default_file;
mod diff;
mod effective;
mod env;
mod explain;
mod layers;
mod limits;
mod log_filter;
mod network;
mod parse;
mod render;
mod secret;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod units;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

#[cfg(feature = "cluster")]
pub use cluster::{ClusterConfig, is_cluster_name};
pub use companion::{ChatConfig, HandlerConfig, QWeatherConfig, Responder, WeatherConfig};
pub use default_file::DEFAULT;
pub use diff::ConfigDiff;
pub use effective::Setting;
pub use layers::{Flag, Layers, Loaded};
pub use limits::Limits;
pub use log_filter::log_filter;
pub use network::Network;
pub use secret::Secret;
pub use sections::{
    AuthConfig, ForwardedHeader, HistoryConfig, LogConfig, LogFormat, MailboxConfig, MessagesConfig, MetricsConfig, Registration,
    ServerConfig, StorageConfig, TlsConfig,
};
pub use source::Provenance;
pub use units::parse_seconds;

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listening address, the data directory and the trust in web origins and proxies.
    pub server: ServerConfig,
    /// TLS on the listening socket.
    pub tls: TlsConfig,
    /// Account creation.
    pub auth: AuthConfig,
    /// Permissions for sending messages.
    pub messages: MessagesConfig,
    /// Bounds and lifetimes of queued messages.
    pub mailbox: MailboxConfig,
    /// Retention of received messages.
    pub history: HistoryConfig,
    /// Disk and memory budgets.
    pub storage: StorageConfig,
    /// The additional metrics listener.
    pub metrics: MetricsConfig,
    /// The log's filter and format.
    pub log: LogConfig,
    /// The responder to `chat_message`.
    pub chat: ChatConfig,
    /// The sources of `weather`.
    pub weather: WeatherConfig,
    /// Custom message types.
    pub handler: Vec<HandlerConfig>,
    /// Every other limit.
    pub limits: Limits,
    /// The cluster that this node is one of.
    #[cfg(feature = "cluster")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
}

/// The reason a configuration was refused. Displays as one sentence; several, as a line each below their number.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file was read but its content is invalid.
    #[error("{path}:{line}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The problem and, where possible, its correction.
        message: String,
    },
    /// An environment variable or a flag is invalid.
    #[error("{origin}: {message}")]
    InvalidOverride {
        /// The variable or the flag.
        origin: String,
        /// The problem and, where possible, its correction.
        message: String,
    },
    /// A secret is missing or can't be read.
    #[error("{0}")]
    Secret(String),
    /// There is more than one problem.
    #[error("{}", listed(.0))]
    Several(Vec<Self>),
}

/// Writes several problems, a line each.
fn listed(problems: &[ConfigError]) -> String {
    let lines: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    format!("{} problems in the configuration:{lines}", problems.len())
}

impl ConfigError {
    /// Returns the error for some problems, of which there is at least one.
    fn of(mut problems: Vec<Self>) -> Self {
        match problems.pop() {
            Some(only) if problems.is_empty() => only,
            last => Self::Several(problems.into_iter().chain(last).collect()),
        }
    }

    /// Returns the problems, each by itself.
    pub fn problems(&self) -> &[Self] {
        match self {
            Self::Several(problems) => problems,
            one => std::slice::from_ref(one),
        }
    }
}

impl Config {
    /// Returns the bytes of live messages that a connection may fall behind, over all its groups: by default 1/32 of the memory
    /// budget.
    pub fn group_bytes(&self) -> usize {
        self.limits.group_bytes.unwrap_or(usize::try_from(self.storage.memory_budget / 32).unwrap_or(usize::MAX))
    }

    /// Returns the bytes of long answers to REST calls that may be on their way to clients: by default 1/16 of the memory budget.
    pub fn answer_bytes(&self) -> usize {
        self.limits.answer_bytes.unwrap_or(usize::try_from(self.storage.memory_budget / 16).unwrap_or(usize::MAX))
    }

    /// Returns every setting that has a value, by `section.key`, with secrets hidden; all `[[handler]]` blocks are the one entry
    /// `handler`.
    fn flatten(&self) -> BTreeMap<String, Value> {
        fn walk(table: Table, prefix: &str, settings: &mut BTreeMap<String, Value>) {
            for (key, value) in table {
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                match value {
                    Value::Table(inner) => walk(inner, &name, settings),
                    value => drop(settings.insert(name, value)),
                }
            }
        }
        let mut settings = BTreeMap::new();
        if let Ok(table) = Table::try_from(self) {
            walk(table, "", &mut settings);
        }
        settings
    }
}
