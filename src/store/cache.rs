//! Decoded records of one table, for those that every request reads.

use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as Memory, DefaultLifecycle};

use super::Result;
use super::table::{Key, Table, Value};

/// The most records of one cache: about 300 bytes each.
const MAX_RECORDS: usize = 4096;

/// A record, with the version of the table that it was read at.
type Versioned<V> = (u64, Arc<V>);

/// The records of a table that were read since it was last written to.
#[derive(Debug)]
pub struct Cache<K, V>(Memory<K, Versioned<V>, UnitWeighter, RandomState>);

impl<K: Hash + Eq, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Memory::with(MAX_RECORDS, MAX_RECORDS as u64, UnitWeighter, RandomState::default(), DefaultLifecycle::default()))
    }
}

impl<K: Key + Hash + Eq + Clone, V: Value> Cache<K, V> {
    /// Returns the value of `key` in `table`, which is always the same one.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn get(&self, table: &Table<K, V>, key: &K) -> Result<Option<Arc<V>>> {
        // Before the record is read: one that is written meanwhile makes what was read outdated.
        let version = table.version();
        if let Some((at, value)) = self.0.get(key)
            && at == version
        {
            return Ok(Some(value));
        }
        let value = table.get(key)?.map(Arc::new);
        match &value {
            Some(value) => self.0.insert(key.clone(), (version, value.clone())),
            None => drop(self.0.remove(key)),
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{DeviceId, UserId};
    use crate::store::table::WriteSet;

    #[test]
    fn every_way_to_write_a_table_outdates_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        let table: Table<UserId, DeviceId> = Table::open(&db, "devices", None).unwrap();
        let cache = Cache::default();
        let get = || cache.get(&table, &UserId(1)).unwrap().map(|device| *device);
        assert_eq!(get(), None);
        table.insert(&UserId(1), &DeviceId(1)).unwrap();
        assert_eq!((get(), get()), (Some(DeviceId(1)), Some(DeviceId(1))));
        let mut writes = WriteSet::default();
        writes.put(&table, &UserId(1), &DeviceId(2)).unwrap();
        assert_eq!(get(), Some(DeviceId(1)), "not written yet");
        writes.apply().unwrap();
        assert_eq!(get(), Some(DeviceId(2)));
        table.remove(&UserId(1)).unwrap();
        assert_eq!(get(), None);
    }

    #[test]
    fn records_are_taken_from_memory_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        let table: Table<UserId, DeviceId> = Table::open(&db, "devices", None).unwrap();
        for n in 0..MAX_RECORDS as u64 + 10 {
            table.insert(&UserId(n), &DeviceId(n)).unwrap();
        }
        let cache = Cache::default();
        for n in 0..MAX_RECORDS as u64 + 10 {
            assert_eq!(cache.get(&table, &UserId(n)).unwrap().as_deref(), Some(&DeviceId(n)));
            assert!(cache.0.len() <= MAX_RECORDS);
        }
        // Written behind the table's back: only the memory knows the old value.
        table.tree().clear().unwrap();
        let last = MAX_RECORDS as u64 + 9;
        assert_eq!(cache.get(&table, &UserId(last)).unwrap().as_deref(), Some(&DeviceId(last)));
    }
}
