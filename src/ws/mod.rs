//! WebSocket connections: the handshake, the socket, and the task that runs a [session](crate::session) on it.
//!
//! `upgrade` answers the handshake, `admit` checks who connects and whether there is room; `run` is the one task of a connection
//! with what it waits for, of which `alarm` is the heartbeat and the end; `socket` is below it, with its deadlines, and writes; `reader` finds messages in what comes, and
//! `frame_rates` limits it below their level; `stream` is the connection itself. `console` is the other kind of connection, which shows
//! administrators and users what happens.
//!
//! # Invariants
//! - The handshake is completed before a credential is refused, so that the client can read the close code. A malformed
//!   handshake, overload, a foreign `Origin`, and too many refusals of one address are answered over HTTP.
//! - Every connection runs in [`App::sessions`](crate::app::App::sessions).
//! - The server waits for no client whose TCP does not acknowledge longer than the write deadline, nor for any other one longer than
//!   `limits.stalled_seconds` without a sign of life, and holds no more than a few buffers for it.

mod admit;
mod alarm;
mod buffers;
mod console;
#[cfg(feature = "echo")]
mod echo;
mod frame_rates;
mod reader;
mod run;
mod socket;
mod stream;
mod upgrade;

pub use console::{CONSOLE_PATH, Console};
#[cfg(feature = "echo")]
pub use echo::{ECHO_PATH, Echo};
pub use reader::fuzz_frames;
pub use upgrade::Connect;
