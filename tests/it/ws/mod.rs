//! The WebSocket protocol and the companion's answers.

mod boards;
mod chat;
mod chat_cancel;
mod companion;
mod guide;
mod limits;
mod refs;
mod returning;
mod target;
mod upstreams;
