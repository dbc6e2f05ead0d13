//! The sections of the configuration, except `[limits]` and those of the companion.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Network, addresses, units};

/// `[server]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The listening address and port; by default loopback only. Port 0 takes a free port, no address is every IPv4 address.
    #[serde(deserialize_with = "addresses::address")]
    pub listen: SocketAddr,
    /// The data directory, created with mode 0700; relative to the directory of the file that sets it, else to the working directory.
    pub data_dir: PathBuf,
    /// Web origins, besides the server's own, whose pages may open WebSockets and, with a token, call the REST API (CORS): for
    /// example `https://app.example.com`, or `capacitor://localhost` of an app in a web view.
    pub origins: Vec<String>,
    /// Host names, besides the known ones, under which web pages may use this server: for example `qy.example.com`. `*.` at the
    /// beginning stands for one label. Known are addresses, names without a dot, this machine's name, names below `.local`, `.lan`
    /// and `.home.arpa`, `tls.names`, and the hosts of `origins`.
    pub hosts: Vec<String>,
    /// Reverse proxies that are trusted to report a client's address and scheme: addresses or networks.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they report it. Only one is read: the client could forge the other.
    pub forwarded_header: ForwardedHeader,
    /// Closes WebSockets of users without a primary device with 4002 (guide section 3.1 has this commented out).
    pub require_device: bool,
    /// Shows the contents of other users' messages to administrators: where they look into a queue, and in the live traffic of the
    /// console.
    pub console_contents: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            data_dir: PathBuf::from("data"),
            origins: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            require_device: false,
            console_contents: false,
        }
    }
}

/// The header in which trusted proxies report the client.
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
    /// The certificate chain, PEM; reloaded when it changes. Relative as `server.data_dir` is.
    pub cert: Option<PathBuf>,
    /// The private key, PEM; reloaded when it changes. Relative as `server.data_dir` is.
    pub key: Option<PathBuf>,
    /// Creates a self-signed certificate in the data directory, once.
    pub self_signed: bool,
    /// Further names and addresses in the self-signed certificate, for example `box.lan`.
    pub names: Vec<String>,
    /// The address that redirects plain HTTP to HTTPS, for example `0.0.0.0:80`.
    #[serde(deserialize_with = "addresses::optional")]
    pub redirect: Option<SocketAddr>,
}

impl TlsConfig {
    /// Returns whether TLS is enabled.
    pub fn enabled(&self) -> bool {
        self.self_signed || self.cert.is_some()
    }
}

/// `[auth]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The callers that may create an account.
    pub registration: Registration,
}

/// The callers that may create an account.
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
    /// Allows users to send to other users (administrators and service tokens always may).
    pub cross_user: bool,
}

/// `[mailbox]`: 0 disables a limit, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxConfig {
    /// Pending messages in one mailbox; further ones are refused with 507. The last tenth, rounded down, is kept for administrators
    /// and services.
    pub messages: usize,
    /// Bytes of pending messages in one mailbox; further ones are refused with 507. The last tenth is kept in the same way. One message
    /// is always accepted.
    #[serde(deserialize_with = "units::bytes")]
    pub bytes: u64,
    /// Bytes of pending messages of one sender, in all mailboxes together; further ones are refused with 507. Administrators and
    /// services have no such bound; 0: nobody has.
    #[serde(deserialize_with = "units::bytes")]
    pub sender_bytes: u64,
    /// The lifetime of a message, in seconds, when its sender gives none. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub ttl: u64,
    /// The maximum lifetime that a sender may give, in seconds. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub max_ttl: u64,
    /// The most clients (readers) of one user; further ones are closed with 4104. 0: any number.
    pub readers: usize,
    /// Days without a connection after which a reader is forgotten; 0: never.
    #[serde(deserialize_with = "units::days")]
    pub reader_days: u32,
    /// Connections that a message is written to without a proof before its reader passes over it; 0: any number.
    pub max_deliveries: u16,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        Self {
            messages: 1000,
            bytes: 16 << 20,
            sender_bytes: 64 << 20,
            ttl: 7 * 86_400,
            max_ttl: 366 * 86_400,
            readers: 10,
            reader_days: 30,
            max_deliveries: 0,
        }
    }
}

/// `[history]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Seconds that received messages are kept for replay; 0: not kept.
    #[serde(deserialize_with = "units::seconds")]
    pub retain: u64,
    /// The maximum number of them in one mailbox; 0: none.
    pub messages: usize,
    /// The maximum number of receipts, of all mailboxes together; the oldest go first.
    pub receipts: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { retain: 86_400, messages: 100, receipts: 1_000_000 }
    }
}

/// The memory that hashing a password takes, in bytes.
const HASH_BYTES: u64 = 19 << 20;

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// The free disk space, in bytes, below which messages are refused with 507; a quarter of it while the store has as much room
    /// inside; 0: never.
    #[serde(deserialize_with = "units::bytes")]
    pub min_free_bytes: u64,
    /// Bytes kept in reserve, so that the store can still be opened on a full disk; 0: none.
    #[serde(deserialize_with = "units::bytes")]
    pub ballast_bytes: u64,
    /// The memory, in bytes, for caches and buffers: the store's caches, the index of the mailboxes, password hashing,
    /// output buffered for slow clients, answers on their way. Connections are not included. At least 48 MiB.
    #[serde(deserialize_with = "units::bytes")]
    pub memory_budget: u64,
    /// The store is compacted at the start when it occupies more than this many times the size of its content; 0: never. At
    /// least 12: a fresh store occupies up to ten times the size of its content.
    pub compact_ratio: u32,
    /// The size, in bytes, below which the store is never compacted at the start.
    #[serde(deserialize_with = "units::bytes")]
    pub compact_min_bytes: u64,
    /// The entries of the audit trail that are kept in the store: the last ones, of which no user has more than half. 0: none; else 100
    /// to 100,000.
    pub audit_entries: usize,
    /// Keeps the figures of the last day, one record a minute, for the charts of the console and the online times of devices.
    pub history_samples: bool,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            min_free_bytes: 64 << 20,
            ballast_bytes: 16 << 20,
            memory_budget: 128 << 20,
            compact_ratio: 20,
            compact_min_bytes: 256 << 20,
            audit_entries: 10_000,
            history_samples: true,
        }
    }
}

impl StorageConfig {
    /// Returns the size of the store's page cache, in bytes. A full cache occupies about 2.8 times as much in sled: a sixth of the
    /// budget.
    pub fn page_cache_bytes(&self) -> u64 {
        self.memory_budget / 16
    }

    /// Returns the size of the cache of messages, in bytes, beside an index of the mailboxes that takes `index` bytes: the two share
    /// [`max_index_bytes`](Self::max_index_bytes).
    pub fn message_cache_bytes(&self, index: u64) -> u64 {
        self.max_index_bytes().saturating_sub(index).clamp(self.memory_budget / 32, self.memory_budget / 4)
    }

    /// Returns the size of the index of the mailboxes, in bytes, from which on messages are refused: what the others leave of the budget,
    /// which are the page cache (a sixth), the answers and the bodies of requests (a 16th each) and password hashing; half of it at most.
    pub fn max_index_bytes(&self) -> u64 {
        let budget = self.memory_budget;
        let others = budget / 6 + budget / 8 + (self.max_concurrent_hashes() as u64) * HASH_BYTES;
        budget.saturating_sub(others).min(budget / 2)
    }

    /// Returns the bytes of the bodies of requests that are held at the same time.
    pub fn max_body_bytes(&self) -> usize {
        usize::try_from(self.memory_budget / 16).unwrap_or(usize::MAX)
    }

    /// Returns the number of passwords that may be hashed at the same time; each takes [`HASH_BYTES`].
    pub fn max_concurrent_hashes(&self) -> usize {
        if self.memory_budget < 96 << 20 { 1 } else { 2 }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// An additional address that serves `/metrics` without authentication: for a collector on this machine or in a separate
    /// network.
    #[serde(deserialize_with = "addresses::optional")]
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The level of each part of the program, in the syntax of `RUST_LOG`, which overrides it.
    pub filter: String,
    /// The output format.
    pub format: LogFormat,
    /// The most warnings and errors of one kind in a minute; beyond it, one a minute is written, with the number of those left out. One
    /// a minute for each kind of libraries. 0: any number.
    pub warnings_per_minute: u32,
    /// The same for other lines of one kind, except for the audit trail and for lines at `debug`.
    pub lines_per_minute: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        let filter = "warn,qy_lty=info,audit=info".into();
        Self { filter, format: LogFormat::Auto, warnings_per_minute: 10, lines_per_minute: 600 }
    }
}

/// The output format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// [`Journald`](Self::Journald) when systemd started the program, else [`Text`](Self::Text).
    #[default]
    Auto,
    /// Human-readable lines on standard error.
    Text,
    /// One JSON object per line on standard error.
    Json,
    /// Entries in systemd's journal, each value in its own field.
    Journald,
}
