//! One connection's life, from the handshake to the last byte.
//!
//! `upgrade` answers the handshake and decides whether the connection may live; `run` is the one task with the one
//! `select!` that is the connection; `socket` is the stream below it, with its deadlines; `meter` counts what
//! comes in below the level of messages; `window` is what is in flight; `asks` is what was asked for and
//! takes its time; `count` is what is counted on the way.
//!
//! # Invariants
//! - The handshake is completed before a credential is refused, so that the client can read the close code. Only overload
//!   and a foreign `Origin` are answered over HTTP.
//! - Every session runs in [`App::sessions`](crate::app::App::sessions), is listed in the hub's presence while it lives, and
//!   ends when told to through it.
//! - Nothing a client sends or fails to read makes the server hold more than a few buffers for it, or wait for it longer
//!   than the write deadline.

mod asks;
mod count;
#[cfg(feature = "echo")]
mod echo;
mod heartbeat;
mod meter;
mod run;
mod socket;
mod upgrade;
mod window;

#[cfg(feature = "echo")]
pub use echo::{ECHO_PATH, Echo};
pub use upgrade::Connect;
