//! The records of the store and their encodings. No I/O.

mod authority;
mod companion;
mod devices;
mod hash;
mod log;
mod tokens;
mod users;

pub use authority::Authority;
pub use companion::{Catalog, CatalogEntry, CatalogKey, Observation};
pub use devices::{Device, DeviceChange, NewDevice};
pub use hash::TokenHash;
pub use log::{Earlier, HEAD_BYTES, Head, Reader, ReceivedAt, Stored};
pub use tokens::{NewToken, Token, TokenKind};
pub use users::{NewUser, Role, User, UserChange, fold_name};
