//! The REST API and browsers.

mod access;
mod accounts;
mod backup;
mod browser;
mod connections;
mod described;
mod heads;
mod last_seen;
mod lists;
mod pairing;
mod services;
mod unreadable;
