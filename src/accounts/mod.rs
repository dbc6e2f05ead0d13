//! Accounts, devices and their credentials.

pub mod pairing;
pub mod revocation;
