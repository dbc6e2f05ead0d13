//! The hash by which a credential is found.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::core::hex::{hex, unhex};
use crate::store::Result;
use crate::store::table::{DecodeKey, Key, Value};

/// SHA-256 of a secret. The secret has 256 random bits, so one round without salt is enough, and looking it up by its hash
/// tells an attacker's clock nothing about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns the hash of `secret`.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Returns its bytes.
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl Key for TokenHash {
    type Bytes<'a> = &'a [u8];
    fn encode(&self) -> &[u8] {
        &self.0
    }
}

impl DecodeKey for TokenHash {
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl Value for TokenHash {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.0))
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = unhex(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}
