//! The wire: what the bytes look like, and nothing else.
//!
//! Pure code, no I/O, no other module of ours but [`core`](crate::core). [`inbound`] turns a client's text frame into a typed
//! [`Request`] or says what is wrong with it; [`outbound`] is every event the server sends; [`frame`] encodes an event once,
//! so that any number of receivers can share the bytes; [`close`] lists the close codes.

pub mod close;
pub mod frame;
pub mod inbound;
pub mod outbound;
pub mod raw;

pub use close::CloseCode;
pub use frame::Frame;
pub use inbound::{Command, Inbound};
pub use outbound::{ErrorCode, Event, Push};
pub use raw::Raw;
