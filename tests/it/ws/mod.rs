//! The WebSocket protocol and the companion's answers.

mod chat;
mod companion;
mod guide;
mod limits;
mod refs;
mod target;
