//! Typed access to one tree, and writes to several trees that belong together.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};

use sled::transaction::{ConflictableTransactionError, TransactionError};
use sled::{IVec, Transactional, Tree};

use super::tally::{Change, TreeTally};
use super::{Result, StoreError};
use crate::core::ids::{AuditId, DeviceId, MessageId, Recipient, TokenId, UserId};

/// A key, or the first part of one. Keys are big-endian ids, alone or joined, so that sled's byte order is the order of ids.
pub trait Key {
    /// The stored form.
    type Bytes<'a>: AsRef<[u8]>
    where
        Self: 'a;

    /// Returns the stored form.
    fn encode(&self) -> Self::Bytes<'_>;
}

/// A key that can be read back.
pub trait DecodeKey: Key + Sized {
    /// Reads the stored form; `None` when `bytes` are none.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A value.
pub trait Value: Sized {
    /// Returns the stored form.
    ///
    /// # Errors
    /// If it can't be encoded.
    fn encode(&self) -> Result<Cow<'_, [u8]>>;

    /// Reads the stored form; `None` when `bytes` are none.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Key for str {
    type Bytes<'a> = &'a [u8];
    fn encode(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Key for [u8; 32] {
    type Bytes<'a> = &'a [u8];
    fn encode(&self) -> &[u8] {
        self
    }
}

impl DecodeKey for [u8; 32] {
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

impl Key for Recipient {
    type Bytes<'a> = [u8; 9];
    fn encode(&self) -> [u8; 9] {
        self.to_key()
    }
}

impl DecodeKey for Recipient {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::from_key(bytes)
    }
}

/// Makes ids keys of eight bytes, and values.
macro_rules! ids {
    ($($id:ident)*) => {$(
        impl Key for $id {
            type Bytes<'a> = [u8; 8];
            fn encode(&self) -> [u8; 8] {
                self.to_key()
            }
        }

        impl DecodeKey for $id {
            fn decode(bytes: &[u8]) -> Option<Self> {
                Self::from_key(bytes)
            }
        }

        impl Value for $id {
            fn encode(&self) -> Result<Cow<'_, [u8]>> {
                Ok(self.to_key().to_vec().into())
            }
            fn decode(bytes: &[u8]) -> Option<Self> {
                Self::from_key(bytes)
            }
        }
    )*};
}

ids! { UserId DeviceId TokenId MessageId AuditId }

/// Makes pairs of ids keys: the first part is a prefix.
macro_rules! pairs {
    ($($first:ident $second:ident)*) => {$(
        impl Key for ($first, $second) {
            type Bytes<'a> = [u8; 16];
            fn encode(&self) -> [u8; 16] {
                let mut key = [0; 16];
                key[..8].copy_from_slice(&self.0.to_key());
                key[8..].copy_from_slice(&self.1.to_key());
                key
            }
        }

        impl DecodeKey for ($first, $second) {
            fn decode(bytes: &[u8]) -> Option<Self> {
                let (first, second) = bytes.split_at_checked(8)?;
                Some(($first::from_key(first)?, $second::from_key(second)?))
            }
        }
    )*};
}

pairs! { UserId DeviceId  DeviceId UserId  UserId TokenId }

impl Key for (MessageId, u16) {
    type Bytes<'a> = [u8; 10];
    fn encode(&self) -> [u8; 10] {
        let mut key = [0; 10];
        key[..8].copy_from_slice(&self.0.to_key());
        key[8..].copy_from_slice(&self.1.to_be_bytes());
        key
    }
}

impl DecodeKey for (MessageId, u16) {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (id, n) = bytes.split_at_checked(8)?;
        Some((MessageId::from_key(id)?, u16::from_be_bytes(n.try_into().ok()?)))
    }
}

impl Value for () {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&[]))
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

/// Bytes as they are stored.
impl Value for IVec {
    fn encode(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self))
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.into())
    }
}

/// Makes records values in JSON with a checksum: small, readable with any tool, and a field added later has a default.
macro_rules! json_values {
    ($($record:ty),*) => {$(
        impl $crate::store::table::Value for $record {
            fn encode(&self) -> $crate::store::Result<std::borrow::Cow<'_, [u8]>> {
                Ok($crate::store::checked::encode_json(self)?.into())
            }
            fn decode(bytes: &[u8]) -> Option<Self> {
                $crate::store::checked::decode_json(bytes)
            }
        }
    )*};
}

pub(super) use json_values;

/// A tree whose keys are `K` and whose values are `V`.
pub struct Table<K: ?Sized, V> {
    tree: Tree,
    name: &'static str,
    tally: Option<TreeTally>,
    /// The number of writes so far.
    version: AtomicU64,
    types: PhantomData<fn(&K) -> V>,
}

impl<K: Key + ?Sized, V: Value> Table<K, V> {
    /// Opens the tree `name` of `db`, whose records are summed in `tally`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn open(db: &sled::Db, name: &'static str, tally: Option<TreeTally>) -> Result<Self> {
        Ok(Self { tree: db.open_tree(name)?, name, tally, version: AtomicU64::new(0), types: PhantomData })
    }

    /// The tree itself, for maintenance that knows no types.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns a number that differs from then on when something has been written through this table.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn damaged(&self) -> StoreError {
        StoreError::Damaged { tree: self.name }
    }

    fn value(&self, bytes: &[u8]) -> Result<V> {
        V::decode(bytes).ok_or_else(|| self.damaged())
    }

    /// Returns the value of `key`.
    ///
    /// # Errors
    /// If the engine fails or the value can't be decoded.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        self.tree.get(key.encode())?.map(|bytes| self.value(&bytes)).transpose()
    }

    /// Returns whether `key` has a value.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn contains(&self, key: &K) -> Result<bool> {
        Ok(self.tree.contains_key(key.encode())?)
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn insert(&self, key: &K, value: &V) -> Result<()> {
        self.write(key.encode().as_ref(), Some(value.encode()?.as_ref().into()))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn remove(&self, key: &K) -> Result<()> {
        self.write(key.encode().as_ref(), None)
    }

    /// Removes the entry with that stored key.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn remove_stored(&self, key: &[u8]) -> Result<()> {
        self.write(key, None)
    }

    /// Sets the stored value of a stored key; `None` removes it.
    fn write(&self, key: &[u8], value: Option<IVec>) -> Result<()> {
        let tally = self.tally.as_ref();
        tally.map_or(Ok(()), TreeTally::begin)?;
        let new = value.clone();
        let old = match value {
            Some(value) => self.tree.insert(key, value)?,
            None => self.tree.remove(key)?,
        };
        if let Some(tally) = tally {
            tally.replaced(key, old.as_deref(), new.as_deref());
        }
        // Visible already: who reads the version after this finds the entry.
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Returns the values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = Result<V>> + '_ {
        self.tree.iter().values().map(|bytes| self.value(&bytes?))
    }

    /// Returns the values of the keys that begin with `prefix`.
    pub fn values_of<P: Key + ?Sized>(&self, prefix: &P) -> impl Iterator<Item = Result<V>> + '_ {
        self.tree.scan_prefix(prefix.encode()).values().map(|bytes| self.value(&bytes?))
    }

    /// Returns whether the tree holds nothing.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.tree.iter().keys().next().transpose()?.is_none())
    }
}

impl<K: Key + ?Sized> Table<K, IVec> {
    /// Sets the value of `key` to `bytes`, without the copy that [`insert`](Self::insert) makes.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn insert_bytes(&self, key: &K, bytes: impl Into<IVec>) -> Result<()> {
        self.write(key.encode().as_ref(), Some(bytes.into()))
    }
}

impl<K: DecodeKey, V: Value> Table<K, V> {
    fn key(&self, bytes: &[u8]) -> Result<K> {
        K::decode(bytes).ok_or_else(|| self.damaged())
    }

    fn entry(&self, entry: sled::Result<(IVec, IVec)>) -> Result<(K, V)> {
        let (key, value) = entry?;
        Ok((self.key(&key)?, self.value(&value)?))
    }

    /// Returns all entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V)>> + '_ {
        self.tree.iter().map(|entry| self.entry(entry))
    }

    /// Returns all keys in order.
    pub fn keys(&self) -> impl Iterator<Item = Result<K>> + '_ {
        self.tree.iter().keys().map(|bytes| self.key(&bytes?))
    }

    /// Returns the keys that begin with `prefix`.
    pub fn keys_of<P: Key + ?Sized>(&self, prefix: &P) -> impl Iterator<Item = Result<K>> + '_ {
        self.tree.scan_prefix(prefix.encode()).keys().map(|bytes| self.key(&bytes?))
    }

    /// Returns the entries whose keys lie in `range`, in the order of their keys.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = Result<(K, V)>> + '_ {
        let bound = |bound: Bound<&K>| bound.map(|key| key.encode().as_ref().to_vec());
        let range = (bound(range.start_bound()), bound(range.end_bound()));
        self.tree.range::<Vec<u8>, _>(range).map(|entry| self.entry(entry))
    }

    /// Returns the entries whose keys are below `end`, or all, the highest key first.
    pub fn below(&self, end: Option<&K>) -> impl Iterator<Item = Result<(K, V)>> + use<'_, K, V> {
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.encode().as_ref().to_vec()));
        self.tree.range::<Vec<u8>, _>((Bound::Unbounded, end)).rev().map(|entry| self.entry(entry))
    }

    /// Returns the entry with the highest key.
    ///
    /// # Errors
    /// If the engine fails or the entry can't be decoded.
    pub fn last(&self) -> Result<Option<(K, V)>> {
        self.tree.last()?.map(|entry| self.entry(Ok(entry))).transpose()
    }
}

/// A tree of a [`WriteSet`].
struct WrittenTree<'a> {
    name: &'static str,
    tree: &'a Tree,
    tally: Option<&'a TreeTally>,
    version: &'a AtomicU64,
}

/// Writes to several trees that become visible and durable together: a crash leaves all of them or none.
#[derive(Default)]
pub struct WriteSet<'a> {
    trees: Vec<WrittenTree<'a>>,
    writes: Vec<(usize, Vec<u8>, Option<Vec<u8>>)>,
}

impl<'a> WriteSet<'a> {
    fn add<K: Key + ?Sized, V: Value>(&mut self, table: &'a Table<K, V>, key: &K, value: Option<Vec<u8>>) {
        let at = self.trees.iter().position(|tree| tree.name == table.name).unwrap_or_else(|| {
            let Table { tree, name, tally, version, .. } = table;
            self.trees.push(WrittenTree { name, tree, tally: tally.as_ref(), version });
            self.trees.len() - 1
        });
        self.writes.push((at, key.encode().as_ref().to_vec(), value));
    }

    /// Adds: `key` of `table` gets `value`.
    ///
    /// # Errors
    /// If the value can't be encoded.
    pub fn put<K: Key + ?Sized, V: Value>(&mut self, table: &'a Table<K, V>, key: &K, value: &V) -> Result<()> {
        self.add(table, key, Some(value.encode()?.into_owned()));
        Ok(())
    }

    /// Adds: `key` of `table` is removed.
    pub fn remove<K: Key + ?Sized, V: Value>(&mut self, table: &'a Table<K, V>, key: &K) {
        self.add(table, key, None);
    }

    /// Makes the writes, in the order in which they were added.
    ///
    /// # Errors
    /// If the engine fails; nothing is written then.
    pub fn apply(self) -> Result<()> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let tally = self.trees.iter().find_map(|tree| tree.tally);
        self.trees.iter().filter_map(|tree| tree.tally).try_for_each(TreeTally::begin)?;
        let trees: Vec<&Tree> = self.trees.iter().map(|tree| tree.tree).collect();
        let outcome = trees[..].transaction(|views| {
            let mut change = Change::default(); // sled may call this again
            for (at, key, value) in &self.writes {
                let old = match value {
                    Some(value) => views[*at].insert(&key[..], &value[..])?,
                    None => views[*at].remove(&key[..])?,
                };
                if let Some(tally) = self.trees[*at].tally {
                    change.replaced(tally, key, old.as_deref(), value.as_deref());
                }
            }
            Ok::<_, ConflictableTransactionError<StoreError>>(change)
        });
        for tree in &self.trees {
            tree.version.fetch_add(1, Ordering::AcqRel);
        }
        let change = outcome.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => StoreError::Engine(error),
        })?;
        if let Some(tally) = tally {
            change.add_to(tally);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_keys_sort_by_first_then_second(a: (u64, u64), b: (u64, u64)) {
            let key = |p: (u64, u64)| (UserId(p.0), DeviceId(p.1)).encode();
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
            prop_assert_eq!(<(UserId, DeviceId)>::decode(&key(a)), Some((UserId(a.0), DeviceId(a.1))));
            prop_assert!(key(a).starts_with(&UserId(a.0).to_key()));
        }

        #[test]
        fn keys_of_wrong_length_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert_eq!(<(UserId, DeviceId)>::decode(&bytes).is_some(), bytes.len() == 16);
            prop_assert_eq!(<(MessageId, u16)>::decode(&bytes).is_some(), bytes.len() == 10);
        }
    }

    #[test]
    fn write_set_writes_all_trees() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        let first: Table<UserId, DeviceId> = Table::open(&db, "first", None).unwrap();
        let second: Table<str, UserId> = Table::open(&db, "second", None).unwrap();
        second.insert("old", &UserId(1)).unwrap();
        let mut writes = WriteSet::default();
        writes.put(&first, &UserId(1), &DeviceId(2)).unwrap();
        writes.put(&second, "new", &UserId(3)).unwrap();
        writes.remove(&second, "old");
        writes.apply().unwrap();
        assert_eq!(first.get(&UserId(1)).unwrap(), Some(DeviceId(2)));
        assert_eq!((second.get("new").unwrap(), second.get("old").unwrap()), (Some(UserId(3)), None));
    }
}
