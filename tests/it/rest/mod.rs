//! The REST API and browsers.

mod access;
mod accounts;
mod browser;
mod last_seen;
mod lists;
mod pairing;
mod services;
