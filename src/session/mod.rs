//! One connection's state and decisions, independent of the protocol that carries it.
//!
//! [`Session`] is the whole: `state` starts and ends it, `requests` answers what the client sends. `delivery` decides which
//! messages are written now, with the position in the log and the `window` of batches in flight; `heartbeat` schedules pings and
//! timeouts; `pending` holds requests whose answers take time; `count` is what is counted. [`ws`](crate::ws) reads, writes and
//! frames.
//!
//! # Invariants
//! - A session is listed in the hub's presence from [`Session::start`] to [`Session::end`], and ends when it is closed there.
//! - Nothing a client sends or leaves unread makes a session hold more than a few buffers: requests, commands, watched messages
//!   and messages in flight are bounded.

mod count;
mod delivery;
mod end;
mod heartbeat;
mod pending;
mod requests;
mod state;
mod window;

pub use count::ended;
pub use end::End;
pub use pending::Reply;
pub use requests::Turn;
pub use state::{Ended, Options, Session};
