//! Devices and the users that have them.
//!
//! A device is bound to one or more users; a user has at most one primary device among the bound ones.

use std::ops::Bound;

use super::tokens;
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::names::fold_serial;
use crate::core::time::Timestamp;
use crate::store::meta::MetaKey;
use crate::store::records::{Device, DeviceChange, NewDevice};
use crate::store::table::WriteSet;
use crate::store::trees::Trees;
use crate::store::{Result, Store, StoreError};

/// Returns the device `id`.
pub(super) fn get(trees: &Trees, id: DeviceId) -> Result<Option<Device>> {
    trees.devices.get(&id)
}

/// Returns the devices with that serial: the one that bears it as it is written, then those that bear it in another spelling.
///
/// # Errors
/// If the store fails.
pub fn by_serial(trees: &Trees, serial: &str) -> Result<Vec<Device>> {
    let exact = trees.serials.get(serial)?;
    let mut same = trees.serial_forms.find(&trees.devices, &[fold_serial(serial)])?;
    same.sort_by_key(|device| (Some(device.id) != exact, device.id));
    Ok(same)
}

/// Refuses a serial that another device bears, in any spelling.
pub(super) fn serial_is_free(trees: &Trees, serial: &str, own: Option<DeviceId>) -> Result<()> {
    let free = by_serial(trees, serial)?.iter().all(|device| Some(device.id) == own);
    if free { Ok(()) } else { Err(StoreError::Taken("serial")) }
}

fn users_of(trees: &Trees, id: DeviceId) -> Result<Vec<UserId>> {
    trees.device_users.keys_of(&id).map(|key| Ok(key?.1)).collect()
}

/// Returns the devices of `user`, in id order.
///
/// # Errors
/// If the store fails.
pub fn of_user(trees: &Trees, user: UserId) -> Result<Vec<DeviceId>> {
    trees.user_devices.keys_of(&user).map(|key| Ok(key?.1)).collect()
}

/// Adds: `device` is bound to `user`.
pub(super) fn bind<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, user: UserId, device: DeviceId) -> Result<()> {
    writes.put(&trees.user_devices, &(user, device), &())?;
    writes.put(&trees.device_users, &(device, user), &())
}

/// Adds: `device` is taken from `user` together with the tokens that `user` gave it.
fn take<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, user: UserId, device: DeviceId) -> Result<()> {
    for (hash, token) in tokens::of_user(trees, user)?.iter().filter(|(_, token)| token.device_id == Some(device)) {
        tokens::remove(trees, writes, hash, token);
    }
    writes.remove(&trees.user_devices, &(user, device));
    writes.remove(&trees.device_users, &(device, user));
    if trees.primaries.get(&user)? == Some(device) {
        writes.remove(&trees.primaries, &user);
    }
    Ok(())
}

/// Adds: the record of `device`, which nobody has any more, is removed. Returns it; its serial must be forgotten once that is written.
fn remove_record<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, device: DeviceId) -> Result<Option<Device>> {
    let record = get(trees, device)?;
    if let Some(serial) = record.as_ref().and_then(|record| record.serial.as_ref()) {
        writes.remove(&trees.serials, &**serial);
    }
    writes.remove(&trees.devices, &device);
    Ok(record)
}

/// Makes `device` the primary device of `user`, or no longer.
///
/// # Errors
/// [`StoreError::Missing`] when it is not bound to that user; else when the store fails.
pub fn set_primary(trees: &Trees, user: UserId, device: DeviceId, primary: bool) -> Result<()> {
    if !trees.user_devices.contains(&(user, device))? {
        return Err(StoreError::Missing("device"));
    }
    if primary {
        trees.primaries.insert(&user, &device)?;
    } else if trees.primaries.get(&user)? == Some(device) {
        trees.primaries.remove(&user)?;
    }
    Ok(())
}

/// Adds a device at `now`, bound to `user`, who may have `limit` (0: any number).
///
/// # Errors
/// [`StoreError::Missing`] user, [`StoreError::Taken`] serial, [`StoreError::Full`]; else when the store fails.
pub fn create(trees: &Trees, new: NewDevice, user: UserId, limit: usize, now: Timestamp) -> Result<Device> {
    if !trees.users.contains(&user)? {
        return Err(StoreError::Missing("user"));
    }
    if limit > 0 && trees.user_devices.keys_of(&user).take(limit).count() >= limit {
        return Err(StoreError::Full("devices"));
    }
    if let Some(serial) = &new.serial {
        serial_is_free(trees, serial, None)?;
    }
    let NewDevice { name, serial, model, primary, max_bytes } = new;
    let id = DeviceId(trees.meta.next(MetaKey::NextDevice)?);
    let device = Device { id, name, serial, model, created_at: now, last_seen: None, max_bytes, emptied: None };
    let mut writes = WriteSet::default();
    writes.put(&trees.devices, &id, &device)?;
    if let Some(serial) = &device.serial {
        writes.put(&trees.serials, serial.as_str(), &id)?;
    }
    bind(trees, &mut writes, user, id)?;
    if primary {
        writes.put(&trees.primaries, &user, &id)?;
    }
    writes.apply()?;
    trees.serial_forms.replace(None, Some(&device));
    Ok(device)
}

/// Changes a device. Returns it as it is now, and the users that it has been taken from; of these it also has taken the tokens
/// that they gave the device. Where none of its users keeps it, `hand_over` empties its mailbox before one of the new users can see it, and
/// returns the newest message.
///
/// # Errors
/// [`StoreError::Missing`] device or user, [`StoreError::Taken`] serial, that of `hand_over`; else when the store fails.
pub fn change(
    trees: &Trees,
    id: DeviceId,
    change: DeviceChange,
    hand_over: impl FnOnce() -> Result<MessageId>,
) -> Result<(Device, Vec<UserId>)> {
    let mut device = get(trees, id)?.ok_or(StoreError::Missing("device"))?;
    let (before, old_serial) = (device.clone(), device.serial.clone());
    if let Some(serial) = change.serial {
        // One that stays as it is may collide with another since before serials were compared by their forms.
        if let Some(serial) = serial.as_ref().filter(|serial| old_serial.as_ref() != Some(serial)) {
            serial_is_free(trees, serial, Some(id))?;
        }
        device.serial = serial;
    }
    device.name = change.name.unwrap_or(device.name);
    device.model = change.model.unwrap_or(device.model);
    device.max_bytes = change.max_bytes.unwrap_or(device.max_bytes);
    let (mut taken_from, mut writes) = (Vec::new(), WriteSet::default());
    if let Some(users) = change.users {
        let before = users_of(trees, id)?;
        for user in &users {
            trees.users.contains(user)?.then_some(()).ok_or(StoreError::Missing("user"))?;
        }
        let of_all = !before.is_empty() && !before.iter().any(|user| users.contains(user));
        taken_from = before.into_iter().filter(|user| !users.contains(user)).collect();
        if of_all {
            device.emptied = Some(hand_over()?); // before anyone can see it as one of the new users
        }
        for user in &users {
            bind(trees, &mut writes, *user, id)?;
        }
        for &user in &taken_from {
            take(trees, &mut writes, user, id)?;
        }
    }
    if let Some(old) = old_serial.filter(|old| device.serial.as_ref() != Some(old)) {
        writes.remove(&trees.serials, &*old);
    }
    if let Some(serial) = &device.serial {
        writes.put(&trees.serials, serial.as_str(), &id)?;
    }
    writes.put(&trees.devices, &id, &device)?;
    writes.apply()?;
    trees.serial_forms.replace(Some(&before), Some(&device));
    Ok((device, taken_from))
}

/// Takes `device` from `user` together with the tokens that `user` gave it. A device that nobody has any more is deleted.
///
/// # Errors
/// [`StoreError::Missing`] when it is not bound to that user; else when the store fails.
pub fn unbind(trees: &Trees, user: UserId, device: DeviceId) -> Result<()> {
    if !trees.user_devices.contains(&(user, device))? {
        return Err(StoreError::Missing("device"));
    }
    let mut writes = WriteSet::default();
    let removed = leave(trees, &mut writes, user, device)?;
    writes.apply()?;
    trees.serial_forms.replace(removed.as_ref(), None);
    Ok(())
}

/// Adds: `device` is taken from `user`, and deleted where nobody else has it. Returns it then.
fn leave<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, user: UserId, device: DeviceId) -> Result<Option<Device>> {
    take(trees, writes, user, device)?;
    if users_of(trees, device)? == [user] { remove_record(trees, writes, device) } else { Ok(None) }
}

/// Adds: `user` has no devices any more. Returns those that it had, and the records of those that are deleted, whose serials must be
/// forgotten once that is written.
///
/// # Errors
/// If the store fails.
pub(super) fn leave_all<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, user: UserId) -> Result<(Vec<DeviceId>, Vec<Device>)> {
    let (devices, mut deleted) = (of_user(trees, user)?, Vec::new());
    for &device in &devices {
        deleted.extend(leave(trees, writes, user, device)?);
    }
    Ok((devices, deleted))
}

/// Deletes a device; returns the users that it has been taken from.
///
/// # Errors
/// [`StoreError::Missing`]; else when the store fails.
pub fn delete(trees: &Trees, device: DeviceId) -> Result<Vec<UserId>> {
    let users = users_of(trees, device)?;
    if users.is_empty() {
        return Err(StoreError::Missing("device"));
    }
    let mut writes = WriteSet::default();
    users.iter().try_for_each(|&user| take(trees, &mut writes, user, device))?;
    let removed = remove_record(trees, &mut writes, device)?;
    writes.apply()?;
    trees.serial_forms.replace(removed.as_ref(), None);
    Ok(users)
}

impl Store {
    /// Returns the device `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>> {
        get(&self.trees, id)
    }

    /// Returns the devices with that serial, the one that bears it as it is written first: several only where they have it from
    /// before serials were compared by their forms.
    ///
    /// # Errors
    /// If the store fails.
    pub fn devices_by_serial(&self, serial: &str) -> Result<Vec<Device>> {
        by_serial(&self.trees, serial)
    }

    /// Returns the devices with an id above `after`, in the order of their ids.
    pub fn devices(&self, after: DeviceId) -> impl Iterator<Item = Result<Device>> + '_ {
        let above = (Bound::Excluded(after), Bound::Unbounded);
        self.trees.devices.range(above).map(|entry| Ok(entry?.1))
    }

    /// Returns the devices of `user` with an id above `after`, in the order of their ids.
    pub fn devices_of(&self, user: UserId, after: DeviceId) -> impl Iterator<Item = Result<Device>> + '_ {
        // A device may be deleted between the two looks.
        self.bound_devices(user, after).filter_map(|id| id.and_then(|id| get(&self.trees, id)).transpose())
    }

    /// Returns the ids above `after` of the devices that are bound to `user`, in order.
    pub fn bound_devices(&self, user: UserId, after: DeviceId) -> impl Iterator<Item = Result<DeviceId>> + '_ {
        let above = (Bound::Excluded((user, after)), Bound::Included((user, DeviceId(u64::MAX))));
        self.trees.user_devices.range(above).map(|entry| Ok(entry?.0.1))
    }

    /// Returns the users that `device` is bound to.
    ///
    /// # Errors
    /// If the store fails.
    pub fn device_users(&self, device: DeviceId) -> Result<Vec<UserId>> {
        users_of(&self.trees, device)
    }

    /// Returns the primary device of `user`, if any.
    ///
    /// # Errors
    /// If the store fails.
    pub fn primary_device(&self, user: UserId) -> Result<Option<DeviceId>> {
        self.trees.primaries.get(&user)
    }
}
