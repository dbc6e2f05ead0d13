//! Records of accounts.

use serde::{Deserialize, Serialize};

use crate::core::ids::{MessageId, UserId};
use crate::core::time::Timestamp;
use crate::store::table::json_values;

/// The rights of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Every right.
    Admin,
    /// Rights to the account's own things.
    User,
}

impl Role {
    /// Returns the role as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// From 1.
    pub id: UserId,
    /// Unique without regard to case, and since 0.2.0 in any spelling; kept as prepared.
    pub username: String,
    /// The account's rights.
    pub role: Role,
    /// Set when its credentials are refused.
    pub disabled: bool,
    /// argon2id, as a PHC string.
    pub password_hash: String,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The newest message at its creation: earlier broadcasts are not for it.
    #[serde(default = "no_message")]
    pub joined: MessageId,
}

json_values!(User);

const fn no_message() -> MessageId {
    MessageId(0)
}

/// A new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUser {
    /// Prepared by the caller, as [`prepare_username`](crate::core::names::prepare_username) does.
    pub username: String,
    /// The account's rights.
    pub role: Role,
    /// argon2id, as a PHC string.
    pub password_hash: String,
}

/// A change to an account; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChange {
    /// Refuse or accept its credentials.
    pub disabled: Option<bool>,
    /// The account's rights.
    pub role: Option<Role>,
    /// A new password; it also deletes every token that a log-in with the old one gave.
    pub password_hash: Option<String>,
}

/// Returns a name without case, letter by letter: the whole word's lower case would tell ΟΔΟΣ from οδοσ, by its last letter.
pub fn fold_name(username: &str) -> String {
    username.chars().flat_map(char::to_lowercase).collect()
}
