//! The figures of the last day, and the devices that were online in it.

use super::records::{Minute, OnlineDevices, Sample, Slot};
use super::table::{DecodeKey, Key, Table, Value};
use super::trees::Trees;
use super::{Result, Store};

/// The number of minutes that are kept.
pub const KEPT_MINUTES: u64 = 1440;
/// The number of slots that are kept.
pub const KEPT_SLOTS: u64 = 144;

/// Keeps the figures of a minute, and where they are given the devices of a slot, and removes what is older than a day. What is later
/// than they are is of a clock that was wrong, and removed, too.
///
/// # Errors
/// If the store fails.
pub fn record(trees: &Trees, minute: Minute, sample: &Sample, online: Option<(Slot, &OnlineDevices)>) -> Result<()> {
    trees.samples.insert(&minute, sample)?;
    remove_outside(&trees.samples, &minute.before(KEPT_MINUTES - 1), &minute)?;
    let Some((slot, devices)) = online else { return Ok(()) };
    trees.online.insert(&slot, devices)?;
    remove_outside(&trees.online, &slot.before(KEPT_SLOTS - 1), &slot)
}

/// Removes the entries in front of `first` and behind `last`, unreadable ones included.
fn remove_outside<K: Key, V: Value>(table: &Table<K, V>, first: &K, last: &K) -> Result<()> {
    let (first, last) = (first.encode().as_ref().to_vec(), last.encode().as_ref().to_vec());
    let outside = table.tree().range(..&first[..]).keys().chain(table.tree().range(last.clone()..).keys());
    for key in outside.collect::<sled::Result<Vec<_>>>()? {
        if key.as_ref() != &last[..] {
            table.remove_stored(&key)?;
        }
    }
    Ok(())
}

impl Store {
    /// Returns the figures that are kept from `first` on, in order. Those that can't be read are left out: a chart has a gap there.
    pub fn samples(&self, first: Minute) -> Vec<(Minute, Sample)> {
        readable(&self.trees.samples, &first)
    }

    /// Returns the devices that were online, by slot, from `first` on, in order; without slots that can't be read.
    pub fn online_devices(&self, first: Slot) -> Vec<(Slot, OnlineDevices)> {
        readable(&self.trees.online, &first)
    }
}

/// Returns the entries from `first` on that can be read.
fn readable<K: DecodeKey, V: Value>(table: &Table<K, V>, first: &K) -> Vec<(K, V)> {
    let entries = table.tree().range(first.encode().as_ref().to_vec()..).filter_map(std::result::Result::ok);
    entries.filter_map(|(key, value)| Some((K::decode(&key)?, V::decode(&value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::DeviceId;
    use crate::store::tests::fresh;
    use crate::store::{Watch, check};

    fn sample(connections: u32) -> Sample {
        Sample { connections, received_per_second: 0.5, queue_messages: 7, disk_bytes: 1 << 20, ..Sample::default() }
    }

    #[test]
    fn day_is_kept_and_nothing_before_it_or_of_a_wrong_clock() {
        let (_dir, store) = fresh();
        let devices = OnlineDevices(vec![DeviceId(1), DeviceId(9)]);
        for n in 0..1500 {
            record(&store.trees, Minute(1000 + n), &sample(n as u32), Some((Slot((1000 + n) / 10), &devices))).unwrap();
        }
        let kept = store.samples(Minute(0));
        assert_eq!((kept.len(), kept[0], kept[1439].0), (1440, (Minute(1060), sample(60)), Minute(2499)));
        let slots = store.online_devices(Slot(0));
        assert_eq!((slots.len(), slots[143].0), (144, Slot(249)));
        assert!(slots[0].1.contains(DeviceId(9)) && !slots[0].1.contains(DeviceId(2)));
        assert_eq!(store.samples(Minute(2490)).len(), 10);
        record(&store.trees, Minute(1100), &sample(1), None).unwrap();
        assert_eq!(store.samples(Minute(0)).last().unwrap().0, Minute(1100), "the clock was set back");
        assert_eq!(store.online_devices(Slot(0)).len(), 144, "the next slot removes them");
    }

    #[test]
    fn unreadable_figures_are_a_gap_and_a_finding() {
        let (dir, store) = fresh();
        record(&store.trees, Minute(5), &sample(5), None).unwrap();
        record(&store.trees, Minute(6), &sample(6), None).unwrap();
        store.trees.samples.tree().insert(Minute(5).encode(), b"garbage").unwrap();
        assert_eq!(store.samples(Minute(0)), [(Minute(6), sample(6))]);
        store.close().unwrap();
        drop(store);
        let found = check(&dir.path().join("store"), Watch::NONE).unwrap();
        assert_eq!((found.wrong, found.findings[0].tree), (1, "samples"));
    }
}
