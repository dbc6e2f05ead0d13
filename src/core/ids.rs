//! Newtypes for numeric ids.
//!
//! All ids are `u64`, counted from 1. On disk they are eight big-endian bytes, so that sled's byte order is the numeric order; in
//! JSON they are plain numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a decimal `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal id")]
pub struct ParseIdError;

/// Parses an id that consists of ASCII digits only: no sign, no spaces, at most `u64::MAX`.
fn parse_decimal(text: &str) -> Result<u64, ParseIdError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseIdError);
    }
    text.parse().map_err(|_| ParseIdError)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the key form: eight bytes, big-endian.
            pub const fn to_key(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }

            /// Parses the key form; `None` when `bytes` is not eight bytes long.
            pub fn from_key(bytes: &[u8]) -> Option<Self> {
                Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_decimal(text).map(Self)
            }
        }
    };
}

id! {
    /// The account of a person or a program.
    UserId
}
id! {
    /// A companion device.
    DeviceId
}
id! {
    /// A stored credential (never the secret itself).
    TokenId
}
id! {
    /// One live connection; unique in one run of the process, not across restarts.
    ConnId
}

id! {
    /// An entry of the audit trail; assigned in rising order.
    AuditId
}

id! {
    /// A queued message; assigned in rising order by one writer, and never reused.
    MessageId
}

impl UserId {
    /// The operator, who has no account: the owner of the data directory, connected through its control socket.
    pub const OPERATOR: Self = Self(0);
}

/// The recipient of a message: a mailbox on disk, and a group of connections in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// Every connection of a user.
    User(UserId),
    /// Every connection that represents a device.
    Device(DeviceId),
    /// Every connection.
    All,
}

/// `user:7`, `device:3` or `all`.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Recipient {
    /// Parses the text that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("user", id)) => id.parse().ok().map(Self::User),
            Some(("device", id)) => id.parse().ok().map(Self::Device),
            _ => (text == "all").then_some(Self::All),
        }
    }
}

impl Recipient {
    /// Returns the key form: a letter and eight bytes, big-endian.
    pub fn to_key(self) -> [u8; 9] {
        let (letter, id) = match self {
            Self::User(id) => (b'u', id.to_key()),
            Self::Device(id) => (b'd', id.to_key()),
            Self::All => (b'a', [0; 8]),
        };
        let mut key = [letter; 9];
        key[1..].copy_from_slice(&id);
        key
    }

    /// Parses the key form; `None` when `key` is not one.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (&letter, id) = key.split_first()?;
        match letter {
            b'u' => UserId::from_key(id).map(Self::User),
            b'd' => DeviceId::from_key(id).map(Self::Device),
            b'a' => (id == [0; 8]).then_some(Self::All),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn id_with_anything_but_digits_is_refused() {
        for bad in ["", "+1", "-1", " 1", "1 ", "0x10", "1_0", "１", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(bad.parse::<UserId>(), Err(ParseIdError), "{bad:?}");
        }
        assert_eq!("007".parse(), Ok(UserId(7)));
        assert_eq!("18446744073709551615".parse(), Ok(UserId(u64::MAX)));
    }

    proptest! {
        #[test]
        fn id_keys_sort_numerically_and_round_trip(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), UserId(a).to_key().cmp(&UserId(b).to_key()));
            prop_assert_eq!(UserId::from_key(&UserId(a).to_key()), Some(UserId(a)));
        }

        #[test]
        fn recipient_keys_round_trip(id: u64, which in 0..3u8) {
            let recipient = match which {
                0 => Recipient::User(UserId(id)),
                1 => Recipient::Device(DeviceId(id)),
                _ => Recipient::All,
            };
            prop_assert_eq!(Recipient::from_key(&recipient.to_key()), Some(recipient));
            prop_assert_eq!(Recipient::from_key(&recipient.to_key()[..8]), None);
        }

        #[test]
        fn id_key_of_another_length_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(UserId::from_key(&bytes).is_some(), bytes.len() == 8);
        }
    }
}
