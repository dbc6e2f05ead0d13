//! Newtypes for every kind of number that names something.
//!
//! All are `u64`, counted from 1. On disk they are eight big-endian bytes, so that sled's byte order is the numeric order;
//! in JSON they are plain numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a decimal `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal id")]
pub struct NotAnId;

/// Reads an id written in ASCII digits only: no sign, no blanks, at most `u64::MAX`.
fn parse_decimal(text: &str) -> Result<u64, NotAnId> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotAnId);
    }
    text.parse().map_err(|_| NotAnId)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The key form: eight bytes, big-endian.
            pub const fn to_key(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }

            /// Back from the key form; `None` when `bytes` is not eight bytes long.
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
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_decimal(text).map(Self)
            }
        }
    };
}

id! {
    /// A person's or a program's account.
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
    /// A queued message; rising, from one writer, never used twice.
    MessageId
}

impl UserId {
    /// No account: the owner of the data directory, who speaks through its socket.
    pub const OPERATOR: Self = Self(0);
}

/// Whom a message is for: a mailbox on disk, and a group of connections in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// Every connection of a user.
    User(UserId),
    /// Every connection that stands for a device.
    Device(DeviceId),
    /// Everybody.
    All,
}

impl Recipient {
    /// The key form: a letter and eight bytes, big-endian.
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

    /// Back from the key form.
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
    fn only_plain_digits_are_an_id() {
        for bad in ["", "+1", "-1", " 1", "1 ", "0x10", "1_0", "１", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(bad.parse::<UserId>(), Err(NotAnId), "{bad:?}");
        }
        assert_eq!("007".parse(), Ok(UserId(7)));
        assert_eq!("18446744073709551615".parse(), Ok(UserId(u64::MAX)));
    }

    proptest! {
        #[test]
        fn keys_sort_as_numbers_and_come_back(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), UserId(a).to_key().cmp(&UserId(b).to_key()));
            prop_assert_eq!(UserId::from_key(&UserId(a).to_key()), Some(UserId(a)));
        }

        #[test]
        fn recipients_come_back(id: u64, which in 0..3u8) {
            let recipient = match which {
                0 => Recipient::User(UserId(id)),
                1 => Recipient::Device(DeviceId(id)),
                _ => Recipient::All,
            };
            prop_assert_eq!(Recipient::from_key(&recipient.to_key()), Some(recipient));
            prop_assert_eq!(Recipient::from_key(&recipient.to_key()[..8]), None);
        }

        #[test]
        fn other_lengths_are_no_key(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(UserId::from_key(&bytes).is_some(), bytes.len() == 8);
        }
    }
}
