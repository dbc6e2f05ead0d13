//! Secrets in the configuration.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The placeholder for a secret wherever settings are shown.
pub(super) const HIDDEN: &str = "(hidden)";

/// A secret that `Debug`, logs and listings of the settings do not reveal.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own message would repeat the given value.
        let text = String::deserialize(deserializer).map_err(|_| de::Error::custom("must be a string"))?;
        Ok(Self(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}

impl Secret {
    /// Returns the secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether the secret is empty, which means not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
