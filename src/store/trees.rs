//! Every tree of the store, on one screen.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rand::TryRng;
use sled::{IVec, Tree};

use super::blocks::BlockCache;
use super::cache::Cache;
use super::forms::Forms;
use super::meta::{Meta, MetaKey};
use super::records::{
    AuditRecord, CatalogEntry, CatalogKey, Device, Earlier, Guesses, Minute, Observation, OnlineDevices, PageNumber, Pairing,
    Pass, Place, ReceiptPage, Sample, Slot, Token, TokenHash, User,
};
use super::table::{Table, Value};
use super::tally::Tally;
use super::{Result, StoreError};
use crate::core::hex::hex;
use crate::core::ids::{AuditId, DeviceId, MessageId, Recipient, TokenId, UserId};

macro_rules! trees {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $value:ty;)*) => {
        /// The open trees.
        pub struct Trees {
            /// Numbers and texts under the names of [`MetaKey`].
            pub meta: Meta,
            $($(#[$doc])* pub $name: Table<$key, $value>,)*
            /// Records of [`tokens`](Self::tokens) that were read.
            pub cached_tokens: Cache<TokenHash, Token>,
            /// Records of [`users`](Self::users) that were read.
            pub cached_users: Cache<UserId, User>,
            /// Records of [`blocks`](Self::blocks) that were written or read lately.
            pub cached_blocks: BlockCache,
            /// The number of commits and the sum of the records.
            pub tally: Arc<Tally>,
            /// The forms of the names in [`users`](Self::users).
            pub name_forms: Forms,
            /// The forms of the serials in [`devices`](Self::devices).
            pub serial_forms: Forms,
            /// The newest message that was written since the trees were opened; 0 where there is none.
            pub newest_written: AtomicU64,
        }

        impl Trees {
            /// The names of the trees, which are also the names of the fields.
            pub const NAMES: &[&str] = &["meta", $(stringify!($name)),*];

            /// The names of trees that layouts before 4 had.
            pub const FORMER_NAMES: &[&str] = &["mailbox", "message_ids", "cursors", "receipts", "purged"];

            /// Returns the names of all trees that a store may have, those of older layouts included.
            pub fn all_names() -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().chain(Self::FORMER_NAMES).copied()
            }

            /// Opens all of them, with `block_bytes` for blocks of messages in memory.
            ///
            /// # Errors
            /// If the engine fails.
            pub fn open(db: &sled::Db, block_bytes: u64) -> Result<Self> {
                let tally = Tally::open(db)?;
                Ok(Self {
                    meta: Meta::open(db, tally.of_tree(Self::NAMES[0]))?,
                    $($name: Table::open(db, stringify!($name), tally.of_tree(stringify!($name)))?,)*
                    tally,
                    cached_tokens: Cache::default(),
                    cached_users: Cache::default(),
                    cached_blocks: BlockCache::new(block_bytes),
                    name_forms: Forms::default(),
                    serial_forms: Forms::default(),
                    newest_written: AtomicU64::new(0),
                })
            }

            /// Returns the sum of their versions, which grows with each write.
            pub fn version(&self) -> u64 {
                self.meta.version() $(+ self.$name.version())*
            }

            /// Adds up all records: see [`Tally::verify`].
            pub fn verify_tally(&self) -> u64 {
                self.tally.verify(Self::NAMES.iter().copied().zip(self.all()))
            }

            /// Returns all of them without their types, in the order of their names.
            pub fn all(&self) -> Vec<&Tree> {
                vec![self.meta.tree(), $(self.$name.tree()),*]
            }
        }
    };
}

trees! {
    /// Accounts.
    users: UserId => User;
    /// Folded user name → user.
    user_names: str => UserId;
    /// Devices.
    devices: DeviceId => Device;
    /// Serial → device.
    serials: str => DeviceId;
    /// Canonical city name → its newest observation.
    observations: str => Observation;
    /// Songs and dances by catalogue and name.
    repertoire: CatalogKey => CatalogEntry;
    /// The devices of each user.
    user_devices: (UserId, DeviceId) => ();
    /// The users of each device.
    device_users: (DeviceId, UserId) => ();
    /// The primary device of each user: at most one, since a key has one value.
    primaries: UserId => DeviceId;
    /// Tokens by the SHA-256 of their secret.
    tokens: TokenHash => Token;
    /// The tokens of each user.
    user_tokens: (UserId, TokenId) => TokenHash;
    /// Token → SHA-256 of its secret. Since layout 2.
    token_ids: TokenId => TokenHash;
    /// The messages that share a value, by the first of them: see [`log`](super::log). Since layout 4.
    blocks: MessageId => IVec;
    /// The nth piece of a payload that is too long for a block.
    pieces: (MessageId, u16) => IVec;
    /// Receipts of consecutive ids. Since layout 4.
    receipt_pages: PageNumber => ReceiptPage;
    /// How far each mailbox has been received, and by whom. Since layout 4.
    places: Recipient => Place;
    /// SHA-256 of sender and idempotency key → what was sent under it.
    idempotency: [u8; 32] => Earlier;
    /// The audit trail.
    audit: AuditId => AuditRecord;
    /// The figures of the last 1,440 minutes. Since version 0.3; in no sum, so that earlier versions miss nothing.
    samples: Minute => Sample;
    /// The devices that were online in each of the last 144 slots of ten minutes. In the same way.
    online: Slot => OnlineDevices;
    /// Secrets that are good once, by their SHA-256. Since version 0.3; not in the sum that is stored, either.
    passes: TokenHash => Pass;
    /// Devices that are being paired, by the SHA-256 of their device codes. In the same way.
    pairings: TokenHash => Pairing;
    /// The wrong codes of users. In the same way.
    guesses: UserId => Guesses;
    /// The place of a node of a cluster in its log. In no sum: what is summed is the same on every node.
    cluster: str => IVec;
}

impl Trees {
    /// Returns the epoch; `None` in a new store.
    ///
    /// # Errors
    /// If the engine fails or the epoch is no text.
    pub fn epoch(&self) -> Result<Option<String>> {
        self.meta.text(MetaKey::Epoch)
    }

    /// Returns the layout of the records; `None` in a new store.
    ///
    /// # Errors
    /// If the engine fails or the number is damaged.
    pub fn schema(&self) -> Result<Option<u64>> {
        self.meta.get(MetaKey::Schema)
    }

    /// Sets the layout of the records.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn set_schema(&self, schema: u64) -> Result<()> {
        self.meta.set(MetaKey::Schema, schema)
    }

    /// Starts a new epoch, and returns it.
    ///
    /// # Errors
    /// If the engine fails, or the system has no random numbers.
    pub fn new_epoch(&self) -> Result<String> {
        let mut bytes = [0u8; 8];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| StoreError::Unreadable(e.to_string()))?;
        let epoch = hex(&bytes);
        self.meta.set_text(MetaKey::Epoch, &epoch)?;
        Ok(epoch)
    }
}

/// Decodes the value of a tree that is known by its name.
///
/// # Errors
/// [`StoreError::Damaged`] when it can't be decoded.
pub fn decode<V: Value>(bytes: &[u8], tree: &'static str) -> Result<V> {
    V::decode(bytes).ok_or(StoreError::Damaged { tree })
}
