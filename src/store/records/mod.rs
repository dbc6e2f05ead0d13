//! The records of the store and their encodings. No I/O.

mod audit;
mod authority;
mod companion;
mod devices;
mod hash;
mod import;
mod log;
mod pairings;
mod passes;
mod places;
mod receipts;
mod samples;
mod scopes;
mod tokens;
mod users;

pub use audit::{AuditRecord, AuditSubject};
pub use authority::Authority;
pub use companion::{Catalog, CatalogEntry, CatalogKey, Observation};
pub use devices::{Device, DeviceChange, MIN_MAX_BYTES, NewDevice};
pub use hash::TokenHash;
pub use import::{ImportState, Imported, ImportedDevice, ImportedToken, ImportedUser};
pub use log::{Answer, Block, BlockBuilder, Earlier, Head, INLINE_BYTES, Stored, read_block};
pub use pairings::{DeviceInfo, Guesses, Pairing};
pub use passes::{Grant, Pass};
pub use places::{Missed, Place, ReaderPlace};
pub use receipts::{EndState, PageNumber, ReceiptPage, ReceiptRecord};
pub use samples::{MINUTE_SECONDS, Minute, OnlineDevices, SLOT_SECONDS, Sample, Slot};
pub use scopes::{Scope, Scopes};
pub use tokens::{NewToken, Token, TokenKind};
pub use users::{NewUser, Role, User, UserChange, fold_name};
