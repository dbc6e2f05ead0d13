//! Passwords: argon2id, away from the runtime, two at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::AuthError;

/// The longest password, in bytes: argon2 has no use for more, and an attacker could make us hash megabytes.
pub const MAX_PASSWORD_BYTES: usize = 128;
/// The shortest new password, in characters (NIST SP 800-63B section 5.1.1.1).
pub const MIN_PASSWORD_CHARS: usize = 8;
/// How many hashes run at once. Each takes 19 MiB and some 25 ms of a core.
const AT_ONCE: usize = 2;
/// How many more may wait, about a quarter of a second's work; who comes then is told to come back.
const WAITING: usize = 16;

/// A hash that no password fits, with the same cost as a real one: what an unknown user's password is checked against.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBmaXhlZCBzYWx0$PaDAAOO6r6r7d6m5PuNCuNm2v1QCaMJdCdEzx1DdxW0";

/// A password that can't be used.
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

/// Hashes and verifies.
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    /// Running and waiting together.
    inside: Arc<AtomicUsize>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(AT_ONCE)), inside: Arc::default() }
    }
}

/// Counts one caller while it lives.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Passwords {
    /// Makes a PHC string.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(PasswordError::TooShort.into());
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong.into());
        }
        let password = password.to_owned();
        let hashed = self.work(move || Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string())).await?;
        hashed.map_err(|_| PasswordError::Unhashable.into())
    }

    /// Whether `password` fits `hash`. Without a hash (no such user) the same work is done and the answer is no.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, AuthError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let password = password.to_owned();
        let (known, hash) = (hash.is_some(), hash.unwrap_or_else(|| NOBODY.to_owned()));
        let fits = self.work(move || {
            let parsed = PasswordHash::new(&hash);
            parsed.is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(fits.await? && known)
    }

    /// Runs `job` on a blocking thread when its turn comes.
    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let before = self.inside.fetch_add(1, Ordering::AcqRel);
        let inside = Inside(self.inside.clone());
        if before >= AT_ONCE + WAITING {
            return Err(AuthError::Busy);
        }
        let permit = self.running.clone().acquire_owned().await.map_err(|_| AuthError::Busy)?;
        // A caller that goes away leaves the work running: so the work itself, not the caller, holds the place.
        let work = move || {
            let _held = (permit, inside);
            job()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| AuthError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_verify_and_bounds_hold() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse ", Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(&"x".repeat(129), Some(hash)).await.unwrap());
        assert!(!passwords.verify("anything", Some("rubbish".into())).await.unwrap());
        assert!(matches!(passwords.hash("short").await, Err(AuthError::Password(PasswordError::TooShort))));
        assert!(matches!(passwords.hash(&"長".repeat(50)).await, Err(AuthError::Password(PasswordError::TooLong))));
        assert_eq!(passwords.inside.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn nobody_costs_what_a_user_costs() {
        let passwords = Passwords::default();
        assert!(!passwords.verify("anything", None).await.unwrap());
        let (nobody, real) = (PasswordHash::new(NOBODY).unwrap(), passwords.hash("correct horse").await.unwrap());
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(
            (nobody.algorithm, nobody.version, nobody.params.to_string()),
            (real.algorithm, real.version, real.params.to_string())
        );
        assert_eq!(nobody.hash.map(|h| h.len()), real.hash.map(|h| h.len()));
    }

    #[tokio::test]
    async fn callers_that_go_away_free_no_place_before_the_work_is_done() {
        let passwords = Passwords::default();
        for _ in 0..AT_ONCE {
            let mut going = std::pin::pin!(passwords.verify("x", None));
            // Polled once: the work is on its way. Then dropped.
            assert!(futures_util::poll!(going.as_mut()).is_pending());
        }
        assert_eq!(passwords.inside.load(Ordering::Acquire), AT_ONCE);
        assert_eq!(passwords.running.available_permits(), 0);
        assert!(!passwords.verify("x", None).await.unwrap(), "waits for its turn, and gets it");
    }

    #[tokio::test]
    async fn a_crowd_is_sent_away() {
        let passwords = std::sync::Arc::new(Passwords::default());
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.verify("x", None).await })
            })
            .collect();
        let mut busy = 0;
        for task in tasks {
            busy += usize::from(matches!(task.await.unwrap(), Err(AuthError::Busy)));
        }
        assert!((1..=22).contains(&busy), "{busy}");
        assert!(!passwords.verify("x", None).await.unwrap());
    }
}
