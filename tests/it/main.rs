//! The integration tests: one program, one process. `cargo test --test it delivery::crash` runs one module.
//!
//! Tests run in parallel threads of one process. What looks at a process (its memory, its environment, its log, its end) starts
//! the real program as a child; what needs the machine for itself asks [`support::exclusive`] for it.

#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::missing_docs_in_private_items, clippy::unwrap_used)]

mod config;
mod delivery;
mod ops;
mod rest;
mod security;
mod support;
mod ws;
