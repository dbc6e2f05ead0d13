//! Every tree of the store, on one screen.
//!
//! Keys are big-endian ids, alone or joined, so that a prefix scan is a list in id order. Values are JSON records: small,
//! readable with any tool, and a field added later has a default.

use rand::TryRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::Tree;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Result, StoreError};
use crate::core::hex::hex;
use crate::core::ids::{DeviceId, TokenId, UserId};

macro_rules! trees {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// The open trees.
        pub(super) struct Trees {
            $($(#[$doc])* pub(super) $name: Tree,)*
        }

        impl Trees {
            /// Their names, which are also the names of the fields.
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Opens all of them.
            pub(super) fn open(db: &sled::Db) -> Result<Self> {
                Ok(Self { $($name: db.open_tree(stringify!($name))?,)* })
            }

            /// All of them, in the order of their names.
            pub(super) fn all(&self) -> Vec<&Tree> {
                vec![$(&self.$name),*]
            }
        }
    };
}

trees! {
    /// `schema` → u64; `epoch` → text; `next_user`, `next_device`, `next_token`, `proofs` and the mailbox's numbers → u64.
    meta;
    /// user → [`User`](super::User) as JSON.
    users;
    /// user name in lower case → user.
    user_names;
    /// device → [`Device`](super::Device) as JSON.
    devices;
    /// serial → device.
    serials;
    /// canonical city name → [`Observation`](super::Observation)
    observations;
    /// `s` or `d` ‖ name → [`CatalogEntry`](super::CatalogEntry)
    repertoire;
    /// user ‖ device → nothing: which devices a user has.
    user_devices;
    /// device ‖ user → nothing: which users a device has.
    device_users;
    /// user → device: a user has at most one primary, since a key has one value.
    primaries;
    /// SHA-256 of the secret → [`Token`](super::Token) as JSON.
    tokens;
    /// user ‖ token → SHA-256 of the secret.
    user_tokens;
    /// token → SHA-256 of the secret. Since layout 2.
    token_ids;
    /// recipient ‖ message → head and, where it is short, payload: see [`messages`](super::messages).
    mailbox;
    /// message ‖ n → the nth piece of a long payload.
    pieces;
    /// message → recipient.
    message_ids;
    /// reader → the last message received.
    cursors;
    /// recipient ‖ message → when everything up to it had been received.
    receipts;
    /// recipient → the newest message that is no longer there.
    purged;
    /// SHA-256 of sender and idempotency key → message, end, digest of the request.
    idempotency;
}

impl Trees {
    /// The epoch of a store that has one: of any but a new one.
    pub(super) fn epoch(&self) -> Result<Option<String>> {
        let text = self.meta.get("epoch")?.map(|bytes| String::from_utf8(bytes.to_vec()));
        text.transpose().map_err(|_| StoreError::Damaged { tree: "meta" })
    }

    /// The layout of what is there: `None` in a new store.
    pub(super) fn schema(&self) -> Result<Option<u64>> {
        self.meta.get("schema")?.map(|bytes| number(&bytes, "meta")).transpose()
    }

    /// Marks what is there as of layout `schema`.
    pub(super) fn set_schema(&self, schema: u64) -> Result<()> {
        self.meta.insert("schema", &schema.to_be_bytes())?;
        Ok(())
    }

    /// Begins a new epoch, and returns it.
    pub(super) fn new_epoch(&self) -> Result<String> {
        let mut bytes = [0u8; 8];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| StoreError::Unreadable(e.to_string()))?;
        let epoch = hex(&bytes);
        self.meta.insert("epoch", epoch.as_bytes())?;
        Ok(epoch)
    }

    /// The next number of `counter`, from 1. Never used twice, also not after what bore it is gone.
    pub(super) fn next(&self, counter: &str) -> Result<u64> {
        let last = self.meta.get(counter)?.map_or(Ok(0), |bytes| number(&bytes, "meta"))?;
        self.meta.insert(counter, &(last + 1).to_be_bytes())?;
        Ok(last + 1)
    }
}

/// user ‖ device.
pub(super) fn user_device(user: UserId, device: DeviceId) -> [u8; 16] {
    join(user.to_key(), device.to_key())
}

/// device ‖ user.
pub(super) fn device_user(device: DeviceId, user: UserId) -> [u8; 16] {
    join(device.to_key(), user.to_key())
}

/// user ‖ token.
pub(super) fn user_token(user: UserId, token: TokenId) -> [u8; 16] {
    join(user.to_key(), token.to_key())
}

fn join(first: [u8; 8], second: [u8; 8]) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first);
    key[8..].copy_from_slice(&second);
    key
}

/// The second half of a joined key.
pub(super) fn second(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(8..16)?.try_into().ok()?))
}

/// A big-endian number.
pub(super) fn number(bytes: &[u8], tree: &'static str) -> Result<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Damaged { tree })
}

/// Reads a JSON record.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], tree: &'static str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| StoreError::Damaged { tree })
}

/// Writes a JSON record.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|error| StoreError::Unreadable(error.to_string()))
}

/// The error type inside a sled transaction of ours.
pub(super) type TxError = ConflictableTransactionError<StoreError>;

/// Unwraps what a transaction returned.
pub(super) fn committed<T>(result: std::result::Result<T, TransactionError<StoreError>>) -> Result<T> {
    result.map_err(|error| match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(error) => StoreError::Engine(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_keys_sort_by_first_then_second(a: (u64, u64), b: (u64, u64)) {
            let key = |p: (u64, u64)| user_device(UserId(p.0), DeviceId(p.1));
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
            prop_assert_eq!(second(&key(a)), Some(a.1));
            prop_assert!(key(a).starts_with(&UserId(a.0).to_key()));
            prop_assert_eq!(device_user(DeviceId(a.1), UserId(a.0))[..8].to_vec(), a.1.to_be_bytes().to_vec());
        }

        #[test]
        fn short_keys_have_no_second_half(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(second(&bytes), None);
        }
    }
}
