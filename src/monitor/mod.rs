//! The figures that people look at: connections, the overview, its history. The REST API and the console's WebSocket show the same.

mod connections;

pub use connections::{ConnectionItem, NO_PROOF};
