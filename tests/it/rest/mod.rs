//! The REST API and browsers.

mod access;
mod accounts;
mod browser;
mod lists;
mod pairing;
mod unreadable;
