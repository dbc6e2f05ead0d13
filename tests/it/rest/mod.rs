//! The REST API and browsers.

mod access;
mod accounts;
mod browser;
mod connections;
mod heads;
mod lists;
mod pairing;
mod unreadable;
