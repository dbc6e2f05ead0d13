//! qy-lty: companion devices, apps and web pages talk to each other in real time through one binary.
//!
//! # Architecture
//! ```text
//!  device, app ──► net ──► admission ──► ws ───────► session ──────► handlers ──► upstreams
//!                                        frames      │   ▲  messages
//!                                                    │   │ announcements: one payload, one shared frame
//!                                                    │   └────────────────────── hub (tokio's broadcast)
//!                                                    ▼                            ▲
//!  REST client ──► http ──► api ──┬──────────────► mailbox ── append, commit, then announce
//!                           ▲     │                  │
//!  command line ──► control ┘     ▼                  ▼ operations
//!                              accounts ─────────► change ───► store: sled, one writer thread
//!                              policy
//! ```
//!
//! `ws` and `http` ask `auth` for the caller; `app` holds one of each part. `docs/dev/ARCHITECTURE.md` has the invariants, the
//! threads, the data on disk and the reasons.
//!
//! Modules, lowest first; each uses only those above it in this list.
//!
//! | module | contents |
//! | --- | --- |
//! | `core` | ids, names, time, lives, deadlines, hexadecimal, untrusted text, words for wrong values |
//! | `wire` | the bytes of the WebSocket protocol: inbound, outbound, frames, close codes |
//! | `telemetry` | metrics, and the events of the audit trail |
//! | `config` | settings: layers, validation, differences |
//! | `log` | output of the log: text, JSON, systemd's journal |
//! | `data_dir` | the directory that holds everything |
//! | `store` | durable state; backup, restore, check, compact, migrate |
//! | `change` | every change of durable state, as a value; the index of the mailboxes; the service clock |
//! | `audit` | the audit trail: logged, and kept in the store |
//! | `hub` | groups and presence |
//! | `cluster` | copies of the store on several nodes, which follow one log; what nodes tell each other |
//! | `mailbox` | queued messages: append, commit, announce, read, acknowledge, expire |
//! | `net` | listening sockets, TLS, client addresses, the redirect to HTTPS |
//! | `admission` | rate limits, permits, origins, the gate of HTTP connections |
//! | `auth` | credential to caller: tokens, tickets, passwords, cookies, pairing codes |
//! | `handlers` | answers to messages, one file a type; upstream clients |
//! | `health` | checks behind `/healthz` and `/readyz` |
//! | `history` | the figures of the last hour and the last day |
//! | `app` | the shared state, in build order |
//! | `accounts` | users, devices, tokens, pairing, policy: each change is one call |
//! | `monitor` | the figures that people look at: connections, the overview, its history |
//! | `http` | tables of routes, authorised calls, replies, errors; no resource |
//! | `session` | one connection's decisions, without a socket: delivery, heartbeat, pending replies |
//! | `ws` | WebSocket connections: handshake, frames, socket, the task of each |
//! | `api` | the URL map, and the REST resources, one file each |
//! | `web` | the page in the binary |
//! | `control` | the socket that the command line uses |
//! | `routes` | the service of the main listener, assembled from `api`, `web` and `ws` |
//! | `ops` | first start, banner, periodic clean-up, reload, systemd |
//! | `server` | a server's life from the first listener to the last flush |
//! | `load` | the load side of `bench`: clients, workloads, what is counted; used by tests and benches |
//! | `cli` | the command line |
//! | `fuzzing` | entry points of the fuzz targets |

mod accounts;
mod admission;
mod api;
mod app;
mod audit;
mod auth;
mod change;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod control;
mod core;
mod data_dir;
#[cfg(test)]
mod describe;
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod health;
mod history;
mod http;
mod hub;
#[doc(hidden)]
pub mod load;
mod log;
mod mailbox;
mod monitor;
mod net;
mod ops;
mod routes;
mod server;
mod session;
mod store;
mod telemetry;
mod web;
mod wire;
mod ws;

pub use accounts::policy::Action;
pub use api::ROUTES;
pub use auth::Actor;
pub use cli::run;
pub use config::{Config, DEFAULT, HandlerConfig, QWeatherConfig, Registration, Responder};
pub use http::{Route, Verb};
pub use ops::reload::Reload;
pub use server::{ServeError, serve};
