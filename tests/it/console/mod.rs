//! What a console shows: connections, the overview, its history, and the WebSocket of live updates.

mod connections;
