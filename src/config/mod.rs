//! The settings: one documented tree, read from TOML.
//!
//! Everything has a default; an empty file is a valid configuration. What is unknown or impossible is refused with the file,
//! the line and, for a misspelt key, the nearest right name: a setting that silently does nothing is worse than none.

mod companion;
mod limits;
mod network;
mod secret;
mod sections;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use companion::{ChatConfig, HandlerConfig, QWeatherConfig, Responder, WeatherConfig};
pub use limits::Limits;
pub use network::Network;
pub use secret::Secret;
pub use sections::{
    AuthConfig, ForwardedHeader, HistoryConfig, LogConfig, LogFormat, MailboxConfig, MessagesConfig, MetricsConfig, Registration,
    ServerConfig, StorageConfig, TlsConfig,
};

/// All settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
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
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// When the file can't be read, is no TOML, holds an unknown key, a value of the wrong type or an impossible one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|(line, what)| ConfigError::Refused { path: path.into(), line, what })
    }

    /// Reads TOML text; an error is the line and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            (line, explain(error.message(), key_on(text, line)))
        })?;
        match config.impossible() {
            None => Ok(config),
            Some((section, key, what)) => Err((line_of(text, section, key), format!("{section}.{key} {what}"))),
        }
    }

    /// The first value that no server could run with: section, key, what is wrong.
    fn impossible(&self) -> Option<(&'static str, &'static str, &'static str)> {
        if let Some(what) = companion::wrong_handler(&self.handler) {
            return Some(("handler", "type", what));
        }
        let l = &self.limits;
        let checks = [
            (l.group_buffer == 0 || l.group_buffer > 1 << 20, "limits", "group_buffer", "must be 1 to 1048576"),
            (l.group_bytes == 0, "limits", "group_bytes", "must be at least 1"),
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
            (self.storage.memory_budget < 48 << 20, "storage", "memory_budget", "must be at least 50331648 (48 MiB)"),
            (self.server.data_dir.as_os_str().is_empty(), "server", "data_dir", "must name a directory"),
            (
                self.server.origins.iter().any(|o| !is_origin(o)),
                "server",
                "origins",
                "must hold origins such as \"https://app.example.com\": scheme, host, port if unusual, nothing after",
            ),
        ];
        checks.into_iter().find(|c| c.0).map(|(_, section, key, what)| (section, key, what))
    }
}

/// Whether `text` has the form of an origin (RFC 6454 section 6.1), those of packaged apps and of files included.
fn is_origin(text: &str) -> bool {
    let clean = |host: &str| host.bytes().all(|b| b.is_ascii_graphic()) && !host.contains(['/', '?', '#', '@', '*']);
    let parts = |(scheme, host): (&str, &str)| !scheme.is_empty() && scheme.is_ascii() && clean(host);
    matches!(text, "null" | "file://") || text.split_once("://").is_some_and(|p| parts(p) && !p.1.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let (line, what) = Config::parse(text).unwrap_err();
        format!("{line}: {what}")
    }

    #[test]
    fn nothing_is_needed() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert!(Config::default().impossible().is_none());
    }

    #[test]
    fn values_are_read() {
        let text = "[server]\nlisten = \"0.0.0.0:9\"\norigins = [\"https://a.b\"]\n[auth]\nregistration = \"open\"\n[limits]\nconnections = 0";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.server.listen.to_string(), "0.0.0.0:9");
        assert_eq!(config.auth.registration, Registration::Open);
        assert_eq!(config.limits.connections, 0);
        assert_eq!(config.limits.idle_seconds, 75);
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let text = "[server]\n\n[limits]\nmessages_per_minut = 5\n";
        assert_eq!(refused(text), "4: unknown key \"messages_per_minut\"; did you mean \"messages_per_minute\"?");
        assert_eq!(refused("[limit]\n"), "1: unknown key \"limit\"; did you mean \"limits\"?");
        assert_eq!(refused("[server]\nzzzzzzzzzzzzzz = 1\n"), "2: unknown key \"zzzzzzzzzzzzzz\"");
    }

    #[test]
    fn proxies_and_certificates() {
        let text =
            "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded_header = \"forwarded\"\n[tls]\nself_signed = true";
        let config = Config::parse(text).unwrap();
        assert!(config.server.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()) && config.tls.on());
        assert_eq!(config.server.forwarded_header, ForwardedHeader::Forwarded);
        assert!(refused("[server]\ntrusted_proxies = [\"proxy\"]\n").starts_with("2: trusted_proxies: "));
        assert_eq!(refused("[tls]\n\ncert = \"c.pem\"\n"), "3: tls.cert needs tls.key");
        assert_eq!(refused("[tls]\nkey = \"k.pem\"\n"), "2: tls.key needs tls.cert");
        assert!(refused("[tls]\nredirect = \"0.0.0.0:80\"\n").starts_with("2: tls.redirect needs a certificate"));
    }

    #[test]
    fn the_companion() {
        let text = "[chat]\nresponder = \"openai\"\nmodel = \"qwen\"\nkey = \"s3cret\"\n[weather.qweather]\nhost = \"h\"\nkey = \"k\"\n\
                    [[handler]]\ntype = \"story\"\nurl = \"http://127.0.0.1:9/\"\n";
        let config = Config::parse(text).unwrap();
        assert_eq!((config.handler[0].kind.as_str(), config.handler[0].timeout_seconds), ("story", 10));
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(refused("[chat]\nresponder = \"openai\"\n").contains("chat.model must name the model"));
        let handler = |kind: &str, url: &str| format!("[[handler]]\ntype = \"{kind}\"\nurl = \"{url}\"\n");
        assert!(refused(&handler("sing", "http://x")).ends_with("that the program answers itself"));
        assert!(refused(&handler("a b", "http://x")).contains("letters, digits"));
        assert!(refused(&handler("a", "ftp://x")).contains("needs a url"));
        assert!(refused(&(handler("a", "http://x") + &handler("a", "http://y"))).contains("another one has"));
    }

    #[test]
    fn bounds_that_follow_from_others() {
        let limits = |text: &str| Config::parse(&format!("[limits]\n{text}")).unwrap().limits;
        assert_eq!((limits("").bytes_per_minute(), limits("").sockets_per_address()), (6_553_600, 200));
        assert_eq!(limits("messages_per_minute = 0").bytes_per_minute(), 0);
        assert_eq!(limits("bytes_per_minute = 5").bytes_per_minute(), 5);
        assert_eq!(limits("connections_per_address = 0").sockets_per_address(), 0);
        assert_eq!(limits("connections_per_address = 3").sockets_per_address(), 50);
    }

    #[test]
    fn impossible_values_are_refused_on_their_line() {
        assert!(refused("[limits]\n\nidle_seconds = 30\n").starts_with("3: limits.idle_seconds must be more than"));
        assert!(refused("[limits]\nping_seconds = 0\n").starts_with("1: limits.idle_seconds must be more than"));
        assert!(refused("[limits]\nping_seconds = \"30\"\n").starts_with("2: ping_seconds: invalid type: string"));
        assert!(refused("[limits]\nconnections = -1\n").starts_with("2: connections: invalid value: integer `-1`"));
        assert!(refused("[server]\norigins = [\"app.example.com\"]\n").starts_with("2: server.origins must hold"));
        assert!(refused("[server]\norigins = [\"https://b\u{fc}cher.example\"]\n").starts_with("2: server.origins must hold"));
        assert!(refused("[server]\nlisten = \"nowhere\"\n").starts_with("2: listen: "));
        assert!(refused("listen = \"[::]:1\"\n").ends_with("keys belong into a section, such as [server]"));
        let apps = "[server]\norigins = [\"null\", \"file://\", \"capacitor://localhost\", \"chrome-extension://abc\"]";
        assert!(Config::parse(apps).is_ok());
        assert!(refused("[server\n").starts_with("1: "));
        assert_eq!(refused("[limits]\ngroup_buffer = 0\n"), "2: limits.group_buffer must be 1 to 1048576");
    }
}
