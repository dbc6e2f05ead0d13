//! Credentials. The secret itself is never here, only its SHA-256.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sled::Transactional;

use super::catalogue::{Trees, TxError, committed, decode, encode, user_token};
use super::{Page, Result, Role, Store, StoreError};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::time::Timestamp;

/// SHA-256 of a secret. The secret has 256 random bits, so one round without salt is enough, and looking it up by its hash
/// tells an attacker's clock nothing about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `secret`.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Acts as its user.
    User,
    /// One device; reaches only its own WebSocket.
    Device,
    /// A program that sends to anyone, and does nothing else.
    Service,
}

/// A credential's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// From 1.
    pub id: TokenId,
    /// Whose it is.
    pub user_id: UserId,
    /// Which device it is for (kind `device`).
    pub device_id: Option<DeviceId>,
    /// What it is for.
    pub kind: TokenKind,
    /// Chosen by the owner.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last seen, to the minute or so.
    pub last_used_at: Option<Timestamp>,
    /// Refused from then on.
    pub expires_at: Option<Timestamp>,
}

impl Token {
    /// Whether it is refused by its age.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    pub(super) fn owner_key(&self) -> [u8; 16] {
        user_token(self.user_id, self.id)
    }
}

/// By what right something is written: looked at again where it is written, since what gave the right may have been taken away
/// while the request waited for a password, a body, or its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The asking token: it must still be there, and its user enabled.
    Token(TokenHash),
    /// An administrator's token: its user must still be one, too.
    Admin(TokenHash),
    /// A password that hashes to this: it must be this user's still.
    Password(String),
    /// The program itself says so.
    System,
}

impl Authority {
    /// Whether it still holds for what concerns `user`.
    pub(super) fn check(&self, trees: &Trees, user: Option<UserId>) -> Result<()> {
        let holds = match self {
            Self::System => true,
            Self::Password(hash) => match user {
                Some(id) => super::users::get(trees, id)?.is_some_and(|u| !u.disabled && u.password_hash == *hash),
                None => false,
            },
            Self::Token(hash) | Self::Admin(hash) => match get(trees, hash.as_bytes())? {
                Some(token) => super::users::get(trees, token.user_id)?
                    .is_some_and(|u| !u.disabled && (matches!(self, Self::Token(_)) || u.role == Role::Admin)),
                None => false,
            },
        };
        if holds { Ok(()) } else { Err(StoreError::Revoked) }
    }
}

/// What a new token is made from.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose it is.
    pub user_id: UserId,
    /// Which device it is for.
    pub device_id: Option<DeviceId>,
    /// What it is for.
    pub kind: TokenKind,
    /// Chosen by the owner.
    pub label: String,
    /// Refused from then on.
    pub expires_at: Option<Timestamp>,
    /// Of the secret.
    pub hash: TokenHash,
    /// When the user has as many as the limit: retire the `user` token unused for longest (a log-in), or refuse.
    pub make_room: bool,
    /// By what right.
    pub because: Authority,
}

impl NewToken {
    /// What a log-in in a browser gives: the same, with an end.
    pub fn browser(user_id: UserId, hash: TokenHash, life_seconds: u64) -> Self {
        let expires_at = Some(Timestamp::now().plus_seconds(life_seconds));
        Self { label: "browser".into(), expires_at, ..Self::login(user_id, hash) }
    }

    /// What a log-in gives: acts as the user, no end, retires an old one where there are too many.
    pub fn login(user_id: UserId, hash: TokenHash) -> Self {
        let (device_id, expires_at) = (None, None);
        Self {
            user_id,
            device_id,
            kind: TokenKind::User,
            label: "login".into(),
            expires_at,
            hash,
            make_room: true,
            because: Authority::System,
        }
    }
}

pub(super) fn get(trees: &Trees, hash: &[u8]) -> Result<Option<Token>> {
    trees.tokens.get(hash)?.map(|bytes| decode(&bytes, "tokens")).transpose()
}

/// All tokens of `user`, in id order, with their hashes.
pub(super) fn owned_tokens(trees: &Trees, user: UserId) -> Result<Vec<(TokenHash, Token)>> {
    let mut found = Vec::new();
    for hash in trees.user_tokens.scan_prefix(user.to_key()).values() {
        let hash: [u8; 32] = hash?.as_ref().try_into().map_err(|_| StoreError::Damaged { tree: "user_tokens" })?;
        if let Some(token) = get(trees, &hash)? {
            found.push((TokenHash(hash), token));
        }
    }
    Ok(found)
}

pub(super) fn remove(trees: &Trees, hash: &TokenHash, token: &Token) -> Result<()> {
    committed((&trees.tokens, &trees.user_tokens, &trees.token_ids).transaction(|(tokens, owned, ids)| {
        tokens.remove(hash.as_bytes())?;
        owned.remove(&token.owner_key())?;
        ids.remove(&token.id.to_key())?;
        Ok::<(), TxError>(())
    }))
}

/// Frees a place among `user`'s tokens, if the limit asks for it; returns what was retired.
fn make_room(trees: &Trees, new: &NewToken, limit: usize) -> Result<Option<TokenId>> {
    let owned = owned_tokens(trees, new.user_id)?;
    if owned.len() < limit {
        return Ok(None);
    }
    let now = Timestamp::now();
    // An expired one is nobody's loss, whatever its kind.
    let idle = owned.iter().find(|(_, t)| t.expired(now)).or_else(|| {
        let log_ins = owned.iter().filter(|(_, t)| new.make_room && t.kind == TokenKind::User);
        log_ins.min_by_key(|(_, t)| t.last_used_at.unwrap_or(t.created_at))
    });
    match idle {
        Some((hash, token)) => {
            remove(trees, hash, token)?;
            Ok(Some(token.id))
        }
        // All are devices' and services': who can't log in could never remove one. One log-in more, no further.
        None if new.make_room => Ok(None),
        None => Err(StoreError::Full("tokens")),
    }
}

fn create(trees: &Trees, new: NewToken, limit: usize) -> Result<(Token, Option<TokenId>)> {
    // The user may have gone while the password was being checked.
    if !trees.users.contains_key(new.user_id.to_key())? {
        return Err(StoreError::Missing("user"));
    }
    new.because.check(trees, Some(new.user_id))?;
    if let Some(device) = new.device_id
        && !trees.user_devices.contains_key(super::catalogue::user_device(new.user_id, device))?
    {
        return Err(StoreError::Missing("device"));
    }
    let retired = make_room(trees, &new, limit)?;
    let token = Token {
        id: TokenId(trees.next("next_token")?),
        user_id: new.user_id,
        device_id: new.device_id,
        kind: new.kind,
        label: new.label,
        created_at: Timestamp::now(),
        last_used_at: None,
        expires_at: new.expires_at,
    };
    let record = encode(&token)?;
    committed((&trees.tokens, &trees.user_tokens, &trees.token_ids).transaction(|(tokens, owned, ids)| {
        tokens.insert(new.hash.as_bytes(), record.clone())?;
        owned.insert(&token.owner_key(), new.hash.as_bytes())?;
        ids.insert(&token.id.to_key(), new.hash.as_bytes())?;
        Ok::<(), TxError>(())
    }))?;
    Ok((token, retired))
}

impl Store {
    /// The token with that hash, expired or not.
    ///
    /// # Errors
    /// When the store fails.
    pub fn token(&self, hash: &TokenHash) -> Result<Option<Token>> {
        get(&self.trees, hash.as_bytes())
    }

    /// The token `id`, whosever it is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn token_by_id(&self, id: TokenId) -> Result<Option<Token>> {
        self.trees.token_ids.get(id.to_key())?.map_or(Ok(None), |hash| get(&self.trees, &hash))
    }

    /// Up to `limit` tokens of `user` with an id above `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tokens(&self, user: UserId, after: TokenId, limit: usize) -> Result<Page<Token>> {
        let owned = owned_tokens(&self.trees, user)?;
        Page::take(
            owned.into_iter().map(|(_, t)| Ok(t)).filter(|t: &Result<Token>| t.as_ref().is_ok_and(|t| t.id > after)),
            limit,
        )
    }

    /// Adds a token where `user` has fewer than `limit`; also says which one was retired for it.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room, [`StoreError::Missing`] when the user or the device has gone,
    /// [`StoreError::Revoked`]; else when the store fails.
    pub async fn create_token(&self, new: NewToken, limit: usize) -> Result<(Token, Option<TokenId>)> {
        self.write(move |trees| create(trees, new, limit)).await
    }

    /// Whether `device` has a token of its own, from any of its users.
    ///
    /// # Errors
    /// When the store fails.
    pub fn has_own_token(&self, device: DeviceId) -> Result<bool> {
        let now = Timestamp::now();
        for user in self.device_users(device)? {
            let owned = owned_tokens(&self.trees, user)?;
            if owned.iter().any(|(_, token)| token.device_id == Some(device) && !token.expired(now)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the tokens that `user` has for `device`, and says how many there were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke_device_tokens(&self, user: UserId, device: DeviceId) -> Result<usize> {
        self.write(move |trees| {
            let owned = owned_tokens(trees, user)?.into_iter().filter(|(_, token)| token.device_id == Some(device));
            let mut removed = 0;
            for (hash, token) in owned {
                remove(trees, &hash, &token)?;
                removed += 1;
            }
            Ok(removed)
        })
        .await
    }

    /// Removes a token of `user`.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the user has no such token; else when the store fails.
    pub async fn delete_token(&self, user: UserId, id: TokenId) -> Result<()> {
        self.write(move |trees| {
            let key = user_token(user, id);
            let hash = trees.user_tokens.get(key)?.ok_or(StoreError::Missing("token"))?;
            let hash: [u8; 32] = hash.as_ref().try_into().map_err(|_| StoreError::Damaged { tree: "user_tokens" })?;
            let token = get(trees, &hash)?.ok_or(StoreError::Missing("token"))?;
            remove(trees, &TokenHash(hash), &token)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::super::{NewUser, Role};
    use super::*;

    async fn with_user() -> (tempfile::TempDir, Store, UserId) {
        let (dir, store) = fresh();
        let new = NewUser { username: "u".into(), role: Role::User, password_hash: "x".into() };
        let id = store.create_user(new, Authority::System).await.unwrap().id;
        (dir, store, id)
    }

    #[tokio::test]
    async fn found_by_hash_listed_by_owner_gone_after_removal() {
        let (_dir, store, user) = with_user().await;
        let hash = TokenHash::of("secret");
        let (token, retired) = store.create_token(NewToken::login(user, hash), 10).await.unwrap();
        assert_eq!(retired, None);
        assert_eq!(store.token(&hash).unwrap().unwrap(), token);
        assert_eq!(store.token(&TokenHash::of("Secret")).unwrap(), None);
        assert_eq!(store.tokens(user, TokenId(0), 10).unwrap().items, std::slice::from_ref(&token));
        assert!(matches!(store.delete_token(UserId(9), token.id).await, Err(StoreError::Missing("token"))));
        store.delete_token(user, token.id).await.unwrap();
        assert_eq!(store.token(&hash).unwrap(), None);
        assert!(store.tokens(user, TokenId(0), 10).unwrap().items.is_empty());
    }

    #[tokio::test]
    async fn a_log_in_retires_the_one_unused_for_longest_and_others_are_refused() {
        let (_dir, store, user) = with_user().await;
        let hashes = ["a", "b"].map(TokenHash::of);
        let mut ids = Vec::new();
        for hash in hashes {
            ids.push(store.create_token(NewToken::login(user, hash), 2).await.unwrap().0.id);
        }
        store.note_seen(vec![(hashes[0], Timestamp::now().plus_seconds(60))], vec![]).await.unwrap();
        let explicit = NewToken { make_room: false, ..NewToken::login(user, TokenHash::of("c")) };
        assert!(matches!(store.create_token(explicit, 2).await, Err(StoreError::Full("tokens"))));
        let (_, retired) = store.create_token(NewToken::login(user, TokenHash::of("d")), 2).await.unwrap();
        assert_eq!(retired, Some(ids[1]));
        assert_eq!(store.tokens(user, TokenId(0), 10).unwrap().items.len(), 2);
    }

    #[tokio::test]
    async fn devices_and_services_lock_nobody_out() {
        let (_dir, store, user) = with_user().await;
        let service = NewToken { kind: TokenKind::Service, make_room: false, ..NewToken::login(user, TokenHash::of("s")) };
        store.create_token(service, 1).await.unwrap();
        let (first, retired) = store.create_token(NewToken::login(user, TokenHash::of("a")), 1).await.unwrap();
        assert_eq!(retired, None);
        let (_, retired) = store.create_token(NewToken::login(user, TokenHash::of("b")), 1).await.unwrap();
        assert_eq!(retired, Some(first.id));
    }

    #[tokio::test]
    async fn no_token_for_who_has_gone() {
        let (_dir, store, _) = with_user().await;
        let orphan = NewToken::login(UserId(77), TokenHash::of("x"));
        assert!(matches!(store.create_token(orphan, 5).await, Err(StoreError::Missing("user"))));
    }
}
