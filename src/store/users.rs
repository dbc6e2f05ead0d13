//! Accounts.

use serde::{Deserialize, Serialize};
use sled::Transactional;

use super::catalogue::{Trees, TxError, committed, decode, encode, number, second, user_device};
use super::tokens::Authority;
use super::tokens::{TokenKind, owned_tokens};
use super::{Log, Page, Result, Store, StoreError, Token, TokenHash, devices};
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::time::Timestamp;

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// One's own things.
    User,
}

impl Role {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// From 1.
    pub id: UserId,
    /// Unique without regard to case; kept as written.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// Whether its credentials are refused.
    pub disabled: bool,
    /// argon2id, as a PHC string.
    pub password_hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The newest message when it was made: earlier broadcasts are not for it.
    #[serde(default = "no_message")]
    pub joined: MessageId,
}

const fn no_message() -> MessageId {
    MessageId(0)
}

/// What a new account is made from.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Checked by the caller: 1 to 150 characters, no control characters.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// argon2id, as a PHC string.
    pub password_hash: String,
}

/// What to change; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Refuse or accept its credentials.
    pub disabled: Option<bool>,
    /// What it may do.
    pub role: Option<Role>,
    /// A new password; it also ends every token that a log-in with the old one gave.
    pub password_hash: Option<String>,
}

/// The key under which a name is unique.
pub(super) fn name_key(username: &str) -> Vec<u8> {
    fold_name(username).into_bytes()
}

/// A name without case, letter by letter: the whole word's lower case would tell ΟΔΟΣ from οδοσ, by its last letter.
pub fn fold_name(username: &str) -> String {
    username.chars().flat_map(char::to_lowercase).collect()
}

pub(super) fn get(trees: &Trees, id: UserId) -> Result<Option<User>> {
    trees.users.get(id.to_key())?.map(|bytes| decode(&bytes, "users")).transpose()
}

fn by_name(trees: &Trees, username: &str) -> Result<Option<User>> {
    match trees.user_names.get(name_key(username))? {
        Some(id) => get(trees, UserId(number(&id, "user_names")?)),
        None => Ok(None),
    }
}

/// Refuses what would leave no enabled administrator once `leaving` is gone.
fn keep_an_admin(trees: &Trees, leaving: UserId) -> Result<()> {
    for entry in trees.users.iter().values() {
        let user: User = decode(&entry?, "users")?;
        if user.role == Role::Admin && !user.disabled && user.id != leaving {
            return Ok(());
        }
    }
    Err(StoreError::LastAdmin)
}

fn create(trees: &Trees, new: &NewUser) -> Result<User> {
    if by_name(trees, &new.username)?.is_some() {
        return Err(StoreError::Taken("username"));
    }
    let user = User {
        id: UserId(trees.next("next_user")?),
        username: new.username.clone(),
        role: new.role,
        disabled: false,
        password_hash: new.password_hash.clone(),
        created_at: Timestamp::now(),
        joined: Log(trees).newest()?,
    };
    let (record, name) = (encode(&user)?, name_key(&new.username));
    committed((&trees.users, &trees.user_names).transaction(|(users, names)| {
        users.insert(&user.id.to_key(), record.clone())?;
        names.insert(name.clone(), &user.id.to_key())?;
        Ok::<(), TxError>(())
    }))?;
    Ok(user)
}

fn change(trees: &Trees, id: UserId, change: UserChange) -> Result<User> {
    let mut user = get(trees, id)?.ok_or(StoreError::Missing("user"))?;
    let was_admin = user.role == Role::Admin && !user.disabled;
    user.role = change.role.unwrap_or(user.role);
    user.disabled = change.disabled.unwrap_or(user.disabled);
    if was_admin && (user.disabled || user.role != Role::Admin) {
        keep_an_admin(trees, id)?;
    }
    let mut ended: Vec<(TokenHash, Token)> = Vec::new();
    if let Some(hash) = change.password_hash {
        user.password_hash = hash;
        ended = owned_tokens(trees, id)?;
        ended.retain(|(_, token)| token.kind == TokenKind::User);
    }
    let record = encode(&user)?;
    let all = (&trees.users, &trees.tokens, &trees.user_tokens, &trees.token_ids);
    committed(all.transaction(|(users, tokens, owned, ids)| {
        users.insert(&id.to_key(), record.clone())?;
        for (hash, token) in &ended {
            tokens.remove(hash.as_bytes())?;
            owned.remove(&token.owner_key())?;
            ids.remove(&token.id.to_key())?;
        }
        Ok::<(), TxError>(())
    }))?;
    Ok(user)
}

fn delete(trees: &Trees, id: UserId) -> Result<()> {
    let user = get(trees, id)?.ok_or(StoreError::Missing("user"))?;
    if user.role == Role::Admin && !user.disabled {
        keep_an_admin(trees, id)?;
    }
    // Devices first: each unbinding stands on its own, so a crash in between leaves a user with fewer devices, no more.
    for key in trees.user_devices.scan_prefix(id.to_key()).keys() {
        let device = second(&key?).ok_or(StoreError::Damaged { tree: "user_devices" })?;
        devices::unbind(trees, id, DeviceId(device))?;
    }
    let (ended, name) = (owned_tokens(trees, id)?, name_key(&user.username));
    let all = (&trees.users, &trees.user_names, &trees.tokens, &trees.user_tokens, &trees.token_ids);
    committed(all.transaction(|(users, names, tokens, owned, ids)| {
        for (hash, token) in &ended {
            tokens.remove(hash.as_bytes())?;
            owned.remove(&token.owner_key())?;
            ids.remove(&token.id.to_key())?;
        }
        names.remove(name.clone())?;
        users.remove(&id.to_key())?;
        Ok::<(), TxError>(())
    }))
}

impl Store {
    /// Whether there is no account yet: the first start.
    ///
    /// # Errors
    /// When the store fails.
    pub fn is_new(&self) -> Result<bool> {
        Ok(self.trees.users.iter().keys().next().transpose()?.is_none())
    }

    /// The account `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn user(&self, id: UserId) -> Result<Option<User>> {
        get(&self.trees, id)
    }

    /// The account of that name, in any case.
    ///
    /// # Errors
    /// When the store fails.
    pub fn user_by_name(&self, username: &str) -> Result<Option<User>> {
        by_name(&self.trees, username)
    }

    /// Up to `limit` accounts with an id above `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn users(&self, after: UserId, limit: usize) -> Result<Page<User>> {
        let from = UserId(after.0.saturating_add(1)).to_key();
        Page::take(self.trees.users.range(from..).values().map(|v| decode(&v?, "users")), limit)
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name exists; else when the store fails.
    pub async fn create_user(&self, new: NewUser, because: Authority) -> Result<User> {
        self.write(move |trees| {
            because.check(trees, None)?;
            create(trees, &new)
        })
        .await
    }

    /// Changes an account and returns it as it is now.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`], [`StoreError::Revoked`]; else when the store fails.
    pub async fn change_user(&self, id: UserId, what: UserChange, because: Authority) -> Result<User> {
        self.write(move |trees| {
            because.check(trees, Some(id))?;
            change(trees, id, what)
        })
        .await
    }

    /// Removes an account with its tokens and bindings; devices that nobody else has go with it.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`]; else when the store fails.
    pub async fn delete_user(&self, id: UserId) -> Result<()> {
        self.write(move |trees| delete(trees, id)).await
    }

    /// Whether `device` is bound to `user`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn owns(&self, user: UserId, device: DeviceId) -> Result<bool> {
        Ok(self.trees.user_devices.contains_key(user_device(user, device))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::super::{NewDevice, NewToken};
    use super::*;

    fn named(username: &str, role: Role) -> NewUser {
        NewUser { username: username.into(), role, password_hash: "x".into() }
    }

    #[tokio::test]
    async fn names_are_unique_without_case_and_free_again_after_removal() {
        let (_dir, store) = fresh();
        assert!(store.is_new().unwrap());
        let root = store.create_user(named("root", Role::Admin), Authority::System).await.unwrap();
        let ana = store.create_user(named("Ana", Role::User), Authority::System).await.unwrap();
        assert_eq!((root.id, ana.id), (UserId(1), UserId(2)));
        assert!(matches!(
            store.create_user(named("aNA", Role::User), Authority::System).await,
            Err(StoreError::Taken("username"))
        ));
        assert_eq!(store.user_by_name("ANA").unwrap().unwrap(), ana);
        store.delete_user(ana.id).await.unwrap();
        assert_eq!(store.user_by_name("ana").unwrap(), None);
        assert_eq!(
            store.create_user(named("ana", Role::User), Authority::System).await.unwrap().id,
            UserId(3),
            "ids are not used again"
        );
        assert!(matches!(store.delete_user(ana.id).await, Err(StoreError::Missing("user"))));
    }

    #[tokio::test]
    async fn the_last_administrator_stays() {
        let (_dir, store) = fresh();
        let root = store.create_user(named("root", Role::Admin), Authority::System).await.unwrap();
        let demote = UserChange { role: Some(Role::User), ..UserChange::default() };
        let disable = UserChange { disabled: Some(true), ..UserChange::default() };
        assert!(matches!(store.change_user(root.id, demote.clone(), Authority::System).await, Err(StoreError::LastAdmin)));
        assert!(matches!(store.change_user(root.id, disable.clone(), Authority::System).await, Err(StoreError::LastAdmin)));
        assert!(matches!(store.delete_user(root.id).await, Err(StoreError::LastAdmin)));
        let second = store.create_user(named("second", Role::Admin), Authority::System).await.unwrap();
        store.change_user(root.id, disable, Authority::System).await.unwrap();
        assert!(
            matches!(store.change_user(second.id, demote, Authority::System).await, Err(StoreError::LastAdmin)),
            "a disabled one does not count"
        );
    }

    #[tokio::test]
    async fn pages_walk_the_whole_list() {
        let (_dir, store) = fresh();
        for n in 0..5 {
            store.create_user(named(&format!("u{n}"), Role::User), Authority::System).await.unwrap();
        }
        let first = store.users(UserId(0), 2).unwrap();
        assert_eq!((first.items.len(), first.more), (2, true));
        let rest = store.users(first.items[1].id, 3).unwrap();
        assert_eq!((rest.items.len(), rest.more), (3, false));
        assert!(store.users(UserId(u64::MAX), 3).unwrap().items.is_empty());
    }

    #[tokio::test]
    async fn a_new_password_ends_log_ins_but_not_devices() {
        let (_dir, store) = fresh();
        let user = store.create_user(named("u", Role::User), Authority::System).await.unwrap();
        let device = store.create_device(NewDevice { name: "d".into(), ..NewDevice::default() }, user.id, 9).await.unwrap();
        let login = TokenHash::of("a");
        store.create_token(NewToken::login(user.id, login), 9).await.unwrap();
        let bound =
            NewToken { device_id: Some(device.id), kind: TokenKind::Device, ..NewToken::login(user.id, TokenHash::of("b")) };
        store.create_token(bound, 9).await.unwrap();
        store
            .change_user(user.id, UserChange { password_hash: Some("y".into()), ..UserChange::default() }, Authority::System)
            .await
            .unwrap();
        assert_eq!(store.token(&login).unwrap(), None);
        assert!(store.token(&TokenHash::of("b")).unwrap().is_some());
        assert_eq!(store.user(user.id).unwrap().unwrap().password_hash, "y");
    }
}
