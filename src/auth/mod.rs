//! Authentication: from a credential to a caller. Tokens, passwords, tickets, cookies, pairing codes.
//!
//! # Invariants
//! - A secret is known only to its holder: stored are SHA-256 (tokens, tickets, links, device codes) and argon2id (passwords), PBKDF2 for
//!   accounts that came from Django, until they log in.
//! - No decision is cached between requests: account, role and token are looked up each time, so that a change takes effect at once.
//! - An unknown name costs the same time as a wrong password.
//! - Nothing here writes accounts or tokens; only the times of last use.

pub mod cookies;
pub mod credential;
mod elevations;
mod error;
mod last_seen;
pub mod pairings;
pub mod password;
mod pbkdf2;
mod secret;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use self::throttle::Attempt;
use crate::change::{Changes, OpenPass, RedeemPass, Rehash, Seen};
use crate::config::Limits;
use crate::core::ids::{DeviceId, MessageId, TokenId, UserId};
use crate::core::lifetime::Present;
use crate::core::names::CONSOLE;
use crate::core::time::Timestamp;
use crate::net::client_addr::ClientAddr;
use crate::store::{Authority, Device, Grant, Pass, Role, Store, Token, TokenHash, TokenKind, User};

pub use credential::Credential;
pub use error::{AuthError, PasswordError};
pub use pbkdf2::{NO_PASSWORD, Pbkdf2};
pub use secret::{Secret, random_password};

/// The kinds of callers, in the order of their rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// No credential.
    Anonymous,
    /// A device's own token.
    Device,
    /// A program that sends to anyone.
    Service,
    /// A user.
    User,
    /// An administrator.
    Admin,
    /// The owner of the data directory, at the command line.
    Operator,
}

impl Actor {
    /// All kinds, from the least rights to the most.
    pub const ALL: [Self; 6] = [Self::Anonymous, Self::Device, Self::Service, Self::User, Self::Admin, Self::Operator];

    /// Returns whether this is an administrator or a service, which send for many users: bounds that keep users from each other leave
    /// them room.
    pub const fn is_privileged(self) -> bool {
        match self {
            Self::Operator | Self::Admin | Self::Service => true,
            Self::User | Self::Device | Self::Anonymous => false,
        }
    }
}

/// A caller with a valid credential.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account.
    pub user: Arc<User>,
    /// The credential's record.
    pub token: Arc<Token>,
    /// The credential's hash.
    pub hash: TokenHash,
}

impl Caller {
    /// Returns the owner of the data directory, at the command line: an administrator without an account or a token.
    pub fn operator() -> Self {
        let (now, hash) = (Timestamp::now(), TokenHash::of(""));
        let user = User {
            id: UserId::OPERATOR,
            username: CONSOLE.into(),
            role: Role::Admin,
            disabled: false,
            password_hash: String::new(),
            created_at: now,
            joined: MessageId(0),
        };
        let token = Token {
            id: TokenId(0),
            user_id: user.id,
            device_id: None,
            kind: TokenKind::User,
            scopes: None,
            label: String::new(),
            created_at: now,
            last_used_at: None,
            expires_at: None,
            life: None,
        };
        Self { user: Arc::new(user), token: Arc::new(token), hash }
    }

    /// Returns whether this is the [`operator`](Self::operator).
    pub fn is_operator(&self) -> bool {
        self.user.id == UserId::OPERATOR
    }

    /// Returns the authority for changes to the caller's own data.
    pub fn authority(&self) -> Authority {
        if self.is_operator() { Authority::System } else { Authority::Token(self.hash) }
    }

    /// Returns the authority for changes to another user's data.
    pub fn admin_authority(&self) -> Authority {
        if self.is_operator() { Authority::System } else { Authority::Admin(self.hash) }
    }

    /// Returns the label of a service token, which recipients see beside the name of its user; `None` where it has none.
    pub fn via(&self) -> Option<&str> {
        (self.token.kind == TokenKind::Service && !self.token.label.is_empty()).then_some(self.token.label.as_str())
    }

    /// Returns the kind of this caller.
    pub fn actor(&self) -> Actor {
        if self.is_operator() {
            return Actor::Operator;
        }
        match (self.token.kind, self.user.role) {
            (TokenKind::Device, _) => Actor::Device,
            (TokenKind::Service, _) => Actor::Service,
            (TokenKind::User, Role::User) => Actor::User,
            (TokenKind::User, Role::Admin) => Actor::Admin,
        }
    }
}

/// Returns whether `token` of `user` is accepted at `now`: for as long as neither has expired or been disabled, and, since a service
/// token has an administrator's reach, a service token's owner is one.
pub fn accepts(user: &User, token: &Token, now: &Present) -> bool {
    !user.disabled && !token.expired(now) && (token.kind != TokenKind::Service || user.role == Role::Admin)
}

/// Ends an attempt to log in whose password was right or not; `None` where that was not found out.
///
/// # Errors
/// [`AuthError::Throttled`] where it was one too many.
fn end(attempt: Attempt<'_>, right: Option<bool>) -> Result<(), AuthError> {
    match right {
        Some(true) => attempt.right(),
        Some(false) => attempt.wrong().map_err(AuthError::Throttled)?,
        None => attempt.unchecked(),
    }
    Ok(())
}

/// The name under which the codes of links are counted as log-ins: no user's, since it is empty.
const LINK_ATTEMPTS: &str = "";

/// A state of all rights: while it is the same, no account and no token has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights((u64, u64));

/// The authentication service.
pub struct Auth {
    store: Store,
    changes: Changes,
    passwords: password::Passwords,
    throttle: throttle::LoginThrottle,
    elevations: elevations::Elevations,
    last_seen: last_seen::LastSeen,
}

impl Auth {
    /// Starts the service on top of `store`, with `hashers` threads for passwords.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(store: Store, changes: Changes, limits: &Limits, hashers: usize) -> std::io::Result<Self> {
        let passwords = password::Passwords::start(hashers)?;
        // One that can't be read is of no account.
        store.users(UserId(0)).flatten().for_each(|user| passwords.note(&user.password_hash));
        Ok(Self {
            store,
            changes,
            passwords,
            throttle: throttle::LoginThrottle::new(limits.logins_per_minute),
            elevations: elevations::Elevations::default(),
            last_seen: last_seen::LastSeen::default(),
        })
    }

    /// Applies changed limits.
    pub fn reload(&self, limits: &Limits) {
        self.throttle.set(limits.logins_per_minute);
    }

    /// Returns the caller with the token `secret`.
    ///
    /// # Errors
    /// [`AuthError::Refused`], or when the store fails.
    pub fn authenticate(&self, secret: &str) -> Result<Caller, AuthError> {
        if !secret::plausible(secret) {
            return Err(AuthError::Refused);
        }
        self.caller_of(TokenHash::of(secret)).map(|caller| self.used(caller))
    }

    fn caller_of(&self, hash: TokenHash) -> Result<Caller, AuthError> {
        let now = self.changes.clock().present();
        let token = self.store.token(&hash)?.ok_or(AuthError::Refused)?;
        let user = self.store.user(token.user_id)?.ok_or(AuthError::Refused)?;
        if !accepts(&user, &token, &now) {
            tracing::debug!(token = token.id.0, user = user.id.0, "credential refused");
            return Err(AuthError::Refused);
        }
        Ok(Caller { user, token, hash })
    }

    /// Records that `caller` has just used its token, and is its device, if it has a device's.
    fn used(&self, caller: Caller) -> Caller {
        self.seen(caller.hash, caller.token.device_id, Timestamp::now());
        caller
    }

    /// Returns the present state of all rights.
    pub fn rights(&self) -> Rights {
        Rights(self.store.credentials_version())
    }

    /// Returns whether `caller`, who was authenticated since then, has the same rights still.
    pub fn unchanged(&self, caller: &Caller, since: Rights) -> bool {
        self.rights() == since && !caller.token.expired(&self.changes.clock().present())
    }

    /// Returns the kind of caller that `caller`'s credential stands for by now; `None` where it would be refused.
    pub fn present_actor(&self, caller: &Caller) -> Option<Actor> {
        self.caller_of(caller.hash).ok().map(|present| present.actor())
    }

    /// Returns whether `caller`'s credential would still be accepted.
    pub fn still_valid(&self, caller: &Caller) -> bool {
        self.caller_of(caller.hash).is_ok()
    }

    /// Records that a client with this token, which stands for `device`, was there at `when`.
    pub fn seen(&self, token: TokenHash, device: Option<DeviceId>, when: Timestamp) {
        self.last_seen.note_token(token, when);
        if let Some(device) = device {
            self.last_seen.note_device(device, when);
        }
    }

    /// Returns the time at which a device, with this record, was last there.
    pub fn device_seen(&self, device: &Device) -> Option<Timestamp> {
        self.last_seen.device(device.id).or(device.last_seen)
    }

    /// Returns the time at which a token, with this hash and record, was last used.
    pub fn token_used(&self, hash: &TokenHash, token: &Token) -> Option<Timestamp> {
        self.last_seen.token(hash).or(token.last_used_at)
    }

    /// Returns the caller with that credential. A ticket stays good until it is [used up](Self::use_up).
    ///
    /// # Errors
    /// [`AuthError::Refused`], or when the store fails.
    pub fn identify(&self, credential: &Credential) -> Result<Caller, AuthError> {
        match credential {
            Credential::Token(secret) => self.authenticate(secret),
            Credential::Ticket(secret) => {
                let (secret, now) = (TokenHash::of(secret), self.changes.clock().present().lived);
                let token = self.changes.memory().passes.ticket(&secret, now).ok_or(AuthError::Refused)?;
                self.caller_of(token).map(|caller| self.used(caller))
            }
        }
    }

    /// Uses up a credential that is good once; `false` where another has done so meanwhile.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn use_up(&self, credential: &Credential) -> Result<bool, AuthError> {
        match credential {
            Credential::Token(_) => Ok(true),
            Credential::Ticket(secret) => {
                let redeemed = self.changes.run_soon(RedeemPass { secret: TokenHash::of(secret) }).await?;
                Ok(redeemed.is_some_and(|pass| matches!(pass.grant, Grant::Token(_))))
            }
        }
    }

    /// Returns the user with that name and password; counts as a log-in attempt.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::Throttled`], [`AuthError::Busy`], or when the store fails.
    pub async fn login(&self, username: &str, password: &str, from: ClientAddr) -> Result<User, AuthError> {
        let attempt = self.throttle.begin(from, username).map_err(AuthError::Throttled)?;
        let verified = self.verified(username, password).await;
        match &verified {
            Ok(_) => end(attempt, Some(true))?,
            Err(AuthError::WrongPassword) => end(attempt, Some(false))?,
            Err(_) => end(attempt, None)?,
        }
        verified
    }

    /// Returns the user with that name and password; counts as no attempt.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::Busy`], or when the store fails.
    pub async fn verified(&self, username: &str, password: &str) -> Result<User, AuthError> {
        // Twice where another log-in of the same user has just hashed the password anew.
        for _ in 0..2 {
            let user = self.store.user_by_name(username)?;
            // The right password of a disabled account costs what a wrong one does: its time would tell it.
            let hash = user.as_ref().filter(|user| !user.disabled).map(|user| user.password_hash.clone());
            let right = self.passwords.verify(password, hash).await?;
            let Some(mut user) = user.filter(|user| right && !user.disabled) else { break };
            if self.replace_foreign_hash(&mut user, password).await? {
                return Ok(user);
            }
        }
        Err(AuthError::WrongPassword)
    }

    /// Counts an attempt to register `username` like one to log in.
    ///
    /// # Errors
    /// [`AuthError::Throttled`] when it exceeds the rate limit.
    pub fn throttle(&self, username: &str, from: ClientAddr) -> Result<(), AuthError> {
        self.throttle.count(from, username).map_err(AuthError::Throttled)
    }

    /// Returns whether `password` is `user`'s; counts as a log-in attempt.
    ///
    /// # Errors
    /// [`AuthError::Throttled`], [`AuthError::Busy`].
    pub async fn confirm(&self, user: &User, password: &str, from: ClientAddr) -> Result<bool, AuthError> {
        let attempt = self.throttle.begin(from, &user.username).map_err(AuthError::Throttled)?;
        let right = self.passwords.verify(password, Some(user.password_hash.clone())).await;
        end(attempt, right.as_ref().ok().copied())?;
        right
    }

    /// Elevates the browser session of `caller`, whose user has shown the password again.
    pub fn elevate(&self, caller: &Caller) {
        self.elevations.note(caller.hash);
    }

    /// Returns the time for which the browser session of `caller` is elevated still: `life` after its log-in, or after its user has shown
    /// the password again. `None` where that is over.
    pub fn elevated_for(&self, caller: &Caller, life: Duration) -> Option<Duration> {
        let since_log_in = caller.token.age(&self.changes.clock().present());
        let age = self.elevations.age(&caller.hash).map_or(since_log_in, |age| age.min(since_log_in));
        life.checked_sub(age).filter(|left| !left.is_zero())
    }

    /// Notes that an account with such a password hash has been written.
    pub fn note_hash(&self, hash: &str) {
        self.passwords.note(hash);
    }

    /// Replaces the hash that `user` came with from Django by one of argon2id, now that its password is known. Leaves it as it is where
    /// the threads are busy: the next log-in tries again. Returns `false` where the stored hash is another one by now.
    async fn replace_foreign_hash(&self, user: &mut User, password: &str) -> Result<bool, AuthError> {
        if Pbkdf2::parse(&user.password_hash).is_err() {
            return Ok(true);
        }
        let to = match self.passwords.rehash(password).await {
            Ok(Some(hash)) => hash,
            Ok(None) | Err(AuthError::Busy) => return Ok(true),
            Err(error) => return Err(error),
        };
        let from = std::mem::replace(&mut user.password_hash, to.clone());
        Ok(self.changes.run(Rehash { id: user.id, from, to }).await?)
    }

    /// Looks again for the most iterations of a hash from Django, since each failed log-in costs as many: the one with most may have been
    /// replaced.
    async fn forget_replaced_hashes(&self) {
        let noted = self.passwords.noted();
        if noted == 0 {
            return;
        }
        let store = self.store.clone();
        let most = tokio::task::spawn_blocking(move || {
            let hashes = store.users(UserId(0)).flatten().filter_map(|user| Pbkdf2::parse(&user.password_hash).ok());
            hashes.map(|hash| hash.iterations()).max().unwrap_or(0)
        });
        if let Ok(most) = most.await {
            self.passwords.lower(noted, most);
        }
    }

    /// Returns the stored form of a new password.
    ///
    /// # Errors
    /// [`AuthError::Password`] when it is too short or too long, [`AuthError::Busy`].
    pub async fn hash_password(&self, password: &str) -> Result<String, AuthError> {
        self.passwords.hash(password).await
    }

    /// Issues a ticket that stands for the caller's token once, within [`TICKET_SECONDS`](crate::change::TICKET_SECONDS).
    ///
    /// # Errors
    /// [`AuthError::Busy`] when too many are open, [`AuthError::NoRandom`], or when the store fails.
    pub async fn ticket(&self, caller: &Caller) -> Result<Secret, AuthError> {
        let secret = Secret::ticket().ok_or(AuthError::NoRandom)?;
        let grant = Grant::Token(caller.hash);
        let opened = self.changes.run_soon(OpenPass { secret: secret.hash(), user: caller.user.id, grant }).await?;
        if opened { Ok(secret) } else { Err(AuthError::Busy) }
    }

    /// Issues the code of a one-time link that logs in as `user`, within [`LINK_SECONDS`](crate::change::LINK_SECONDS).
    ///
    /// # Errors
    /// [`AuthError::NoRandom`], or when the store fails.
    pub async fn link(&self, user: &User) -> Result<Secret, AuthError> {
        let code = Secret::link().ok_or(AuthError::NoRandom)?;
        let grant = Grant::LogIn { password_hash: user.password_hash.clone() };
        self.changes.run_soon(OpenPass { secret: code.hash(), user: user.id, grant }).await?;
        Ok(code)
    }

    /// Uses up a one-time link and returns its user; counts as a log-in attempt. `private`: nobody between the client and this server
    /// could read the code.
    ///
    /// # Errors
    /// [`AuthError::WrongLink`], [`AuthError::ExposedLink`], [`AuthError::Throttled`], or when the store fails.
    pub async fn redeem_link(&self, code: &str, private: bool, from: ClientAddr) -> Result<User, AuthError> {
        let attempt = self.throttle.begin(from, LINK_ATTEMPTS).map_err(AuthError::Throttled)?;
        let linked = match self.changes.run_soon(RedeemPass { secret: TokenHash::of(code) }).await {
            Ok(Some(Pass { user, grant: Grant::LogIn { password_hash }, .. })) => Some((user, password_hash)),
            Ok(_) => None,
            Err(error) => {
                end(attempt, None)?;
                return Err(error.into());
            }
        };
        if !private {
            end(attempt, Some(false))?;
            return Err(AuthError::ExposedLink);
        }
        end(attempt, Some(linked.is_some()))?;
        let (user, password_hash) = linked.ok_or(AuthError::WrongLink)?;
        let user = self.store.user(user)?.ok_or(AuthError::WrongLink)?;
        // Who changes a password, or disables an account, ends what was made before.
        let same = !user.disabled && user.password_hash == password_hash;
        if same { Ok(Arc::unwrap_or_clone(user)) } else { Err(AuthError::WrongLink) }
    }

    /// Writes the times of last use since the last call, and removes expired attempts, and sessions that were elevated longer ago than
    /// `elevation`. To be called every minute and before shutdown.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sweep(&self, elevation: Duration) -> Result<(), AuthError> {
        self.throttle.sweep();
        self.elevations.sweep(elevation, |token| matches!(self.store.token(token), Ok(Some(_))));
        self.forget_replaced_hashes().await;
        let (tokens, devices) = self.last_seen.take();
        if tokens.is_empty() && devices.is_empty() {
            return Ok(());
        }
        self.changes.run(Seen { tokens, devices }).await?;
        self.last_seen.written();
        Ok(())
    }
}
