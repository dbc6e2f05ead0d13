//! Passwords: argon2id, away from the runtime, two at a time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use parking_lot::Mutex;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::oneshot;

use super::AuthError;

/// The longest password, in bytes: argon2 has no use for more, and an attacker could make us hash megabytes.
pub const MAX_PASSWORD_BYTES: usize = 128;
/// The shortest new password, in characters (NIST SP 800-63B section 5.1.1.1).
pub const MIN_PASSWORD_CHARS: usize = 8;
/// How many more may wait, about a quarter of a second's work; who comes then is told to come back.
const WAITING: usize = 16;

/// A hash that no password fits, with the same cost as a real one: what an unknown user's password is checked against.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBmaXhlZCBzYWx0$PaDAAOO6r6r7d6m5PuNCuNm2v1QCaMJdCdEzx1DdxW0";

/// How much address space a hash asks for, of which it uses 19 MiB. An allocation of its size, freed and made again, would
/// pile up in glibc's heaps, eleven times over; one above the 32 MiB that they ever hold comes from the system and goes back.
const ROOM: usize = 40 << 20;

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

/// A piece of work for the hashing threads.
type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies, on threads of its own.
///
/// Not on the runtime's blocking threads: there are many of those, and the allocator keeps a hash's 19 MiB for each that has
/// ever made one. And not bound to the caller: one that goes away leaves its work in the queue, and its place taken.
pub(super) struct Passwords(SyncSender<Job>);

impl Passwords {
    /// Starts the threads; they end with the service.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Job>(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let receiver = receiver.clone();
            std::thread::Builder::new().name("password".into()).spawn(move || {
                loop {
                    // The lock is held while waiting, and free while working: the other thread waits for the lock meanwhile.
                    let next = receiver.lock().recv();
                    match next {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Makes a PHC string.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(PasswordError::TooShort.into());
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong.into());
        }
        let password = password.to_owned();
        let hashed = self.work(move || hashed(&password)).await?;
        hashed.ok_or(PasswordError::Unhashable.into())
    }

    /// Whether `password` fits `hash`. Without a hash (no such user) the same work is done and the answer is no.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, AuthError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let password = password.to_owned();
        let (known, hash) = (hash.is_some(), hash.unwrap_or_else(|| NOBODY.to_owned()));
        let fits = self.work(move || fits(&password, &hash).unwrap_or(false)).await?;
        Ok(fits && known)
    }

    /// Has `job` run when its turn comes.
    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let (tell, told) = oneshot::channel();
        let job = move || {
            let _ = tell.send(job()); // the caller may have gone
        };
        self.0.try_send(Box::new(job)).map_err(|_| AuthError::Busy)?;
        told.await.map_err(|_| AuthError::Busy)
    }
}

/// The hash proper, `bytes` long.
fn digest(argon2: &Argon2<'_>, password: &str, salt: &Salt, bytes: usize) -> Option<Output> {
    let (used, mut memory, mut out) = (argon2.params().block_count(), Vec::new(), vec![0; bytes]);
    memory.try_reserve_exact(used.max(ROOM / Block::SIZE)).ok()?;
    memory.resize(used, Block::new());
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, &mut memory).ok()?;
    Output::new(&out).ok()
}

/// The PHC string of `password` with a fresh salt.
fn hashed(password: &str) -> Option<String> {
    let (argon2, mut salt) = (Argon2::default(), [0; argon2::RECOMMENDED_SALT_LEN]);
    SysRng.try_fill_bytes(&mut salt).ok()?;
    let salt = Salt::new(&salt).ok()?;
    let hash = digest(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
    let (algorithm, version) = (Algorithm::default().ident(), Some(Version::default().into()));
    let params = ParamsString::try_from(argon2.params()).ok()?;
    Some(PasswordHash { algorithm, version, params, salt: Some(salt), hash: Some(hash) }.to_string())
}

/// Whether `password` fits the PHC string `hash`; `None` when that is none of ours.
fn fits(password: &str, hash: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let (salt, expected) = hash.salt.zip(hash.hash)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash).ok()?);
    Some(digest(&argon2, password, &salt, expected.len())? == expected) // takes the same time wherever they differ
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    #[tokio::test]
    async fn hashes_verify_and_bounds_hold() {
        let passwords = Passwords::start(2).unwrap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse ", Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(&"x".repeat(129), Some(hash)).await.unwrap());
        assert!(!passwords.verify("anything", Some("rubbish".into())).await.unwrap());
        assert!(matches!(passwords.hash("short").await, Err(AuthError::Password(PasswordError::TooShort))));
        assert!(matches!(passwords.hash(&"長".repeat(50)).await, Err(AuthError::Password(PasswordError::TooLong))));
    }

    #[test]
    fn strings_that_others_made_are_read() {
        // The crate's own way to hash makes what we read, and its own way to verify reads what we make.
        let own = Argon2::default().hash_password_with_salt(b"correct horse", b"some fixed salt").unwrap().to_string();
        assert_eq!((fits("correct horse", &own), fits("correct horsf", &own)), (Some(true), Some(false)));
        let made = hashed("correct horse").unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &PasswordHash::new(&made).unwrap()).is_ok());
        assert_ne!(made, hashed("correct horse").unwrap(), "another salt");
        assert_eq!(fits("correct horse", "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBmaXhlZCBzYWx0"), None);
    }

    #[tokio::test]
    async fn nobody_costs_what_a_user_costs() {
        let passwords = Passwords::start(2).unwrap();
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
        let passwords = Passwords::start(2).unwrap();
        let mut busy = 0;
        for _ in 0..2 + WAITING + 5 {
            // Polled once: the work is in the queue. Then dropped.
            let mut going = std::pin::pin!(passwords.verify("x", None));
            busy += usize::from(matches!(futures_util::poll!(going.as_mut()), std::task::Poll::Ready(Err(AuthError::Busy))));
        }
        assert!(busy >= 5, "{busy}");
    }

    #[tokio::test]
    async fn a_crowd_is_sent_away_and_the_next_is_served() {
        let passwords = Arc::new(Passwords::start(2).unwrap());
        let tasks = (0..60).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.verify("x", None).await })
        });
        let mut busy = 0;
        for task in tasks.collect::<Vec<_>>() {
            busy += usize::from(matches!(task.await.unwrap(), Err(AuthError::Busy)));
        }
        assert!((1..=60 - WAITING).contains(&busy), "{busy}");
        assert!(!passwords.verify("x", None).await.unwrap());
    }
}
