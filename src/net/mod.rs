//! The network below HTTP: listening sockets, TLS, client addresses behind proxies, and the redirect to HTTPS.

pub mod client_addr;
pub mod listen;
pub mod peer;
pub mod plain;
pub mod redirect;
pub mod self_signed;
pub mod stall;
pub mod tls;
pub mod urls;
pub mod validity;
