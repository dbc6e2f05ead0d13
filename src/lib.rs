//! qy-lty: companion devices, apps and web pages talk to each other in real time through one binary.
//!
//! # The map of the house
//! ```text
//!  device/app ──TCP──► door ──► auth ──► session ◄─────────────┐
//!                       │         │         │ typed message    │ frames, shared, encoded once
//!  REST client ───────► rest ─────┤         ▼                  │
//!                                 │      handlers              │
//!                                 ▼                            │
//!                               store ◄── mailbox ──────────► hub
//!                          (sled, and nobody else names it)   (tokio broadcast: user_, device_, all)
//!
//!  command line ──socket in the data directory──► rest (the console: every caller owns the directory)
//! ```
//!
//! | room | what it does | may know of |
//! | --- | --- | --- |
//! | [`ids`] | newtypes for every id | nothing |
//! | [`wire`] | the bytes: inbound, outbound, frames, close codes, timestamps | ids |
//! | [`metrics`] | what is counted and measured; all below may count | wire |
//! | [`audit`] | the trail of who got in and who changed rights | ids |
//! | [`config`] | the settings | nothing |
//! | [`data_dir`] | the directory that holds everything | nothing |
//! | [`store`] | what outlives the process; backup, restore, check, compact, migrate | data_dir, ids, wire |
//! | [`hub`] | groups and presence | ids, wire |
//! | [`mailbox`] | what waits for whom: append → commit → announce | config, data_dir, hub, store |
//! | [`door`] | listening sockets, TLS, real addresses, origins, rates, seats | audit, config, data_dir, ids |
//! | [`auth`] | credentials, passwords, tickets, pairing, the page's cookie | config, door, store |
//! | [`handlers`] | what the companion answers | config, door, store, wire |
//! | [`health`] | whether the server does its work | hub, store |
//! | [`app`] | what all share, in build order | all above |
//! | [`error`] | the catalogue of REST errors | auth, health, mailbox, store |
//! | [`session`] | one connection's life | app, error, handlers |
//! | [`rest`] | the URL map, its resources, the page, the console | app, audit, error, session |
//! | [`ops`] | first start, sweeps, reloads, systemd | app |
//! | [`serve`](mod@serve) | a server's life from the first listener to the last flush; the console on its socket | rest, ops |
//! | [`cli`] | the command line, the log | app, config, door, store, serve |
//! | [`fuzzing`] | what fuzzers call | parsers |
//!
//! No arrow goes back up: nothing imports `rest` or `ops` but [`serve`](mod@serve).

pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod door;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod handlers;
pub mod health;
pub mod hub;
pub mod ids;
pub mod mailbox;
pub mod metrics;
pub mod ops;
pub mod rest;
pub mod serve;
pub mod session;
pub mod store;
pub mod wire;

pub use ops::reload::Reload;
pub use serve::{ServeError, serve};
