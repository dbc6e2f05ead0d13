//! The sections of the configuration but `[limits]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Network;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port; loopback only unless asked for. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data directory, relative to the working directory; made with mode 0700.
    pub data_dir: PathBuf,
    /// Web origins whose pages may use this server besides its own, for example `https://app.example.com`: they may open
    /// WebSockets and, with a token, call the REST API (CORS).
    pub origins: Vec<String>,
    /// Reverse proxies whose word about a client's address and scheme is taken: addresses or networks.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it. One only: a client could write the other one itself.
    pub forwarded_header: ForwardedHeader,
    /// Close WebSockets of users without a primary device with 4002 (guide section 3.1 has this commented out).
    pub require_device: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            data_dir: PathBuf::from("data"),
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            require_device: false,
        }
    }
}

/// How trusted proxies name the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`: nginx, HAProxy, Traefik, Apache.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[tls]`: off unless `cert` and `key`, or `self_signed`, are set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, PEM; read anew when it changes.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM; read anew when it changes.
    pub key: Option<PathBuf>,
    /// Make a certificate of our own once, in the data directory.
    pub self_signed: bool,
    /// Further names and addresses for the certificate that we make, for example `box.lan`.
    pub names: Vec<String>,
    /// Where to answer plain HTTP with a redirect to HTTPS, for example `0.0.0.0:80`.
    pub redirect: Option<SocketAddr>,
}

impl TlsConfig {
    /// Whether the server speaks TLS.
    pub fn on(&self) -> bool {
        self.self_signed || self.cert.is_some()
    }
}

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether strangers may create their own account.
    pub registration: Registration,
}

/// Who may create an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Administrators only.
    #[default]
    Closed,
    /// Anyone who can reach the server.
    Open,
}

/// `[messages]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessagesConfig {
    /// Whether users may send to other users (administrators and service tokens always may).
    pub cross_user: bool,
}

/// `[mailbox]`: 0 switches a limit off, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxConfig {
    /// Messages that wait in one mailbox; more are refused with 507.
    pub messages: usize,
    /// Bytes of messages that wait in one mailbox; more are refused with 507. One message is always taken.
    pub bytes: u64,
    /// Seconds that a message waits when its sender does not say. Can't be 0.
    pub ttl: u64,
    /// Seconds that a sender may ask for. Can't be 0.
    pub max_ttl: u64,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        Self { messages: 1000, bytes: 16 << 20, ttl: 7 * 86_400, max_ttl: 366 * 86_400 }
    }
}

/// `[history]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Seconds that received messages are kept for replays; 0: not at all.
    pub retain: u64,
    /// How many of them are kept in one mailbox; 0: none.
    pub messages: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { retain: 86_400, messages: 100 }
    }
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Below so many free bytes on the disk, messages are refused with 507; 0: never.
    pub min_free_bytes: u64,
    /// Bytes kept in reserve, so that the store can be opened once more on a full disk; 0: none.
    pub ballast_bytes: u64,
    /// Bytes of memory that caches and buffers are cut to fit: the store's cache, password hashing, what waits for slow
    /// readers. Connections come on top. At least 48 MiB.
    pub memory_budget: u64,
    /// At the start the store is rewritten when it takes more than so many times the room of what is in it; 0: never. At
    /// least 12: a fresh one takes up to ten times that.
    pub compact_ratio: u32,
    /// A store smaller than so many bytes is never rewritten at the start.
    pub compact_min_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            min_free_bytes: 64 << 20,
            ballast_bytes: 16 << 20,
            memory_budget: 128 << 20,
            compact_ratio: 20,
            compact_min_bytes: 256 << 20,
        }
    }
}

impl StorageConfig {
    /// The store's page cache, of which sled takes about 2.8 times as much when it is full: a third of the budget in all.
    pub fn cache_bytes(&self) -> u64 {
        self.memory_budget / 8
    }

    /// How many passwords are looked at at once; each takes 19 MiB as long as it lasts.
    pub fn hashers(&self) -> usize {
        if self.memory_budget < 96 << 20 { 1 } else { 2 }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where else to serve `/metrics`, without any log-in: for a collector on this machine or in a network of its own.
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged: a level for each part of the program, as `RUST_LOG`, which comes first, has it.
    pub filter: String,
    /// How it is written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "warn,qy_lty=info,audit=info".into(), format: LogFormat::Auto }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// To the journal with its fields where systemd started the program, else as text.
    #[default]
    Auto,
    /// Lines for people, on standard error.
    Text,
    /// One JSON object a line, on standard error.
    Json,
    /// To systemd's journal, each value a field of its own.
    Journald,
}
