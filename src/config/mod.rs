//! The settings: one documented tree, in layers: defaults, TOML file, environment, flags.
//!
//! Everything has a default; an empty file is a valid configuration. What is unknown or impossible is refused with its place
//! and, for a misspelt key, the nearest right name: a setting that silently does nothing is worse than none.

mod changes;
mod companion;
mod credentials;
mod layers;
mod limits;
mod network;
mod secret;
mod sections;
mod shown;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use changes::Changes;
pub use companion::{ChatConfig, HandlerConfig, QWeatherConfig, Responder, WeatherConfig};
pub use layers::{Flag, Layers, Loaded, Source};
pub use limits::Limits;
pub use network::Network;
pub use secret::Secret;
pub use sections::{
    AuthConfig, ForwardedHeader, HistoryConfig, LogConfig, LogFormat, MailboxConfig, MessagesConfig, MetricsConfig, Registration,
    ServerConfig, StorageConfig, TlsConfig,
};
pub use shown::DEFAULT;

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

/// A value that no server could run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    section: &'static str,
    key: &'static str,
    what: &'static str,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} {}", self.section, self.key, self.what)
    }
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
            Some(complaint) => Err((line_of(text, complaint.section, complaint.key), complaint.to_string())),
        }
    }

    /// The first value that no server could run with.
    fn impossible(&self) -> Option<Complaint> {
        if let Some(what) = companion::wrong_handler(&self.handler) {
            return Some(Complaint { section: "handler", key: "type", what });
        }
        let l = &self.limits;
        let checks = [
            (l.group_buffer == 0 || l.group_buffer > 1 << 20, "limits", "group_buffer", "must be 1 to 1048576"),
            (l.group_bytes == Some(0), "limits", "group_bytes", "must be at least 1"),
            (self.mailbox.ttl == 0, "mailbox", "ttl", "must be at least 1"),
            (self.mailbox.max_ttl < self.mailbox.ttl, "mailbox", "max_ttl", "must be at least mailbox.ttl"),
            (self.mailbox.max_ttl > u64::from(u32::MAX) / 2, "mailbox", "max_ttl", "must be at most 2147483647"),
            (l.tokens_per_user == 0, "limits", "tokens_per_user", "must be at least 1"),
            (l.max_frame_bytes != 0 && l.max_frame_bytes < 1024, "limits", "max_frame_bytes", "must be 0 or at least 1024"),
            (l.head_seconds == 0, "limits", "head_seconds", "must be at least 1"),
            (l.body_seconds == 0, "limits", "body_seconds", "must be at least 1"),
            (l.push_bytes != 0 && l.push_bytes < 1024, "limits", "push_bytes", "must be 0 or at least 1024"),
            (
                l.idle_seconds != 0 && (l.ping_seconds == 0 || l.idle_seconds <= l.ping_seconds),
                "limits",
                "idle_seconds",
                "must be more than limits.ping_seconds, or every quiet connection would be cut (or 0: never)",
            ),
            (self.tls.cert.is_some() && self.tls.key.is_none(), "tls", "cert", "needs tls.key"),
            (self.tls.key.is_some() && self.tls.cert.is_none(), "tls", "key", "needs tls.cert"),
            (self.tls.cert.is_some() && self.tls.self_signed, "tls", "self_signed", "and tls.cert exclude each other"),
            (!self.tls.names.is_empty() && !self.tls.self_signed, "tls", "names", "are for tls.self_signed"),
            (
                self.tls.redirect.is_some() && !self.tls.on(),
                "tls",
                "redirect",
                "needs a certificate: tls.cert and tls.key, or tls.self_signed",
            ),
            (
                self.chat.calls() && self.chat.model.is_empty(),
                "chat",
                "model",
                "must name the model, where responder is \"openai\"",
            ),
            (!companion::is_url(&self.chat.url), "chat", "url", "must begin with http:// or https://"),
            (self.chat.timeout_seconds == 0, "chat", "timeout_seconds", "must be at least 1"),
            (self.chat.idle_seconds == 0, "chat", "idle_seconds", "must be at least 1"),
            (!(1..=companion::MOST_AT_ONCE).contains(&self.chat.concurrency), "chat", "concurrency", "must be 1 to 4096"),
            (self.chat.turns > companion::MOST_TURNS, "chat", "turns", "must be at most 100"),
            (
                self.weather.qweather.as_ref().is_some_and(|q| !companion::is_host(&q.host)),
                "weather",
                "qweather",
                "host must be a host's name",
            ),
            (!is_filter(&self.log.filter), "log", "filter", "must be levels such as \"info\" or \"warn,qy_lty=debug\""),
            (self.storage.memory_budget < 48 << 20, "storage", "memory_budget", "must be at least 50331648 (48 MiB)"),
            (self.server.data_dir.as_os_str().is_empty(), "server", "data_dir", "must name a directory"),
            (
                self.server.origins.iter().any(|o| !is_origin(o)),
                "server",
                "origins",
                "must hold origins such as \"https://app.example.com\": scheme, host, port if unusual, nothing after",
            ),
        ];
        checks.into_iter().find(|c| c.0).map(|(_, section, key, what)| Complaint { section, key, what })
    }
}

/// Whether `text` has the form of an origin (RFC 6454 section 6.1), those of packaged apps and of files included.
fn is_origin(text: &str) -> bool {
    let clean = |host: &str| host.bytes().all(|b| b.is_ascii_graphic()) && !host.contains(['/', '?', '#', '@', '*']);
    let parts = |(scheme, host): (&str, &str)| !scheme.is_empty() && scheme.is_ascii() && clean(host);
    matches!(text, "null" | "file://") || text.split_once("://").is_some_and(|p| parts(p) && !p.1.is_empty())
}

/// Whether `text` says what to log.
fn is_filter(text: &str) -> bool {
    text.parse::<tracing_subscriber::filter::Targets>().is_ok()
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

/// The line on which `section.key` is set; 1 when it is not in the file.
fn line_of(text: &str, section: &str, key: &str) -> usize {
    let Ok(table) = toml::de::DeTable::parse(text) else { return 1 };
    let section = table.get_ref().get(section);
    let value = section.and_then(|s| s.get_ref().get(key)).or(section);
    value.map_or(1, |v| line_at(text, v.span().start))
}

/// The key that is set on a line, where one is.
fn key_on(text: &str, line: usize) -> Option<&str> {
    text.lines().nth(line - 1)?.split_once('=').map(|(key, _)| key.trim())
}

/// Turns serde's words into ours: names the key, and for an unknown one the nearest right name.
fn explain(message: &str, key: Option<&str>) -> String {
    let message = message.trim().lines().collect::<Vec<_>>().join("; ");
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return key.map_or(message.clone(), |key| format!("{key}: {message}"));
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|&(distance, name)| distance <= name.len().max(unknown.len()) / 2);
    match nearest {
        Some((_, name)) => format!("unknown key \"{unknown}\"; did you mean \"{name}\"?"),
        None if rest.contains("`server`") => format!("unknown key \"{unknown}\"; keys belong into a section, such as [server]"),
        None => format!("unknown key \"{unknown}\""),
    }
}
