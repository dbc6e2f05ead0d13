//! Maintenance of whole stores: backup, restore, check, repair, compact, migrate.

mod backup;
mod capture;
mod check;
mod compact;
mod dump;
mod export;
mod legacy;
mod migrate;
mod numbers;
mod restore;
mod scan;

pub use backup::verify;
pub use check::{Findings, QUARANTINE, check, repair};
pub use compact::compact;
pub use dump::BackupError;
pub use migrate::{migrate, must_migrate};
pub use restore::restore;
