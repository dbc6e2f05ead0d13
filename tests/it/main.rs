//! The integration tests: one program, one process. `cargo test --test it delivery::crash` runs one module.
//!
//! Tests run in parallel threads of this process. Those that look at a process (its memory, environment, log or end) start the
//! real program as a child; those that measure latencies take turns with [`support::exclusive`]. Nothing in a server is global to
//! the process, so that servers in it don't share limits or metrics.

#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::missing_docs_in_private_items, clippy::unwrap_used)]

mod cluster;
mod config;
mod console;
mod delivery;
mod docs;
mod ops;
mod rest;
mod security;
mod support;
mod ws;
