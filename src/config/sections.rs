//! The sections of the configuration but `[limits]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Network;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`: nginx, HAProxy, Traefik, Apache.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[tls]`: off unless `cert` and `key`, or `self_signed`, are set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether strangers may create their own account.
    pub registration: Registration,
}

/// Who may create an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Administrators only.
    #[default]
    Closed,
    /// Anyone who can reach the server.
    Open,
}

/// `[messages]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessagesConfig {
    /// Whether users may send to other users (administrators and service tokens always may).
    pub cross_user: bool,
}

/// `[mailbox]`: 0 switches a limit off, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Below so many free bytes on the disk, messages are refused with 507; 0: never.
    pub min_free_bytes: u64,
    /// Bytes kept in reserve, so that the store can be opened once more on a full disk; 0: none.
    pub ballast_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { min_free_bytes: 64 << 20, ballast_bytes: 16 << 20 }
    }
}
