//! The bytes of the WebSocket protocol.
//!
//! Pure code, no I/O; of the other modules it uses only [`core`](crate::core). [`inbound`] parses a client's text message into a
//! typed request or a rejection, `quick` does so for the most frequent ones; [`outbound`] has every event the server sends; [`object`] is the text of one JSON object, the
//! payload of a message; [`readable`] refuses JSON that some parsers can't read; [`frame`] encodes payloads as frames and parses frame headers; [`handshake`] has the accept key; [`close`] lists the close codes.

pub mod close;
pub mod frame;
pub mod handshake;
pub mod inbound;
pub mod object;
pub mod outbound;
mod quick;
pub mod raw;
pub mod readable;

pub use close::CloseCode;
pub use inbound::{Command, Inbound};
pub use object::JsonObject;
pub use outbound::{ErrorCode, Event, Push};
pub use raw::Raw;
pub use readable::check_readable;
