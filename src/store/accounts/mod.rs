//! Accounts, devices and tokens: the functions that read and write their records.
//!
//! Functions that write are for the writer thread alone, which makes them one at a time: "check that it is free, then insert" is
//! safe inside one. Those that read can be called anywhere.

mod authority;
mod devices;
mod import;
mod last_seen;
mod tokens;
mod users;

/// Reading functions, for operations.
pub mod read {
    pub use super::devices::{by_serial as devices_by_serial, of_user as devices_of};
}

/// Writing functions, for operations.
pub mod write {
    pub use super::devices::{
        change as change_device, create as create_device, delete as delete_device, set_primary, unbind as unbind_device,
    };
    pub use super::import::{import, last_import, note_import};
    pub use super::last_seen::note as note_seen;
    pub use super::tokens::{create as create_token, delete as delete_token, revoke_of_device as revoke_device_tokens};
    pub use super::users::{change as change_user, create as create_user, delete as delete_user, replace_hash};
}
