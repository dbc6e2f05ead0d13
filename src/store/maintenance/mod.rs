//! Maintenance of whole stores: backup, restore, check, repair, compact, migrate.

mod backup;
mod capture;
mod check;
mod compact;
mod dump;
mod export;
mod legacy;
mod migrate;
mod names;
mod numbers;
mod repair;
mod restore;
mod salvage;
mod scan;
mod watch;

pub use backup::{BackupPermit, is_backup, verify};
pub use check::{Findings, check};
pub use compact::compact;
pub use dump::BackupError;
pub use migrate::{migrate, must_migrate};
pub use repair::{repair, repair_for_start};
pub use restore::restore;
#[cfg(feature = "cluster")]
pub use restore::restore_copy;
pub use watch::{Progress, Watch};
