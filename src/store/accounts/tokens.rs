//! Credentials.

use std::ops::Bound;
use std::sync::Arc;

use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::lifetime::{Life, Present};
use crate::store::meta::MetaKey;
use crate::store::records::{NewToken, Token, TokenHash, TokenKind};
use crate::store::table::WriteSet;
use crate::store::trees::Trees;
use crate::store::{Result, Store, StoreError};

/// Returns the token with that hash.
pub(super) fn get(trees: &Trees, hash: &TokenHash) -> Result<Option<Token>> {
    trees.tokens.get(hash)
}

/// Returns all tokens of `user`, in id order, with their hashes.
pub(super) fn of_user(trees: &Trees, user: UserId) -> Result<Vec<(TokenHash, Token)>> {
    let mut found = Vec::new();
    for hash in trees.user_tokens.values_of(&user) {
        let hash = hash?;
        if let Some(token) = get(trees, &hash)? {
            found.push((hash, token));
        }
    }
    Ok(found)
}

/// Adds the removal of a token to `writes`.
pub(super) fn remove<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, hash: &TokenHash, token: &Token) {
    writes.remove(&trees.tokens, hash);
    writes.remove(&trees.user_tokens, &(token.user_id, token.id));
    writes.remove(&trees.token_ids, &token.id);
}

/// Adds a token to `writes`.
pub(super) fn add<'a>(trees: &'a Trees, writes: &mut WriteSet<'a>, hash: &TokenHash, token: &Token) -> Result<()> {
    writes.put(&trees.tokens, hash, token)?;
    writes.put(&trees.user_tokens, &(token.user_id, token.id), hash)?;
    writes.put(&trees.token_ids, &token.id, hash)
}

/// Frees a place among `new`'s user's tokens where the limit asks for it; returns the token that was deleted.
fn make_room(trees: &Trees, new: &NewToken, limit: usize, now: &Present) -> Result<Option<TokenId>> {
    let owned = of_user(trees, new.user_id)?;
    if owned.len() < limit {
        return Ok(None);
    }
    // An expired one is no loss, whatever its kind.
    let idle = owned.iter().find(|(_, t)| t.expired(now)).or_else(|| {
        let log_ins = owned.iter().filter(|(_, t)| new.make_room && t.kind == TokenKind::User);
        log_ins.min_by_key(|(_, t)| t.last_used_at.unwrap_or(t.created_at))
    });
    match idle {
        Some((hash, token)) => {
            let mut writes = WriteSet::default();
            remove(trees, &mut writes, hash, token);
            writes.apply()?;
            Ok(Some(token.id))
        }
        // All are devices' and services': a user who can't log in could never delete one. One log-in more, no further.
        None if new.make_room => Ok(None),
        None => Err(StoreError::Full("tokens")),
    }
}

/// Adds a token at `now` where its user has fewer than `limit`; also returns the token that was deleted for it.
///
/// # Errors
/// [`StoreError::Full`], [`StoreError::Missing`] when the user or the device is gone; else when the store fails.
pub fn create(trees: &Trees, new: NewToken, limit: usize, now: &Present) -> Result<(Token, Option<TokenId>)> {
    // The user may have been deleted while the password was being checked.
    if !trees.users.contains(&new.user_id)? {
        return Err(StoreError::Missing("user"));
    }
    if let Some(device) = new.device_id
        && !trees.user_devices.contains(&(new.user_id, device))?
    {
        return Err(StoreError::Missing("device"));
    }
    let retired = make_room(trees, &new, limit, now)?;
    let token = Token {
        id: TokenId(trees.meta.next(MetaKey::NextToken)?),
        user_id: new.user_id,
        device_id: new.device_id,
        kind: new.kind,
        scopes: new.scopes,
        label: new.label,
        created_at: now.wall,
        last_used_at: None,
        expires_at: new.life_seconds.map(|seconds| now.wall.plus_seconds(seconds)),
        life: new.life_seconds.map(|seconds| Life { born: now.lived, millis: seconds.saturating_mul(1000) }),
    };
    let mut writes = WriteSet::default();
    add(trees, &mut writes, &new.hash, &token)?;
    writes.apply()?;
    Ok((token, retired))
}

/// Deletes the tokens that `user` has for `device`.
///
/// # Errors
/// If the store fails.
pub fn revoke_of_device(trees: &Trees, user: UserId, device: DeviceId) -> Result<()> {
    let mut writes = WriteSet::default();
    for (hash, token) in of_user(trees, user)?.iter().filter(|(_, token)| token.device_id == Some(device)) {
        remove(trees, &mut writes, hash, token);
    }
    writes.apply()
}

/// Deletes a token of `user`.
///
/// # Errors
/// [`StoreError::Missing`] when the user has no such token; else when the store fails.
pub fn delete(trees: &Trees, user: UserId, id: TokenId) -> Result<()> {
    let hash = trees.user_tokens.get(&(user, id))?.ok_or(StoreError::Missing("token"))?;
    let token = get(trees, &hash)?.ok_or(StoreError::Missing("token"))?;
    let mut writes = WriteSet::default();
    remove(trees, &mut writes, &hash, &token);
    writes.apply()
}

impl Store {
    /// Returns the token with that hash, expired or not.
    ///
    /// # Errors
    /// If the store fails.
    pub fn token(&self, hash: &TokenHash) -> Result<Option<Arc<Token>>> {
        self.trees.cached_tokens.get(&self.trees.tokens, hash)
    }

    /// Returns the version of the accounts and of the tokens, which grows with each change to one of them.
    pub fn credentials_version(&self) -> (u64, u64) {
        (self.trees.users.version(), self.trees.tokens.version())
    }

    /// Returns the token `id` of any user.
    ///
    /// # Errors
    /// If the store fails.
    pub fn token_by_id(&self, id: TokenId) -> Result<Option<Token>> {
        self.trees.token_ids.get(&id)?.map_or(Ok(None), |hash| get(&self.trees, &hash))
    }

    /// Returns the tokens of `user` with an id above `after`, in the order of their ids.
    pub fn tokens(&self, user: UserId, after: TokenId) -> impl Iterator<Item = Result<Token>> + '_ {
        self.hashed_tokens(user, after).map(|entry| entry.map(|(_, token)| token))
    }

    /// Returns the same tokens, with their hashes.
    pub fn hashed_tokens(&self, user: UserId, after: TokenId) -> impl Iterator<Item = Result<(TokenHash, Token)>> + '_ {
        let above = (Bound::Excluded((user, after)), Bound::Included((user, TokenId(u64::MAX))));
        let owned = self.trees.user_tokens.range(above);
        // A token may be deleted between the two looks.
        let with_hash = |hash| Ok(get(&self.trees, &hash)?.map(|token| (hash, token)));
        owned.filter_map(move |entry| entry.and_then(|(_, hash)| with_hash(hash)).transpose())
    }

    /// Returns whether `device` has a token of its own that has not expired, from any of its users.
    ///
    /// # Errors
    /// If the store fails.
    pub fn has_own_token(&self, device: DeviceId, now: &Present) -> Result<bool> {
        for user in self.device_users(device)? {
            let owned = of_user(&self.trees, user)?;
            if owned.iter().any(|(_, token)| token.device_id == Some(device) && !token.expired(now)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
