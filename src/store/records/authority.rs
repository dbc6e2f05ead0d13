//! The right that a change is made with.

use serde::{Deserialize, Serialize};

use super::TokenHash;

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
