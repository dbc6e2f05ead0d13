//! The records of an import with the ids that they get: a function of the file and of the highest ids that were given before.

use sha2::{Digest, Sha256};

use super::found::{Found, Reference, Remark};
use crate::core::hex::hex;
use crate::core::ids::{DeviceId, UserId};
use crate::store::{ImportState, Imported, ImportedDevice, ImportedToken, ImportedUser, Role, TokenHash};

/// The highest key that stays the same here: JavaScript is exact far beyond it.
const MAX_KEPT_ID: u64 = 1 << 48;
/// The most users of a device.
const MAX_DEVICE_USERS: usize = 100;

/// A record whose key could not stay.
#[derive(Debug, serde::Serialize)]
pub(super) struct Renumbered {
    /// `user` or `device`.
    pub(super) what: &'static str,
    /// Its name.
    pub(super) name: String,
    /// Its key in the file, where it is a number.
    pub(super) was: Option<u64>,
    /// Its id here.
    pub(super) id: u64,
}

/// An import, ready to be sent.
#[derive(Debug)]
pub(super) struct Plan {
    /// The state, with no record done.
    pub(super) state: ImportState,
    /// The records, in the order in which they are added.
    pub(super) rows: Vec<Imported>,
    pub(super) last_user: u64,
    pub(super) last_device: u64,
    pub(super) users: usize,
    pub(super) devices: usize,
    pub(super) tokens: usize,
    /// An enabled administrator is among the users.
    pub(super) has_admin: bool,
    pub(super) renumbered: Vec<Renumbered>,
    /// What was not taken, or not as it is in the file, in the order of the file.
    pub(super) remarks: Vec<Remark>,
}

/// Returns the ids of records with these keys: the keys where they are numbers that were never given, else numbers beyond all of them.
fn numbers(keys: impl Iterator<Item = Option<u64>> + Clone, before: u64) -> Vec<u64> {
    let kept = |key: Option<u64>| key.filter(|&key| key > before && key <= MAX_KEPT_ID);
    let mut last = keys.clone().filter_map(kept).max().unwrap_or(before);
    let mut next = || {
        last += 1;
        last
    };
    keys.map(|key| kept(key).unwrap_or_else(&mut next)).collect()
}

impl Plan {
    /// Plans the import of what a file holds, where these are the highest ids that were given to users and devices.
    pub(super) fn new(found: &Found, users_before: u64, devices_before: u64) -> Self {
        let user_ids = numbers(found.users.iter().map(|user| user.number), users_before);
        let mut remarks = found.remarks.clone();
        let mut renumbered = Vec::new();
        let mut rows = users(found, &user_ids, &mut renumbered);
        let users = rows.len();
        let devices = devices(found, &user_ids, devices_before, &mut remarks, &mut renumbered);
        let last_device = devices.iter().map(|device| device.id.0).max().unwrap_or(devices_before);
        rows.extend(devices.into_iter().map(Imported::Device));
        let devices = rows.len() - users;
        rows.extend(tokens(found, &user_ids, &mut remarks));
        let tokens = rows.len() - users - devices;
        remarks.sort_by_key(|remark| remark.row);
        let source = digest(&rows, users_before, devices_before);
        Self {
            state: ImportState { source, users_before, devices_before, rows: rows.len() as u64, done: 0 },
            rows,
            last_user: user_ids.iter().copied().max().unwrap_or(users_before),
            last_device,
            users,
            devices,
            tokens,
            has_admin: found.users.iter().any(|user| user.role == Role::Admin && !user.disabled),
            renumbered,
            remarks,
        }
    }
}

/// Returns the number of an import: that of its records.
fn digest(rows: &[Imported], users_before: u64, devices_before: u64) -> TokenHash {
    let mut sum = Sha256::new();
    for row in rows {
        sum.update(serde_json::to_vec(row).unwrap_or_default());
        sum.update(b"\n");
    }
    TokenHash::of(&format!("{users_before} {devices_before} {}", hex(&sum.finalize())))
}

fn users(found: &Found, ids: &[u64], renumbered: &mut Vec<Renumbered>) -> Vec<Imported> {
    let users = found.users.iter().zip(ids).map(|(user, &id)| {
        if user.number != Some(id) {
            renumbered.push(Renumbered { what: "user", name: user.username.clone(), was: user.number, id });
        }
        Imported::User(ImportedUser {
            id: UserId(id),
            username: user.username.clone(),
            role: user.role,
            disabled: user.disabled,
            password_hash: user.password_hash.clone(),
            created_at: user.created_at,
        })
    });
    users.collect()
}

/// Returns the place of the account that a foreign key names; the error is the reason that there is none.
fn user_of(found: &Found, reference: &Reference) -> Result<usize, &'static str> {
    match found.user_places.get(reference) {
        Some(Some(at)) => Ok(*at),
        Some(None) => Err("its user was not taken"),
        None => Err("its user is not in the file"),
    }
}

fn devices(
    found: &Found,
    user_ids: &[u64],
    before: u64,
    remarks: &mut Vec<Remark>,
    renumbered: &mut Vec<Renumbered>,
) -> Vec<ImportedDevice> {
    let mut users: Vec<Vec<UserId>> = vec![Vec::new(); found.devices.len()];
    let mut primaries = std::collections::BTreeMap::new();
    for binding in &found.bindings {
        let user = match user_of(found, &binding.user) {
            Ok(at) => UserId(user_ids[at]),
            Err(reason) => {
                remarks.push(binding.origin.remark(reason));
                continue;
            }
        };
        let Some(&device) = found.device_places.get(&binding.device) else {
            remarks.push(binding.origin.remark("its device is not in the file"));
            continue;
        };
        if users[device].contains(&user) {
            remarks.push(binding.origin.remark("the user has the device by an earlier record"));
        } else if users[device].len() == MAX_DEVICE_USERS {
            remarks.push(binding.origin.remark(format!("a device has at most {MAX_DEVICE_USERS} users")));
            continue;
        } else {
            users[device].push(user);
        }
        // The original system takes the first one, too.
        if binding.primary && *primaries.entry(user).or_insert(device) != device {
            remarks.push(binding.origin.remark("the user has another primary device by an earlier record"));
        }
    }
    let bound: Vec<usize> = (0..users.len()).filter(|&at| !users[at].is_empty()).collect();
    for at in (0..users.len()).filter(|&at| users[at].is_empty()) {
        remarks.push(found.devices[at].origin.remark("no user that was taken has the device"));
    }
    let ids = numbers(bound.iter().map(|&at| found.devices[at].number), before);
    let made = bound.into_iter().zip(ids).map(|(at, id)| {
        let device = &found.devices[at];
        if device.number != Some(id) {
            renumbered.push(Renumbered { what: "device", name: device.name.clone(), was: device.number, id });
        }
        let users = std::mem::take(&mut users[at]);
        ImportedDevice {
            id: DeviceId(id),
            name: device.name.clone(),
            serial: device.serial.clone(),
            model: device.model.clone(),
            created_at: device.created_at,
            primary_of: users.iter().copied().filter(|user| primaries.get(user) == Some(&at)).collect(),
            users,
        }
    });
    made.collect()
}

fn tokens(found: &Found, user_ids: &[u64], remarks: &mut Vec<Remark>) -> Vec<Imported> {
    let tokens = found.tokens.iter().filter_map(|token| match user_of(found, &token.user) {
        Ok(at) => {
            let (hash, user, created_at) = (token.hash, UserId(user_ids[at]), token.created_at);
            Some(Imported::Token(ImportedToken { hash, user, created_at }))
        }
        Err(reason) => {
            remarks.push(token.origin.remark(reason));
            None
        }
    });
    tokens.collect()
}
