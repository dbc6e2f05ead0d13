//! Decoded records of one table, for those that every request reads.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

use super::Result;
use super::table::{Key, Table, Value};

/// The most records of one cache: about 300 bytes each.
const MAX_RECORDS: usize = 4096;

/// The records of a table that were read since it was last written to.
#[derive(Debug)]
pub struct Cache<K, V> {
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    /// The version of the table that the records are of.
    version: u64,
    records: HashMap<K, V>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { state: Mutex::new(State { version: 0, records: HashMap::new() }) }
    }
}

impl<K: Key + Hash + Eq + Clone, V: Value + Clone> Cache<K, V> {
    /// Returns the value of `key` in `table`, which is always the same one.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn get(&self, table: &Table<K, V>, key: &K) -> Result<Option<V>> {
        // Before the record is read: one that is written meanwhile makes what was read outdated.
        let version = table.version();
        {
            let mut state = self.state.lock();
            if state.version != version {
                *state = State { version, records: HashMap::new() };
            } else if let Some(value) = state.records.get(key) {
                return Ok(Some(value.clone()));
            }
        }
        let value = table.get(key)?;
        if let Some(value) = &value {
            let mut state = self.state.lock();
            if state.version == version {
                if state.records.len() >= MAX_RECORDS {
                    state.records.clear();
                }
                state.records.insert(key.clone(), value.clone());
            }
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
        let table: Table<UserId, DeviceId> = Table::open(&db, "devices").unwrap();
        let cache = Cache::default();
        let get = || cache.get(&table, &UserId(1)).unwrap();
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
        let table: Table<UserId, DeviceId> = Table::open(&db, "devices").unwrap();
        for n in 0..MAX_RECORDS as u64 + 10 {
            table.insert(&UserId(n), &DeviceId(n)).unwrap();
        }
        let cache = Cache::default();
        for n in 0..MAX_RECORDS as u64 + 10 {
            assert_eq!(cache.get(&table, &UserId(n)).unwrap(), Some(DeviceId(n)));
            assert!(cache.state.lock().records.len() <= MAX_RECORDS);
        }
        // Written behind the table's back: only the memory knows the old value.
        table.tree().clear().unwrap();
        assert_eq!(cache.get(&table, &UserId(MAX_RECORDS as u64 + 9)).unwrap(), Some(DeviceId(MAX_RECORDS as u64 + 9)));
    }
}
