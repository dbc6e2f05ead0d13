//! Records of secrets that are good once.

use serde::{Deserialize, Serialize};

use super::TokenHash;
use crate::core::ids::UserId;
use crate::store::checked::checked_values;

/// A secret that is good once, and for a short time. It is found by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Of two, the one that was made later has the higher number.
    pub number: u64,
    /// The user who acts by it.
    pub user: UserId,
    /// What it is good for.
    pub grant: Grant,
    /// The clock of credentials at its end, in milliseconds.
    pub until: u64,
}

/// What a secret is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// A ticket: stands for a token.
    Token(TokenHash),
    /// A link: logs its user in, whose password has this stored form still.
    LogIn {
        /// The stored form of the password.
        password_hash: String,
    },
}

checked_values!(Pass);
