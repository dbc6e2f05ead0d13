//! The right that a change is made with.

use serde::{Deserialize, Serialize};

use super::users::Role;
use super::{TokenHash, tokens, users};
use crate::core::ids::UserId;
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

/// The right that a change is made with. Checked again where the change is written, since it may have been revoked while the
/// request waited for a password, a body, or its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// The token of the request: it must still exist, and its user must be enabled.
    Token(TokenHash),
    /// An administrator's token: its user must still be an administrator, too.
    Admin(TokenHash),
    /// A password with this hash: it must still be the password of the user that the change concerns.
    Password(String),
    /// The program itself.
    System,
}

impl Authority {
    /// Checks that the right still holds for a change that concerns `user`.
    ///
    /// # Errors
    /// [`StoreError::Revoked`]; else when the store fails.
    pub fn check(&self, trees: &Trees, user: Option<UserId>) -> Result<()> {
        let holds = match self {
            Self::System => true,
            Self::Password(hash) => match user {
                Some(id) => users::get(trees, id)?.is_some_and(|u| !u.disabled && u.password_hash == *hash),
                None => false,
            },
            Self::Token(hash) | Self::Admin(hash) => match tokens::get(trees, hash)? {
                Some(token) => users::get(trees, token.user_id)?
                    .is_some_and(|u| !u.disabled && (matches!(self, Self::Token(_)) || u.role == Role::Admin)),
                None => false,
            },
        };
        if holds { Ok(()) } else { Err(StoreError::Revoked) }
    }
}
