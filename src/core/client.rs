//! Names of clients: the installations of a user, each with a place of its own in the user's messages.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::DeviceId;

/// The longest name that a client may choose, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The name of the client that names none.
const DEFAULT: &str = "default";
/// The beginning of the names of devices with tokens of their own; `:` is not allowed in names that clients choose.
const DEVICE_PREFIX: &str = "device:";

/// The name of a client: chosen by it, `default`, or `device:<id>` for a device with a token of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// Returns the name that `text` is, if it is one that a client may choose: 1 to 64 of `A–Z a–z 0–9 . _ -`.
    pub fn chosen(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = (1..=MAX_NAME_CHARS).contains(&text.len()) && text.bytes().all(allowed);
        good.then(|| Self(text.into()))
    }

    /// Returns the name that `text` is, those of devices included.
    pub fn parse(text: &str) -> Option<Self> {
        let device = text.strip_prefix(DEVICE_PREFIX).and_then(|id| id.parse().ok());
        device.map(Self::of_device).or_else(|| Self::chosen(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of a device with a token of its own.
    pub fn of_device(device: DeviceId) -> Self {
        Self(format!("{DEVICE_PREFIX}{device}").into())
    }

    /// Returns whether it is the name of a device with a token of its own: those do not count in the limit of clients.
    pub fn is_device(&self) -> bool {
        self.0.starts_with(DEVICE_PREFIX)
    }
}

/// `default`.
impl Default for ClientName {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_other_characters_or_of_other_lengths_are_refused() {
        for good in ["a", "default", "Phone.2_b-c", &"x".repeat(64)] {
            assert_eq!(ClientName::chosen(good).unwrap().to_string(), good);
        }
        for bad in ["", "a b", "é", "device:3", "a/b", &"x".repeat(65)] {
            assert_eq!(ClientName::chosen(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_devices_are_parsed_and_recognised() {
        let name = ClientName::of_device(DeviceId(3));
        assert_eq!((name.to_string().as_str(), name.is_device()), ("device:3", true));
        assert_eq!(ClientName::parse("device:3"), Some(name));
        assert_eq!(ClientName::parse("device:x"), None);
        assert!(!ClientName::default().is_device());
    }
}
