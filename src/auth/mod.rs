//! Who is it: credentials, passwords, tickets, and what each kind of caller may do.
//!
//! # Invariants
//! - A secret is known only to its holder: stored are SHA-256 (tokens, tickets) and argon2id (passwords).
//! - Nothing is remembered between requests: account, role and token are read anew each time, so that a change bites at once.
//! - An unknown name costs the same time as a wrong password.

pub mod cookies;
pub mod credential;
mod last_seen;
pub mod password;
mod secret;
mod throttle;
mod tickets;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::Limits;
use crate::core::ids::{DeviceId, MessageId, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::{Authority, NewToken, NewUser, Role, Store, StoreError, Token, TokenHash, TokenKind, User};

pub use credential::Credential;
pub use password::PasswordError;
pub use secret::{Secret, random_password};
pub use tickets::TICKET_SECONDS;

/// What kind of caller this is, from least to most.
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
}

/// Somebody who has shown a valid credential.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account.
    pub user: User,
    /// The credential's record.
    pub token: Token,
    /// The credential's hash.
    pub hash: TokenHash,
}

impl Caller {
    /// The owner of the data directory, at the command line: an administrator without an account or a token.
    pub fn operator() -> Self {
        let (now, hash) = (Timestamp::now(), TokenHash::of(""));
        let user = User {
            id: UserId::OPERATOR,
            username: "console".into(),
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
            label: String::new(),
            created_at: now,
            last_used_at: None,
            expires_at: None,
        };
        Self { user, token, hash }
    }

    /// Whether this is the [`operator`](Self::operator).
    pub fn is_operator(&self) -> bool {
        self.user.id == UserId::OPERATOR
    }

    /// By what right the caller changes what is its own.
    pub fn right(&self) -> Authority {
        if self.is_operator() { Authority::System } else { Authority::Token(self.hash) }
    }

    /// By what right an administrator changes what is others'.
    pub fn office(&self) -> Authority {
        if self.is_operator() { Authority::System } else { Authority::Admin(self.hash) }
    }

    /// What kind of caller this is.
    pub fn actor(&self) -> Actor {
        match (self.token.kind, self.user.role) {
            (TokenKind::Device, _) => Actor::Device,
            (TokenKind::Service, _) => Actor::Service,
            (TokenKind::User, Role::User) => Actor::User,
            (TokenKind::User, Role::Admin) => Actor::Admin,
        }
    }
}

/// Why nobody was recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No, wrong, expired or revoked credential, or a disabled account: one answer for all.
    #[error("authentication required")]
    Refused,
    /// Wrong name or password, or a disabled account: one answer for all.
    #[error("wrong username or password")]
    WrongPassword,
    /// Too many attempts; come back after so long.
    #[error("too many attempts")]
    Throttled(Duration),
    /// Too many passwords are being checked, or too many tickets are open.
    #[error("busy")]
    Busy,
    /// The password can't be used.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The system gave no random numbers.
    #[error("no random numbers")]
    NoRandom,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A freshly made token: the only moment at which its secret is known.
#[derive(Debug)]
pub struct Issued {
    /// For the holder.
    pub secret: Secret,
    /// What is stored.
    pub token: Token,
    /// The one that had to go for it, if any.
    pub retired: Option<TokenId>,
}

/// The authentication service.
pub struct Auth {
    store: Store,
    passwords: password::Passwords,
    throttle: throttle::LoginThrottle,
    tickets: tickets::Tickets,
    last_seen: last_seen::LastSeen,
    tokens_per_user: AtomicUsize,
}

impl Auth {
    /// A service on top of `store`, which looks at up to `hashers` passwords at once.
    ///
    /// # Errors
    /// When the system gives no thread for passwords.
    pub fn new(store: Store, limits: &Limits, hashers: usize) -> std::io::Result<Self> {
        Ok(Self {
            store,
            passwords: password::Passwords::start(hashers)?,
            throttle: throttle::LoginThrottle::new(limits.logins_per_minute),
            tickets: tickets::Tickets::default(),
            last_seen: last_seen::LastSeen::default(),
            tokens_per_user: AtomicUsize::new(limits.tokens_per_user),
        })
    }

    /// Takes up other limits.
    pub fn reload(&self, limits: &Limits) {
        self.throttle.set(limits.logins_per_minute);
        self.tokens_per_user.store(limits.tokens_per_user, Ordering::Relaxed);
    }

    /// Whose token `secret` is.
    ///
    /// # Errors
    /// [`AuthError::Refused`], or when the store fails.
    pub fn authenticate(&self, secret: &str) -> Result<Caller, AuthError> {
        if !secret::plausible(secret) {
            return Err(AuthError::Refused);
        }
        self.recognise(TokenHash::of(secret))
    }

    fn recognise(&self, hash: TokenHash) -> Result<Caller, AuthError> {
        let now = Timestamp::now();
        let token = self.store.token(&hash)?.filter(|t| !t.expired(now)).ok_or(AuthError::Refused)?;
        let user = self.store.user(token.user_id)?.filter(|u| !u.disabled).ok_or(AuthError::Refused)?;
        // A service token has an administrator's reach, so it ends with its owner's office.
        if token.kind == TokenKind::Service && user.role != Role::Admin {
            return Err(AuthError::Refused);
        }
        self.last_seen.token(hash, now);
        Ok(Caller { user, token, hash })
    }

    /// Whether `caller`'s credential would still be accepted.
    pub fn still_valid(&self, caller: &Caller) -> bool {
        self.recognise(caller.hash).is_ok()
    }

    /// Notes that a connection with this token, standing for `device`, lives.
    pub fn seen(&self, token: TokenHash, device: Option<DeviceId>) {
        let now = Timestamp::now();
        self.last_seen.token(token, now);
        if let Some(device) = device {
            self.last_seen.device(device, now);
        }
    }

    /// Whose credential this is, whatever its kind. A ticket is used up.
    ///
    /// # Errors
    /// [`AuthError::Refused`], or when the store fails.
    pub fn identify(&self, credential: &Credential) -> Result<Caller, AuthError> {
        match credential {
            Credential::Token(secret) => self.authenticate(secret),
            Credential::Ticket(secret) => self.recognise(self.tickets.redeem(secret).ok_or(AuthError::Refused)?),
        }
    }

    /// Whose name and password these are.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::Throttled`], [`AuthError::Busy`], or when the store fails.
    pub async fn login(&self, username: &str, password: &str, from: IpAddr) -> Result<User, AuthError> {
        self.throttle(username, from)?;
        let user = self.store.user_by_name(username)?;
        let hash = user.as_ref().map(|u| u.password_hash.clone());
        let right = self.passwords.verify(password, hash).await?;
        match user {
            Some(user) if right && !user.disabled => Ok(user),
            _ => Err(AuthError::WrongPassword),
        }
    }

    /// Counts an attempt on `username`.
    ///
    /// # Errors
    /// [`AuthError::Throttled`] when it is one too many.
    pub fn throttle(&self, username: &str, from: IpAddr) -> Result<(), AuthError> {
        self.throttle.check(from, username).map_err(AuthError::Throttled)
    }

    /// Whether `password` is `user`'s; counts as a log-in attempt.
    ///
    /// # Errors
    /// [`AuthError::Throttled`], [`AuthError::Busy`].
    pub async fn confirm(&self, user: &User, password: &str, from: IpAddr) -> Result<bool, AuthError> {
        self.throttle(&user.username, from)?;
        self.passwords.verify(password, Some(user.password_hash.clone())).await
    }

    /// Makes a password into what is stored of it.
    ///
    /// # Errors
    /// [`AuthError::Password`] when it is too short or too long, [`AuthError::Busy`].
    pub async fn hash_password(&self, password: &str) -> Result<String, AuthError> {
        self.passwords.hash(password).await
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`AuthError::Password`], [`AuthError::Busy`], [`StoreError::Taken`], or when the store fails.
    pub async fn create_user(&self, username: &str, password: &str, role: Role, because: Authority) -> Result<User, AuthError> {
        if self.store.user_by_name(username)?.is_some() {
            return Err(StoreError::Taken("username").into()); // before the costly hash; decided for good when it is written
        }
        let password_hash = self.hash_password(password).await?;
        let new = NewUser { username: username.into(), role, password_hash };
        Ok(self.store.create_user(new, because).await?)
    }

    /// Makes a token; `new` turns its hash into what is to be stored.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Missing`], [`AuthError::NoRandom`], or when the store fails.
    pub async fn issue(&self, new: impl FnOnce(TokenHash) -> NewToken) -> Result<Issued, AuthError> {
        let secret = Secret::token().ok_or(AuthError::NoRandom)?;
        let (token, retired) = self.store.create_token(new(secret.hash()), self.tokens_per_user.load(Ordering::Relaxed)).await?;
        Ok(Issued { secret, token, retired })
    }

    /// Trades a token for a ticket: once, for [`TICKET_SECONDS`].
    ///
    /// # Errors
    /// [`AuthError::Busy`] when too many are open, [`AuthError::NoRandom`].
    pub fn ticket(&self, caller: &Caller) -> Result<Secret, AuthError> {
        let secret = Secret::ticket().ok_or(AuthError::NoRandom)?;
        if self.tickets.put(&secret, caller.hash) { Ok(secret) } else { Err(AuthError::Busy) }
    }

    /// Writes what has been seen since the last call, and forgets what has run out. Call it every minute and at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self) -> Result<(), AuthError> {
        self.throttle.sweep();
        self.tickets.sweep();
        let (tokens, devices) = self.last_seen.take();
        if tokens.is_empty() && devices.is_empty() {
            return Ok(());
        }
        Ok(self.store.note_seen(tokens, devices).await?)
    }
}
