//! Records of credentials. The secret itself is never in them, only its SHA-256.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Authority, Scopes, TokenHash};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::lifetime::{Life, Present};
use crate::core::time::Timestamp;
use crate::store::table::json_values;

/// The purpose of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// What a service token may do; `None`: everything that service tokens may, as those from before there were scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Chosen by the owner.
    pub label: String,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The time of its last use, to the minute or so.
    pub last_used_at: Option<Timestamp>,
    /// The end by the wall clock of the moment at which it was made. What counts is `life`, except in records of earlier versions.
    pub expires_at: Option<Timestamp>,
    /// Refused at its end; `None` for one that never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Life>,
}

json_values!(Token);

impl Token {
    /// Returns whether it allows what any one of `scopes` allows. Scopes restrict service tokens only.
    pub fn allows(&self, scopes: Scopes) -> bool {
        self.kind != TokenKind::Service || self.scopes.unwrap_or(Scopes::ALL).intersects(scopes)
    }

    /// Returns whether its time is over.
    pub fn expired(&self, now: &Present) -> bool {
        now.left(self.life, self.expires_at).is_some_and(|left| left <= 0)
    }

    /// Returns the time that it is still accepted for; `None` for one that never expires.
    pub fn remaining(&self, now: &Present) -> Option<Duration> {
        now.left(self.life, self.expires_at).map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// Returns the time since it was made. By the wall clock, where the record of an earlier version has no other; the longest time, where
    /// that clock was ahead then.
    pub fn age(&self, now: &Present) -> Duration {
        let by_wall = || u64::try_from(now.wall.unix_millis() - self.created_at.unix_millis()).ok();
        let millis = self.life.map_or_else(by_wall, |life| Some(now.age(life.born)));
        millis.map_or(Duration::MAX, Duration::from_millis)
    }

    /// Returns its end by the present wall clock, for people.
    pub fn shown_end(&self, now: &Present) -> Option<Timestamp> {
        now.shown_end(self.life, self.expires_at)
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
    /// What a service token may do; `None`: everything that service tokens may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Chosen by the owner.
    pub label: String,
    /// The time for which it is accepted, in seconds; `None` for one that never expires.
    pub life_seconds: Option<u64>,
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
        Self { label: "browser".into(), life_seconds: Some(life_seconds), ..Self::login(user_id, hash) }
    }

    /// Returns the token of a log-in: acts as the user, never expires, replaces an old one where there are too many.
    pub fn login(user_id: UserId, hash: TokenHash) -> Self {
        let (device_id, life_seconds, scopes) = (None, None, None);
        Self {
            user_id,
            device_id,
            kind: TokenKind::User,
            scopes,
            label: "login".into(),
            life_seconds,
            hash,
            make_room: true,
            because: Authority::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::Scope;

    #[test]
    fn age_is_counted_on_the_clock_of_the_store_and_unknown_to_a_wall_clock_that_was_set_back() {
        let text = r#"{"id":1,"user_id":2,"device_id":null,"kind":"user","label":"browser","created_at":"2026-11-01T00:00:00.000000+00:00",
            "last_used_at":null,"expires_at":null}"#;
        let old: Token = serde_json::from_str(text).unwrap();
        let at = |text: &str| Present::at(text.parse().unwrap());
        assert_eq!(old.age(&at("2026-11-01T00:10:00Z")), Duration::from_secs(600));
        assert_eq!(old.age(&at("2026-10-31T23:59:59Z")), Duration::MAX);
        let counted = Token { life: Some(Life { born: 400, millis: 1 }), ..old };
        for wall in ["1970-01-01T00:00:00Z", "2026-11-01T00:10:00Z"] {
            assert_eq!(counted.age(&at(wall)), Duration::from_millis(600));
        }
    }

    #[test]
    fn service_token_of_an_earlier_version_has_every_scope() {
        let text = r#"{"id":1,"user_id":2,"device_id":null,"kind":"service","label":"","created_at":"2026-11-01T00:00:00.000000+00:00",
            "last_used_at":null,"expires_at":null}"#;
        let token: Token = serde_json::from_str(text).unwrap();
        assert!(Scope::ALL.into_iter().all(|scope| token.allows(Scopes::of(scope))));
        let only = Token { scopes: Some(Scopes::of(Scope::Read)), ..token };
        let read: Token = serde_json::from_str(&serde_json::to_string(&only).unwrap()).unwrap();
        assert_eq!(read, only);
        assert_eq!(Scope::ALL.map(|scope| read.allows(Scopes::of(scope))), [false, false, true, false]);
        assert!(read.allows(Scopes::ALL) && !read.allows(Scopes::NONE));
        assert!(Token { kind: TokenKind::User, ..only }.allows(Scopes::NONE), "others have none");
    }

    #[test]
    fn record_of_an_earlier_version_is_read_and_expires_by_the_wall_clock_that_it_was_made_with() {
        let text = r#"{"id":1,"user_id":2,"device_id":null,"kind":"user","label":"browser","created_at":"2026-11-01T00:00:00.000000+00:00",
            "last_used_at":null,"expires_at":"2026-12-01T00:00:00.000000+00:00"}"#;
        let token: Token = serde_json::from_str(text).unwrap();
        let at = |text: &str| Present::at(text.parse().unwrap());
        assert!(!token.expired(&at("2026-11-30T23:59:59Z")) && token.expired(&at("2026-12-01T00:00:00Z")));
        assert_eq!(token.remaining(&at("2026-11-30T23:59:59Z")), Some(Duration::from_secs(1)));
        let written = serde_json::to_string(&token).unwrap();
        assert!(!written.contains("life") && !written.contains("scopes"));
    }
}
