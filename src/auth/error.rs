//! Errors of authentication.

use std::time::Duration;

use crate::store::StoreError;

/// The longest password, in bytes: more adds no security, and an attacker could have megabytes hashed.
pub(super) const MAX_PASSWORD_BYTES: usize = 128;
/// The shortest new password, in characters (NIST SP 800-63B section 5.1.1.1).
pub(super) const MIN_PASSWORD_CHARS: usize = 8;

/// Errors of authentication.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No, wrong, expired or revoked credential, or a disabled account: one answer for all.
    #[error("authentication required")]
    Refused,
    /// Wrong name or password, or a disabled account: one answer for all.
    #[error("wrong username or password")]
    WrongPassword,
    /// A one-time link that was used, has expired, or never was: one answer for all.
    #[error("this link is not valid any more: it is good once, for ten minutes; `qy-lty link` prints another")]
    WrongLink,
    /// The code of a one-time link came from elsewhere without encryption.
    #[error("one-time links work on the server's own machine or over HTTPS only; this one is used up now")]
    ExposedLink,
    /// Too many attempts; retry after that time.
    #[error("too many attempts")]
    Throttled(Duration),
    /// Too many password checks are waiting, or too many tickets are open.
    #[error("busy")]
    Busy,
    /// A new password is unusable.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The system returned no random numbers.
    #[error("no random numbers")]
    NoRandom,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new password that is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than [`MIN_PASSWORD_CHARS`].
    #[error("password must have at least {MIN_PASSWORD_CHARS} characters")]
    TooShort,
    /// More than [`MAX_PASSWORD_BYTES`].
    #[error("password must have at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// The hash function failed.
    #[error("password could not be hashed")]
    Unhashable,
}
