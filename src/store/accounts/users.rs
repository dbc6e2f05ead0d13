//! Accounts.

use std::ops::Bound;
use std::sync::Arc;

use super::devices;
use super::tokens;
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::names::{CONSOLE, fold, looks};
use crate::core::time::Timestamp;
use crate::store::forms::login_form;
use crate::store::meta::MetaKey;
use crate::store::records::{NewUser, Role, TokenKind, User, UserChange, fold_name};
use crate::store::table::WriteSet;
use crate::store::trees::Trees;
use crate::store::{Result, Store, StoreError};

/// Returns the account `id`.
pub(super) fn get(trees: &Trees, id: UserId) -> Result<Option<User>> {
    trees.users.get(&id)
}

/// Returns the account of that name in any case, else the only one whose name is the same in any other spelling.
fn by_name(trees: &Trees, username: &str) -> Result<Option<User>> {
    if let Some(id) = trees.user_names.get(&fold_name(username))? {
        return get(trees, id);
    }
    let mut same = trees.name_forms.find(&trees.users, &[login_form(username)])?;
    Ok(if same.len() == 1 { same.pop() } else { None })
}

/// Refuses a new name that is that of another account or of the command line, in another spelling or at a glance.
pub(super) fn name_is_free(trees: &Trees, username: &str) -> Result<()> {
    if trees.user_names.contains(&fold_name(username))? || fold(username) == CONSOLE {
        return Err(StoreError::Taken("username"));
    }
    if !trees.name_forms.find(&trees.users, &[login_form(username)])?.is_empty() {
        return Err(StoreError::Taken("username"));
    }
    let of_new = looks(username);
    let alike = of_new.like(&looks(CONSOLE)) || !trees.name_forms.find(&trees.users, &of_new.foreign)?.is_empty();
    if alike { Err(StoreError::Alike("username")) } else { Ok(()) }
}

/// Refuses a change that would leave no enabled administrator once `leaving` is gone.
fn keep_an_admin(trees: &Trees, leaving: UserId) -> Result<()> {
    for user in trees.users.values() {
        let user = user?;
        if user.role == Role::Admin && !user.disabled && user.id != leaving {
            return Ok(());
        }
    }
    Err(StoreError::LastAdmin)
}

/// Adds an account at `now`; `joined` is the newest message.
///
/// # Errors
/// [`StoreError::Taken`] when the name exists, [`StoreError::Alike`] when it looks like one that does; else when the store fails.
pub fn create(trees: &Trees, new: NewUser, now: Timestamp, joined: MessageId) -> Result<User> {
    name_is_free(trees, &new.username)?;
    let NewUser { username, role, password_hash } = new;
    let id = UserId(trees.meta.next(MetaKey::NextUser)?);
    let user = User { id, username, role, disabled: false, password_hash, created_at: now, joined };
    let mut writes = WriteSet::default();
    writes.put(&trees.users, &id, &user)?;
    writes.put(&trees.user_names, &*fold_name(&user.username), &id)?;
    writes.apply()?;
    trees.name_forms.replace(None, Some(&user));
    Ok(user)
}

/// Changes an account and returns it as it is now.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::LastAdmin`]; else when the store fails.
pub fn change(trees: &Trees, id: UserId, change: UserChange) -> Result<User> {
    let mut user = get(trees, id)?.ok_or(StoreError::Missing("user"))?;
    let was_admin = user.role == Role::Admin && !user.disabled;
    user.role = change.role.unwrap_or(user.role);
    user.disabled = change.disabled.unwrap_or(user.disabled);
    if was_admin && (user.disabled || user.role != Role::Admin) {
        keep_an_admin(trees, id)?;
    }
    let mut writes = WriteSet::default();
    if let Some(hash) = change.password_hash {
        user.password_hash = hash;
        for (hash, token) in tokens::of_user(trees, id)?.iter().filter(|(_, token)| token.kind == TokenKind::User) {
            tokens::remove(trees, &mut writes, hash, token);
        }
    }
    writes.put(&trees.users, &id, &user)?;
    writes.apply()?;
    Ok(user)
}

/// Replaces the hash `from` of an account's password by `to`, a hash of the same password; the tokens stay. Returns `false` where the
/// account has another hash, or is gone.
///
/// # Errors
/// If the store fails.
pub fn replace_hash(trees: &Trees, id: UserId, from: &str, to: String) -> Result<bool> {
    match get(trees, id)? {
        Some(mut user) if user.password_hash == from => {
            user.password_hash = to;
            trees.users.insert(&id, &user)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Deletes an account with its tokens and bindings; devices that nobody else has are deleted with it. Returns the devices that
/// it had.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::LastAdmin`]; else when the store fails.
pub fn delete(trees: &Trees, id: UserId) -> Result<Vec<DeviceId>> {
    let user = get(trees, id)?.ok_or(StoreError::Missing("user"))?;
    if user.role == Role::Admin && !user.disabled {
        keep_an_admin(trees, id)?;
    }
    let mut writes = WriteSet::default();
    let (devices, deleted) = devices::leave_all(trees, &mut writes, id)?;
    for (hash, token) in &tokens::of_user(trees, id)? {
        tokens::remove(trees, &mut writes, hash, token);
    }
    writes.remove(&trees.user_names, &*fold_name(&user.username));
    writes.remove(&trees.users, &id);
    writes.apply()?;
    trees.name_forms.replace(Some(&user), None);
    deleted.iter().for_each(|device| trees.serial_forms.replace(Some(device), None));
    Ok(devices)
}

impl Store {
    /// Returns whether there is no account yet: the first start.
    ///
    /// # Errors
    /// If the store fails.
    pub fn is_new(&self) -> Result<bool> {
        self.trees.users.is_empty()
    }

    /// Returns the account `id`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn user(&self, id: UserId) -> Result<Option<Arc<User>>> {
        self.trees.cached_users.get(&self.trees.users, &id)
    }

    /// Returns the account of that name, in any case; where there is none, the only one whose name is the same in another spelling
    /// (normal form, width, invisible characters).
    ///
    /// # Errors
    /// If the store fails.
    pub fn user_by_name(&self, username: &str) -> Result<Option<User>> {
        by_name(&self.trees, username)
    }

    /// Checks that a new account can have that name.
    ///
    /// # Errors
    /// [`StoreError::Taken`], [`StoreError::Alike`]; else when the store fails.
    pub fn username_is_free(&self, username: &str) -> Result<()> {
        name_is_free(&self.trees, username)
    }

    /// Returns the accounts with an id above `after`, in the order of their ids.
    pub fn users(&self, after: UserId) -> impl Iterator<Item = Result<User>> + '_ {
        let above = (Bound::Excluded(after), Bound::Unbounded);
        self.trees.users.range(above).map(|entry| Ok(entry?.1))
    }

    /// Returns whether `device` is bound to `user`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn owns(&self, user: UserId, device: DeviceId) -> Result<bool> {
        self.trees.user_devices.contains(&(user, device))
    }
}
