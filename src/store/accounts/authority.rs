//! The check of the right that a change is made with.

use super::{tokens, users};
use crate::core::ids::UserId;
use crate::store::records::{Authority, Role};
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

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
