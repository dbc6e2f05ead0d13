//! Every tree of the store, on one screen.
//!
//! Keys are big-endian ids, alone or joined, so that a prefix scan is a list in id order. Values are JSON records: small,
//! readable with any tool, and a field added later has a default.

use std::fmt::Write as _;

use rand::TryRng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::Tree;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Result, StoreError};
use crate::ids::{DeviceId, TokenId, UserId};

/// The open trees.
pub(super) struct Trees {
    /// `schema` → u64; `epoch` → text; `next_user`, `next_device`, `next_token`, `proofs` and the mailbox's numbers → u64.
    pub(super) meta: Tree,
    /// user → [`User`](super::User) as JSON.
    pub(super) users: Tree,
    /// user name in lower case → user.
    pub(super) user_names: Tree,
    /// device → [`Device`](super::Device) as JSON.
    pub(super) devices: Tree,
    /// serial → device.
    pub(super) serials: Tree,
    /// canonical city name → [`Observation`](super::Observation)
    pub(super) observations: Tree,
    /// `s` or `d` ‖ name → [`Piece`](super::Piece)
    pub(super) repertoire: Tree,
    /// user ‖ device → nothing: which devices a user has.
    pub(super) user_devices: Tree,
    /// device ‖ user → nothing: which users a device has.
    pub(super) device_users: Tree,
    /// user → device: a user has at most one primary, since a key has one value.
    pub(super) primaries: Tree,
    /// SHA-256 of the secret → [`Token`](super::Token) as JSON.
    pub(super) tokens: Tree,
    /// user ‖ token → SHA-256 of the secret.
    pub(super) user_tokens: Tree,
    /// recipient ‖ message → head and, where it is short, payload: see [`messages`](super::messages).
    pub(super) mailbox: Tree,
    /// message ‖ n → the nth piece of a long payload.
    pub(super) pieces: Tree,
    /// message → recipient.
    pub(super) message_ids: Tree,
    /// reader → the last message received.
    pub(super) cursors: Tree,
    /// recipient ‖ message → when everything up to it had been received.
    pub(super) receipts: Tree,
    /// recipient → the newest message that is no longer there.
    pub(super) purged: Tree,
    /// SHA-256 of sender and idempotency key → message, end, digest of the request.
    pub(super) idempotency: Tree,
}

impl Trees {
    /// Opens all of them.
    pub(super) fn open(db: &sled::Db) -> Result<Self> {
        Ok(Self {
            meta: db.open_tree("meta")?,
            users: db.open_tree("users")?,
            user_names: db.open_tree("user_names")?,
            devices: db.open_tree("devices")?,
            serials: db.open_tree("serials")?,
            observations: db.open_tree("observations")?,
            repertoire: db.open_tree("repertoire")?,
            user_devices: db.open_tree("user_devices")?,
            device_users: db.open_tree("device_users")?,
            primaries: db.open_tree("primaries")?,
            tokens: db.open_tree("tokens")?,
            user_tokens: db.open_tree("user_tokens")?,
            mailbox: db.open_tree("mailbox")?,
            pieces: db.open_tree("pieces")?,
            message_ids: db.open_tree("message_ids")?,
            cursors: db.open_tree("cursors")?,
            receipts: db.open_tree("receipts")?,
            purged: db.open_tree("purged")?,
            idempotency: db.open_tree("idempotency")?,
        })
    }

    /// The epoch of a store that has one: of any but a new one.
    pub(super) fn epoch(&self) -> Result<Option<String>> {
        let text = self.meta.get("epoch")?.map(|bytes| String::from_utf8(bytes.to_vec()));
        text.transpose().map_err(|_| StoreError::Damaged { tree: "meta" })
    }

    /// Checks the layout, marks a new store, and returns its epoch: `known`, or a fresh one.
    pub(super) fn prepare(&self, known: Option<String>, schema: u64) -> Result<String> {
        if let Some(found) = self.meta.get("schema")? {
            let found = number(&found, "meta")?;
            if found > schema {
                return Err(StoreError::Newer { found, known: schema });
            }
        }
        if let Some(epoch) = known {
            return Ok(epoch);
        }
        let mut bytes = [0u8; 8];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| StoreError::Unreadable(e.to_string()))?;
        let mut epoch = String::with_capacity(16);
        for byte in bytes {
            let _ = write!(epoch, "{byte:02x}"); // a String takes everything
        }
        self.meta.insert("schema", &schema.to_be_bytes())?;
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
