//! The figures that people look at: connections, the overview, its history. The REST API and the console's WebSocket show the same.

mod attention;
mod connections;
mod overview;

pub use connections::ConnectionItem;
pub use overview::{overview, sample};
