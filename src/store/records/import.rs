//! Accounts, devices and tokens on their way from another system.

use serde::{Deserialize, Serialize};

use super::{Role, TokenHash};
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;

/// A record that comes from another system, with the ids that it gets here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imported {
    /// An account.
    User(ImportedUser),
    /// A device, with the users that have it.
    Device(ImportedDevice),
    /// A token, with the account that it acts as.
    Token(ImportedToken),
}

/// An account that comes from another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedUser {
    /// Its id here, which is free.
    pub id: UserId,
    /// Prepared by the caller.
    pub username: String,
    /// The account's rights.
    pub role: Role,
    /// Set when its credentials are refused.
    pub disabled: bool,
    /// PBKDF2 in Django's form, or `!` for none.
    pub password_hash: String,
    /// The time of its creation, where it is known.
    pub created_at: Option<Timestamp>,
}

/// A device that comes from another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedDevice {
    /// Its id here, which is free.
    pub id: DeviceId,
    /// For people.
    pub name: String,
    /// Unique where given.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
    /// The time of its creation, where it is known.
    pub created_at: Option<Timestamp>,
    /// The users that have it; not empty.
    pub users: Vec<UserId>,
    /// Those of them whose primary device it is.
    pub primary_of: Vec<UserId>,
}

/// A token that comes from another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedToken {
    /// The hash of its secret.
    pub hash: TokenHash,
    /// Its user.
    pub user: UserId,
    /// The time of its creation, where it is known.
    pub created_at: Option<Timestamp>,
}

/// The last import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportState {
    /// SHA-256 of the records: those of one file, for one state of the ids.
    pub source: TokenHash,
    /// The highest user id that had been given before it.
    pub users_before: u64,
    /// The highest device id that had been given before it.
    pub devices_before: u64,
    /// The number of its records.
    pub rows: u64,
    /// The number of those that are in the store.
    pub done: u64,
}
