//! Records that come from another system.

use super::{devices, tokens, users};
use crate::core::ids::{MessageId, TokenId};
use crate::core::time::Timestamp;
use crate::store::meta::MetaKey;
use crate::store::records::{
    Device, ImportState, Imported, ImportedDevice, ImportedToken, ImportedUser, Token, TokenKind, User, fold_name,
};
use crate::store::table::WriteSet;
use crate::store::trees::Trees;
use crate::store::{Result, Store, StoreError};

/// The label of the tokens.
const LABEL: &str = "imported";

/// Refuses a record that would take the place of another. One that is there from an import that was cut off is none: nothing else can
/// have its id.
fn is_free(trees: &Trees, row: &Imported) -> Result<()> {
    match row {
        Imported::User(user) if trees.users.contains(&user.id)? => Ok(()),
        Imported::Device(device) if trees.devices.contains(&device.id)? => Ok(()),
        Imported::User(user) => users::name_is_free(trees, &user.username),
        Imported::Device(device) => match &device.serial {
            Some(serial) => devices::serial_is_free(trees, serial, None),
            None => Ok(()),
        },
        Imported::Token(token) => match tokens::get(trees, &token.hash)? {
            Some(there) if there.user_id != token.user => Err(StoreError::Taken("token")),
            _ => Ok(()),
        },
    }
}

/// Adds a record at `now`, unless it is there already: its id was reserved for it, so that nothing else can have it. Returns whether it
/// was added; `joined` is the newest message.
///
/// # Errors
/// [`StoreError::Taken`], [`StoreError::Alike`], [`StoreError::Missing`] user; else when the store fails.
pub fn import(trees: &Trees, row: &Imported, now: Timestamp, joined: MessageId) -> Result<bool> {
    match row {
        Imported::User(user) => add_user(trees, user, now, joined),
        Imported::Device(device) => add_device(trees, device, now),
        Imported::Token(token) => add_token(trees, token, now),
    }
}

fn add_user(trees: &Trees, new: &ImportedUser, now: Timestamp, joined: MessageId) -> Result<bool> {
    if trees.users.contains(&new.id)? {
        return Ok(false);
    }
    users::name_is_free(trees, &new.username)?;
    let ImportedUser { id, username, role, disabled, password_hash, created_at } = new.clone();
    let user = User { id, username, role, disabled, password_hash, created_at: created_at.unwrap_or(now), joined };
    let mut writes = WriteSet::default();
    writes.put(&trees.users, &id, &user)?;
    writes.put(&trees.user_names, &*fold_name(&user.username), &id)?;
    writes.apply()?;
    trees.name_forms.replace(None, Some(&user));
    Ok(true)
}

fn add_device(trees: &Trees, new: &ImportedDevice, now: Timestamp) -> Result<bool> {
    if trees.devices.contains(&new.id)? {
        return Ok(false);
    }
    if let Some(serial) = &new.serial {
        devices::serial_is_free(trees, serial, None)?;
    }
    let ImportedDevice { id, name, serial, model, created_at, users, primary_of } = new.clone();
    // An account may have been deleted since the import began.
    let users = users.into_iter().filter_map(|user| match trees.users.contains(&user) {
        Ok(there) => there.then_some(Ok(user)),
        Err(error) => Some(Err(error)),
    });
    let users = users.collect::<Result<Vec<_>>>()?;
    if users.is_empty() {
        return Err(StoreError::Missing("user"));
    }
    let device = Device {
        id,
        name,
        serial,
        model,
        created_at: created_at.unwrap_or(now),
        last_seen: None,
        max_bytes: None,
        emptied: None,
    };
    let mut writes = WriteSet::default();
    writes.put(&trees.devices, &id, &device)?;
    if let Some(serial) = &device.serial {
        writes.put(&trees.serials, serial.as_str(), &id)?;
    }
    for &user in &users {
        devices::bind(trees, &mut writes, user, id)?;
        // One that the user has chosen here meanwhile stays.
        if primary_of.contains(&user) && !trees.primaries.contains(&user)? {
            writes.put(&trees.primaries, &user, &id)?;
        }
    }
    writes.apply()?;
    trees.serial_forms.replace(None, Some(&device));
    Ok(true)
}

fn add_token(trees: &Trees, new: &ImportedToken, now: Timestamp) -> Result<bool> {
    if let Some(there) = tokens::get(trees, &new.hash)? {
        return if there.user_id == new.user { Ok(false) } else { Err(StoreError::Taken("token")) };
    }
    if !trees.users.contains(&new.user)? {
        return Err(StoreError::Missing("user"));
    }
    let token = Token {
        id: TokenId(trees.meta.next(MetaKey::NextToken)?),
        user_id: new.user,
        device_id: None,
        kind: TokenKind::User,
        scopes: None,
        label: LABEL.into(),
        created_at: new.created_at.unwrap_or(now),
        last_used_at: None,
        expires_at: None,
        life: None,
    };
    let mut writes = WriteSet::default();
    tokens::add(trees, &mut writes, &new.hash, &token)?;
    writes.apply()?;
    Ok(true)
}

impl Store {
    /// Checks that a record from another system would take the place of none.
    ///
    /// # Errors
    /// [`StoreError::Taken`], [`StoreError::Alike`]; else when the store fails.
    pub fn import_is_free(&self, row: &Imported) -> Result<()> {
        is_free(&self.trees, row)
    }

    /// Returns the last import, if there was one.
    ///
    /// # Errors
    /// If the store fails.
    pub fn last_import(&self) -> Result<Option<ImportState>> {
        last_import(&self.trees)
    }

    /// Returns the highest ids that were given to a user and to a device.
    ///
    /// # Errors
    /// If the store fails.
    pub fn given_ids(&self) -> Result<(u64, u64)> {
        let meta = &self.trees.meta;
        Ok((meta.number(MetaKey::NextUser)?, meta.number(MetaKey::NextDevice)?))
    }
}

/// Returns the last import, if there was one.
///
/// # Errors
/// If the store fails.
pub fn last_import(trees: &Trees) -> Result<Option<ImportState>> {
    let text = trees.meta.text(MetaKey::Import)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| StoreError::Damaged { tree: "meta" })).transpose()
}

/// Writes the state of an import.
///
/// # Errors
/// If the store fails.
pub fn note_import(trees: &Trees, state: &ImportState) -> Result<()> {
    let text = serde_json::to_string(state).map_err(|_| StoreError::Damaged { tree: "meta" })?;
    trees.meta.set_text(MetaKey::Import, &text)
}
