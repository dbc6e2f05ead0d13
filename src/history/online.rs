//! The devices that are online in the present slot.

use std::collections::BTreeSet;

use crate::core::ids::DeviceId;
use crate::store::{OnlineDevices, Slot, Store};

/// The devices of the present slot, and of the one before until the next is begun.
#[derive(Debug)]
pub(super) struct Online {
    slot: Slot,
    devices: BTreeSet<DeviceId>,
    /// The number of those that are in the store.
    written: usize,
}

impl Online {
    /// Continues with what the store has of the present slot.
    pub(super) fn load(store: &Store, slot: Slot) -> Self {
        let kept = store.online_devices(slot).into_iter().find(|(found, _)| *found == slot);
        let devices: BTreeSet<_> = kept.map(|(_, devices)| devices.0).unwrap_or_default().into_iter().collect();
        Self { slot, written: devices.len(), devices }
    }

    /// Adds devices that were online in `slot`. Returns what the store has to keep of it, where that has changed.
    pub(super) fn add(&mut self, slot: Slot, online: Vec<DeviceId>) -> Option<(Slot, OnlineDevices)> {
        if slot != self.slot {
            (self.slot, self.written) = (slot, 0);
            self.devices.clear();
        }
        self.devices.extend(online);
        let changed = self.devices.len() > self.written;
        self.written = self.devices.len();
        changed.then(|| (slot, OnlineDevices(self.devices.iter().copied().collect())))
    }

    /// Notes that the last devices were not kept: the next ones are kept together with them.
    pub(super) fn not_written(&mut self) {
        self.written = 0;
    }

    /// Returns the slot, if `device` was online in it.
    pub(super) fn slot_of(&self, device: DeviceId) -> Option<Slot> {
        self.devices.contains(&device).then_some(self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_written_when_it_has_another_device_and_never_without_any() {
        let (dir, id) = (tempfile::tempdir().unwrap(), DeviceId);
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut online = Online::load(&store, Slot(7));
        assert_eq!(online.add(Slot(7), vec![]), None);
        assert_eq!(online.add(Slot(7), vec![id(2)]), Some((Slot(7), OnlineDevices(vec![id(2)]))));
        assert_eq!(online.add(Slot(7), vec![id(2)]), None);
        assert_eq!(online.add(Slot(7), vec![id(1)]), Some((Slot(7), OnlineDevices(vec![id(1), id(2)]))));
        online.not_written();
        assert!(online.add(Slot(7), vec![]).is_some());
        assert_eq!((online.slot_of(id(1)), online.slot_of(id(3))), (Some(Slot(7)), None));
        assert_eq!(online.add(Slot(8), vec![id(1)]), Some((Slot(8), OnlineDevices(vec![id(1)]))));
        assert_eq!(online.slot_of(id(2)), None);
    }
}
