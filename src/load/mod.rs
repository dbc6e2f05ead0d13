//! The load side of `bench`: clients, workloads, what is counted, and the server that is measured.
//!
//! It knows the server from outside only: REST and WebSocket over real sockets, and `/proc` where the server is a process of this
//! machine. `tests/` and `benches/` use it, too.
//!
//! Every message carries its run, its sender, its recipient, a number and the moment at which it was sent or due ([`mark`]); from
//! these, [`ledger`] counts loss, duplicates, order and misdelivery exactly, and [`latency`] has the times.

pub mod compare;
pub mod error;
pub mod http;
pub mod latency;
pub mod ledger;
pub mod mark;
pub mod own_server;
pub mod pace;
pub mod population;
pub mod process;
pub mod receivers;
pub mod report;
pub mod sizing;
pub mod target;
pub mod work;
pub mod ws;

pub use error::{LoadError, Refusal};
pub use own_server::{OwnServer, OwnServerOptions};
pub use population::Population;
pub use target::Target;

/// The result of what the load side does.
pub type Result<T, E = LoadError> = std::result::Result<T, E>;
