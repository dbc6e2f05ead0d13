//! Records of credentials. The secret itself is never in them, only its SHA-256.

use serde::{Deserialize, Serialize};

use super::{Authority, TokenHash};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::table::json_values;

/// The purpose of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Acts as its user.
    User,
    /// One device; reaches only its own WebSocket.
    Device,
    /// A program that sends to anyone, and does nothing else.
    Service,
}

/// A credential's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// From 1.
    pub id: TokenId,
    /// Its user.
    pub user_id: UserId,
    /// Its device (kind `device`).
    pub device_id: Option<DeviceId>,
    /// Its purpose.
    pub kind: TokenKind,
    /// Chosen by the owner.
    pub label: String,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last use, to the minute or so.
    pub last_used_at: Option<Timestamp>,
    /// Refused from then on.
    pub expires_at: Option<Timestamp>,
}

json_values!(Token);

impl Token {
    /// Returns whether its time is over.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// Its user.
    pub user_id: UserId,
    /// Its device.
    pub device_id: Option<DeviceId>,
    /// Its purpose.
    pub kind: TokenKind,
    /// Chosen by the owner.
    pub label: String,
    /// Refused from then on.
    pub expires_at: Option<Timestamp>,
    /// The hash of its secret.
    pub hash: TokenHash,
    /// If the user has as many as the limit: deletes the `user` token unused for longest (a log-in), or refuses.
    pub make_room: bool,
    /// The right that it is made with.
    pub because: Authority,
}

impl NewToken {
    /// Returns the token of a log-in in a browser: that of [`login`](Self::login), with an end.
    pub fn browser(user_id: UserId, hash: TokenHash, life_seconds: u64) -> Self {
        let expires_at = Some(Timestamp::now().plus_seconds(life_seconds));
        Self { label: "browser".into(), expires_at, ..Self::login(user_id, hash) }
    }

    /// Returns the token of a log-in: acts as the user, never expires, replaces an old one where there are too many.
    pub fn login(user_id: UserId, hash: TokenHash) -> Self {
        let (device_id, expires_at) = (None, None);
        Self {
            user_id,
            device_id,
            kind: TokenKind::User,
            label: "login".into(),
            expires_at,
            hash,
            make_room: true,
            because: Authority::System,
        }
    }
}
