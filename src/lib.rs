//! qy-lty: companion devices, apps and web pages talk to each other in real time through one binary.
//!
//! # Architecture
//! ```text
//!  device/app ──TCP──► net ──► admission ──► auth ──► session ◄───────────────┐
//!                                              │         │ typed message      │ payloads; one shared frame
//!  REST client ──► http ──► api ───────────────┤         ▼                    │
//!  owner's CLI ──► control socket ──► api ─────┘      handlers ──► mailbox ──► hub
//!                           │                                        │     (tokio broadcast: user_, device_, all)
//!                           ▼                                        ▼
//!                        accounts  ◄── policy: who may do what     store (sled, and nobody else names it)
//! ```
//!
//! Modules, lowest first; each uses only those above it in this list.
//!
//! | module | contents |
//! | --- | --- |
//! | `core` | ids, time, hexadecimal, characters that are safe to show |
//! | `wire` | the bytes of the WebSocket protocol: inbound, outbound, frames, close codes |
//! | `telemetry` | metrics and the audit trail |
//! | `config` | settings: layers, validation, changes |
//! | `log` | the log: text, JSON, systemd's journal |
//! | `data_dir` | the directory that holds everything |
//! | `store` | durable state; backup, restore, check, compact, migrate |
//! | `change` | every change of durable state, as a value; the index of the mailboxes |
//! | `hub` | groups and presence |
//! | `mailbox` | queued messages: append, commit, announce, read, acknowledge, expire |
//! | `net` | listening sockets, TLS, client addresses, the redirect to HTTPS |
//! | `admission` | rate limits, permits, origins |
//! | `auth` | credential to caller: tokens, tickets, passwords, cookies, pairing codes |
//! | `handlers` | answers to messages, one file a type; upstream clients |
//! | `health` | checks behind `/healthz` and `/readyz` |
//! | `app` | the shared state, in build order |
//! | `accounts` | users, devices, tokens, pairing, revocation, policy: each change is one call |
//! | `http` | routes, requests, replies, errors |
//! | `session` | one connection's state: delivery, heartbeat, pending replies |
//! | `ws` | WebSocket connections: handshake, socket, the task of each |
//! | `api` | the REST resources, one file each |
//! | `web` | the pages in the binary |
//! | `control` | the socket that the command line uses |
//! | `routes` | the services of the listeners |
//! | `ops` | first start, periodic clean-up, reload, systemd |
//! | `server` | a server's life from the first listener to the last flush |
//! | `cli` | the command line |
//! | `fuzzing` | entry points of the fuzz targets |

mod accounts;
mod admission;
mod api;
mod app;
mod auth;
mod change;
mod cli;
mod config;
mod control;
mod core;
mod data_dir;
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod health;
mod http;
mod hub;
mod log;
mod mailbox;
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

pub use api::ROUTES;
pub use auth::Actor;
pub use cli::run;
pub use config::{Config, DEFAULT, HandlerConfig, QWeatherConfig, Registration, Responder};
pub use http::{Route, Verb};
pub use ops::reload::Reload;
pub use server::{ServeError, serve};
