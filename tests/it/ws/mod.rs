//! The WebSocket protocol and the companion's answers.

mod chat;
mod chat_cancel;
mod companion;
mod guide;
mod limits;
mod target;
mod upstreams;
