//! Devices and who has them.
//!
//! A device is bound to one or more users; a user has at most one primary device among the bound ones.

use serde::{Deserialize, Serialize};
use sled::Transactional;

use super::catalogue::{Trees, TxError, committed, decode, device_user, encode, number, second, user_device};
use super::tokens::{owned_tokens, remove};
use super::{Page, Result, Store, StoreError};
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;

/// A companion device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// From 1.
    pub id: DeviceId,
    /// Chosen by the owner.
    pub name: String,
    /// Unique where given.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last connected, to the minute or so.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
}

/// What a new device is made from.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// Chosen by the owner.
    pub name: String,
    /// Unique where given.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
    /// Whether it becomes its user's primary device.
    pub primary: bool,
}

/// What to change; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct DeviceChange {
    /// Chosen by the owner.
    pub name: Option<String>,
    /// Unique; an inner `None` takes it away.
    pub serial: Option<Option<String>>,
    /// For people; an inner `None` takes it away.
    pub model: Option<Option<String>>,
    /// The users it shall be bound to, all of them; not empty.
    pub users: Option<Vec<UserId>>,
}

fn get(trees: &Trees, id: DeviceId) -> Result<Option<Device>> {
    trees.devices.get(id.to_key())?.map(|bytes| decode(&bytes, "devices")).transpose()
}

/// Refuses a serial that another device bears.
fn serial_is_free(trees: &Trees, serial: &str, own: Option<DeviceId>) -> Result<()> {
    match trees.serials.get(serial)? {
        Some(id) if Some(DeviceId(number(&id, "serials")?)) != own => Err(StoreError::Taken("serial")),
        _ => Ok(()),
    }
}

fn users_of(trees: &Trees, id: DeviceId) -> Result<Vec<UserId>> {
    let keys = trees.device_users.scan_prefix(id.to_key()).keys();
    keys.map(|key| second(&key?).map(UserId).ok_or(StoreError::Damaged { tree: "device_users" })).collect()
}

fn bind(trees: &Trees, user: UserId, device: DeviceId) -> Result<()> {
    if !trees.users.contains_key(user.to_key())? {
        return Err(StoreError::Missing("user"));
    }
    committed((&trees.user_devices, &trees.device_users).transaction(|(of_user, of_device)| {
        of_user.insert(&user_device(user, device), &[])?;
        of_device.insert(&device_user(device, user), &[])?;
        Ok::<(), TxError>(())
    }))
}

fn set_primary(trees: &Trees, user: UserId, device: DeviceId, primary: bool) -> Result<()> {
    if !trees.user_devices.contains_key(user_device(user, device))? {
        return Err(StoreError::Missing("device"));
    }
    if primary {
        trees.primaries.insert(user.to_key(), &device.to_key())?;
    } else if primary_of(trees, user)? == Some(device) {
        trees.primaries.remove(user.to_key())?;
    }
    Ok(())
}

fn primary_of(trees: &Trees, user: UserId) -> Result<Option<DeviceId>> {
    trees.primaries.get(user.to_key())?.map(|id| number(&id, "primaries").map(DeviceId)).transpose()
}

fn create(trees: &Trees, new: &NewDevice, user: UserId, limit: usize) -> Result<Device> {
    if !trees.users.contains_key(user.to_key())? {
        return Err(StoreError::Missing("user"));
    }
    if limit > 0 && trees.user_devices.scan_prefix(user.to_key()).take(limit).count() >= limit {
        return Err(StoreError::Full("devices"));
    }
    if let Some(serial) = &new.serial {
        serial_is_free(trees, serial, None)?;
    }
    let device = Device {
        id: DeviceId(trees.next("next_device")?),
        name: new.name.clone(),
        serial: new.serial.clone(),
        model: new.model.clone(),
        created_at: Timestamp::now(),
        last_seen: None,
    };
    let (record, key) = (encode(&device)?, device.id.to_key());
    let all = (&trees.devices, &trees.serials, &trees.user_devices, &trees.device_users, &trees.primaries);
    committed(all.transaction(|(devices, serials, of_user, of_device, primaries)| {
        devices.insert(&key, record.clone())?;
        if let Some(serial) = &device.serial {
            serials.insert(serial.as_bytes(), &key)?;
        }
        of_user.insert(&user_device(user, device.id), &[])?;
        of_device.insert(&device_user(device.id, user), &[])?;
        if new.primary {
            primaries.insert(&user.to_key(), &key)?;
        }
        Ok::<(), TxError>(())
    }))?;
    Ok(device)
}

fn change(trees: &Trees, id: DeviceId, change: DeviceChange) -> Result<Device> {
    let mut device = get(trees, id)?.ok_or(StoreError::Missing("device"))?;
    let old_serial = device.serial.clone();
    if let Some(serial) = change.serial {
        if let Some(serial) = &serial {
            serial_is_free(trees, serial, Some(id))?;
        }
        device.serial = serial;
    }
    device.name = change.name.unwrap_or(device.name);
    device.model = change.model.unwrap_or(device.model);
    if let Some(users) = change.users {
        for user in &users {
            bind(trees, *user, id)?;
        }
        for user in users_of(trees, id)? {
            if !users.contains(&user) {
                unbind(trees, user, id)?;
            }
        }
    }
    let record = encode(&device)?;
    committed((&trees.devices, &trees.serials).transaction(|(devices, serials)| {
        if let Some(old) = old_serial.as_ref().filter(|&old| device.serial.as_ref() != Some(old)) {
            serials.remove(old.as_bytes())?;
        }
        if let Some(serial) = &device.serial {
            serials.insert(serial.as_bytes(), &id.to_key())?;
        }
        devices.insert(&id.to_key(), record.clone())?;
        Ok::<(), TxError>(())
    }))?;
    Ok(device)
}

/// Takes `device` from `user` together with the tokens that `user` gave it. A device that nobody has is removed.
pub(super) fn unbind(trees: &Trees, user: UserId, device: DeviceId) -> Result<()> {
    for (hash, token) in owned_tokens(trees, user)? {
        if token.device_id == Some(device) {
            remove(trees, &hash, &token)?;
        }
    }
    let primary = primary_of(trees, user)? == Some(device);
    let last = users_of(trees, device)? == [user];
    let serial = get(trees, device)?.and_then(|d| d.serial).filter(|_| last);
    let all = (&trees.devices, &trees.serials, &trees.user_devices, &trees.device_users, &trees.primaries);
    committed(all.transaction(|(devices, serials, of_user, of_device, primaries)| {
        of_user.remove(&user_device(user, device))?;
        of_device.remove(&device_user(device, user))?;
        if primary {
            primaries.remove(&user.to_key())?;
        }
        if last {
            devices.remove(&device.to_key())?;
        }
        if let Some(serial) = &serial {
            serials.remove(serial.as_bytes())?;
        }
        Ok::<(), TxError>(())
    }))
}

pub(super) fn note_seen(trees: &Trees, seen: &[(DeviceId, Timestamp)]) -> Result<()> {
    for &(id, when) in seen {
        if let Some(mut device) = get(trees, id)? {
            device.last_seen = Some(when);
            trees.devices.insert(id.to_key(), encode(&device)?)?;
        }
    }
    Ok(())
}

impl Store {
    /// The device `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn device(&self, id: DeviceId) -> Result<Option<Device>> {
        get(&self.trees, id)
    }

    /// The device with that serial.
    ///
    /// # Errors
    /// When the store fails.
    pub fn device_by_serial(&self, serial: &str) -> Result<Option<Device>> {
        match self.trees.serials.get(serial)? {
            Some(id) => get(&self.trees, DeviceId(number(&id, "serials")?)),
            None => Ok(None),
        }
    }

    /// Up to `limit` devices with an id above `after`: of `user`, or of everybody.
    ///
    /// # Errors
    /// When the store fails.
    pub fn devices(&self, user: Option<UserId>, after: DeviceId, limit: usize) -> Result<Page<Device>> {
        let next = DeviceId(after.0.saturating_add(1));
        let Some(user) = user else {
            return Page::take(self.trees.devices.range(next.to_key()..).values().map(|v| decode(&v?, "devices")), limit);
        };
        let keys = self.trees.user_devices.range(user_device(user, next)..=user_device(user, DeviceId(u64::MAX))).keys();
        let devices = keys.filter_map(|key| {
            let id = key.map_err(StoreError::from).map(|key| second(&key).map(DeviceId));
            id.and_then(|id| id.map_or(Ok(None), |id| get(&self.trees, id))).transpose()
        });
        Page::take(devices, limit)
    }

    /// The users that `device` is bound to.
    ///
    /// # Errors
    /// When the store fails.
    pub fn device_users(&self, device: DeviceId) -> Result<Vec<UserId>> {
        users_of(&self.trees, device)
    }

    /// The primary device of `user`, if any.
    ///
    /// # Errors
    /// When the store fails.
    pub fn primary_device(&self, user: UserId) -> Result<Option<DeviceId>> {
        primary_of(&self.trees, user)
    }

    /// Adds a device bound to `user`, who may have `limit` (0: any number).
    ///
    /// # Errors
    /// [`StoreError::Missing`] user, [`StoreError::Taken`] serial, [`StoreError::Full`]; else when the store fails.
    pub async fn create_device(&self, new: NewDevice, user: UserId, limit: usize) -> Result<Device> {
        self.write(move |trees| create(trees, &new, user, limit)).await
    }

    /// Changes a device and returns it as it is now.
    ///
    /// # Errors
    /// [`StoreError::Missing`] device or user, [`StoreError::Taken`] serial; else when the store fails.
    pub async fn change_device(&self, id: DeviceId, what: DeviceChange) -> Result<Device> {
        self.write(move |trees| change(trees, id, what)).await
    }

    /// Makes `device` the primary device of `user`, or no longer.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not bound to that user; else when the store fails.
    pub async fn set_primary(&self, user: UserId, device: DeviceId, primary: bool) -> Result<()> {
        self.write(move |trees| set_primary(trees, user, device, primary)).await
    }

    /// Takes `device` from `user`; the last one to leave takes the device with them.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not bound to that user; else when the store fails.
    pub async fn unbind_device(&self, user: UserId, device: DeviceId) -> Result<()> {
        self.write(move |trees| {
            if !trees.user_devices.contains_key(user_device(user, device))? {
                return Err(StoreError::Missing("device"));
            }
            unbind(trees, user, device)
        })
        .await
    }

    /// Removes a device from everybody.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; else when the store fails.
    pub async fn delete_device(&self, device: DeviceId) -> Result<()> {
        self.write(move |trees| {
            let users = users_of(trees, device)?;
            if users.is_empty() {
                return Err(StoreError::Missing("device"));
            }
            users.into_iter().try_for_each(|user| unbind(trees, user, device))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::super::{NewToken, NewUser, Role, TokenHash, TokenKind};
    use super::*;
    use crate::store::Authority;

    async fn user(store: &Store, name: &str) -> UserId {
        let new = NewUser { username: name.into(), role: Role::User, password_hash: "x".into() };
        store.create_user(new, Authority::System).await.unwrap().id
    }

    fn new(serial: Option<&str>, primary: bool) -> NewDevice {
        NewDevice { name: "d".into(), serial: serial.map(Into::into), model: None, primary }
    }

    #[tokio::test]
    async fn one_primary_a_user_and_serials_are_unique() {
        let (_dir, store) = fresh();
        let ana = user(&store, "ana").await;
        let first = store.create_device(new(Some("s1"), true), ana, 0).await.unwrap();
        let second = store.create_device(new(None, true), ana, 0).await.unwrap();
        assert_eq!(store.primary_device(ana).unwrap(), Some(second.id));
        assert!(matches!(store.create_device(new(Some("s1"), false), ana, 0).await, Err(StoreError::Taken("serial"))));
        assert!(matches!(store.create_device(new(None, false), ana, 2).await, Err(StoreError::Full("devices"))));
        let rename = DeviceChange { serial: Some(Some("s2".into())), ..DeviceChange::default() };
        store.change_device(first.id, rename).await.unwrap();
        store.create_device(new(Some("s1"), false), ana, 0).await.unwrap();
        store.set_primary(ana, second.id, false).await.unwrap();
        assert_eq!(store.primary_device(ana).unwrap(), None);
        assert_eq!(store.devices(Some(ana), DeviceId(1), 10).unwrap().items.len(), 2);
    }

    #[tokio::test]
    async fn shared_devices_leave_with_their_last_user() {
        let (_dir, store) = fresh();
        let (ana, bob) = (user(&store, "ana").await, user(&store, "bob").await);
        let device = store.create_device(new(Some("s"), true), ana, 0).await.unwrap().id;
        let both = DeviceChange { users: Some(vec![ana, bob]), ..DeviceChange::default() };
        store.change_device(device, both).await.unwrap();
        assert_eq!(store.device_users(device).unwrap(), [ana, bob]);
        let hash = TokenHash::of("t");
        let token = NewToken { device_id: Some(device), kind: TokenKind::Device, ..NewToken::login(ana, hash) };
        store.create_token(token, 9).await.unwrap();
        store.unbind_device(ana, device).await.unwrap();
        assert_eq!(store.token(&hash).unwrap(), None, "the token that ana gave it is gone");
        assert_eq!(store.primary_device(ana).unwrap(), None);
        assert!(!store.owns(ana, device).unwrap() && store.owns(bob, device).unwrap());
        store.delete_user(bob).await.unwrap();
        assert_eq!(store.device(device).unwrap(), None);
        store.create_device(new(Some("s"), false), ana, 0).await.unwrap();
    }
}
