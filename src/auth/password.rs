//! Passwords: argon2id, and PBKDF2 of accounts that came from elsewhere, on threads of their own, two at a time by default.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use parking_lot::Mutex;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::oneshot;

use crate::core::names::prepare_password;

use super::error::{AuthError, MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, PasswordError};
use super::pbkdf2::{self, NO_PASSWORD, Pbkdf2};

/// The largest number of waiting jobs, about a quarter of a second's work; beyond it callers get [`AuthError::Busy`].
const MAX_WAITING_JOBS: usize = 16;

/// The longest password that is prepared, in bytes as they are typed: a decomposed letter takes up to this many times the bytes.
const MAX_TYPED_BYTES: usize = 4 * MAX_PASSWORD_BYTES;

/// A hash that no password fits, with the same cost as a real one, for unknown users.
const UNKNOWN_USER_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBmaXhlZCBzYWx0$PaDAAOO6r6r7d6m5PuNCuNm2v1QCaMJdCdEzx1DdxW0";

/// The address space that a hash reserves, of which it uses 19 MiB. Repeated allocations of 19 MiB would pile up in glibc's heaps, eleven
/// times over; one above the 32 MiB that they hold at most comes from the system and is returned to it.
const RESERVED_BYTES: usize = 40 << 20;

/// A job of the hashing threads.
type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies on threads of its own.
///
/// Not on the runtime's blocking threads: there are many of those, and the allocator keeps a hash's 19 MiB for each that has ever made
/// one. And not bound to the caller: a cancelled call leaves its job in the queue, which still counts.
pub(super) struct Passwords {
    jobs: SyncSender<Job>,
    /// The most iterations that a PBKDF2 hash in the store may have; 0 where there is none.
    iterations: Arc<AtomicU32>,
}

/// A stored password.
enum Stored {
    /// argon2id, as a PHC string.
    Argon2(String),
    /// Came from Django.
    Pbkdf2(Pbkdf2),
}

impl Passwords {
    /// Starts the threads; they end with the service.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Job>(MAX_WAITING_JOBS);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let receiver = receiver.clone();
            std::thread::Builder::new().name("password".into()).spawn(move || {
                loop {
                    // The lock is held while waiting for a job, and released while working: the other threads wait for the lock.
                    let next = receiver.lock().recv();
                    match next {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Self { jobs: sender, iterations: Arc::default() })
    }

    /// Notes that the store has a password hash, so that every failed log-in takes as long as one with that.
    pub(super) fn note(&self, hash: &str) {
        if let Ok(hash) = Pbkdf2::parse(hash) {
            self.iterations.fetch_max(hash.iterations(), Ordering::Relaxed);
        }
    }

    /// Takes down what [`note`](Self::note) has noted: `most` is the highest number of iterations of the hashes in the store, looked
    /// for since `noted` was [returned](Self::noted).
    pub(super) fn lower(&self, noted: u32, most: u32) {
        // Fails where another one has been noted meanwhile, which `most` may lack.
        let _ = self.iterations.compare_exchange(noted, most, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns the most iterations of a hash in the store, or in it lately; 0: there is none of PBKDF2.
    pub(super) fn noted(&self) -> u32 {
        self.iterations.load(Ordering::Relaxed)
    }

    /// Returns the PHC string of a password that has just been verified, whatever its length was asked to be where it was made; `None`
    /// where it is too long for this server.
    pub(super) async fn rehash(&self, password: &str) -> Result<Option<String>, AuthError> {
        let password = prepare_password(password);
        if password.len() > MAX_PASSWORD_BYTES { Ok(None) } else { self.work(move || hashed(&password)).await }
    }

    /// Returns the PHC string of a new password.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        if password.len() > MAX_TYPED_BYTES {
            return Err(PasswordError::TooLong.into());
        }
        let password = prepare_password(password);
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(PasswordError::TooShort.into());
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong.into());
        }
        let hashed = self.work(move || hashed(&password)).await?;
        hashed.ok_or(PasswordError::Unhashable.into())
    }

    /// Returns whether `password` fits `hash`, in its prepared form or as it is typed: hashes of earlier versions, and of Django, are of
    /// what was typed. Without a hash (no such user, or a user without a password) the same work is done, and the result is `false`.
    ///
    /// A password that does not fit costs the same whatever it was compared with: argon2id, and where there are accounts with PBKDF2 also
    /// the most iterations that one of them has. Else the time would tell which names exist.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, AuthError> {
        if password.len() > MAX_TYPED_BYTES {
            return Ok(false);
        }
        let mut spellings = vec![prepare_password(password)];
        if spellings[0] != password {
            spellings.push(password.to_owned());
        }
        let hash = hash.filter(|hash| hash != NO_PASSWORD);
        let known = hash.is_some();
        let stored = match hash.map(|hash| Pbkdf2::parse(&hash).map_err(|_| hash)) {
            Some(Ok(hash)) => Stored::Pbkdf2(hash),
            Some(Err(hash)) => Stored::Argon2(hash),
            None => Stored::Argon2(UNKNOWN_USER_HASH.to_owned()),
        };
        let iterations = self.iterations.load(Ordering::Relaxed);
        let fits = self.work(move || spellings.iter().any(|spelling| stored.fits(spelling, iterations))).await?;
        Ok(fits && known)
    }

    /// Runs `job` when a thread is free.
    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, AuthError> {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            let _ = sender.send(job()); // the call may have been cancelled
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| AuthError::Busy)?;
        receiver.await.map_err(|_| AuthError::Busy)
    }
}

impl Stored {
    /// Returns whether `password` fits. Where it does not, the work of the other kind is done as well, up to `iterations` of PBKDF2.
    fn fits(&self, password: &str, iterations: u32) -> bool {
        let hashable = password.len() <= MAX_PASSWORD_BYTES;
        let fits = match self {
            Self::Argon2(hash) => hashable && fits(password, hash).unwrap_or(false),
            Self::Pbkdf2(hash) => hash.fits(password),
        };
        match self {
            _ if fits => {}
            Self::Argon2(_) => pbkdf2::spend(iterations),
            Self::Pbkdf2(hash) => {
                if hashable {
                    let _ = std::hint::black_box(self::fits(password, UNKNOWN_USER_HASH));
                }
                pbkdf2::spend(iterations.saturating_sub(hash.iterations()));
            }
        }
        fits
    }
}

/// Returns the hash, `bytes` long.
fn digest(argon2: &Argon2<'_>, password: &str, salt: &Salt, bytes: usize) -> Option<Output> {
    let (used, mut memory, mut out) = (argon2.params().block_count(), Vec::new(), vec![0; bytes]);
    memory.try_reserve_exact(used.max(RESERVED_BYTES / Block::SIZE)).ok()?;
    memory.resize(used, Block::new());
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, &mut memory).ok()?;
    Output::new(&out).ok()
}

/// Returns the PHC string of `password` with a fresh salt.
fn hashed(password: &str) -> Option<String> {
    let (argon2, mut salt) = (Argon2::default(), [0; argon2::RECOMMENDED_SALT_LEN]);
    SysRng.try_fill_bytes(&mut salt).ok()?;
    let salt = Salt::new(&salt).ok()?;
    let hash = digest(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
    let (algorithm, version) = (Algorithm::default().ident(), Some(Version::default().into()));
    let params = ParamsString::try_from(argon2.params()).ok()?;
    Some(PasswordHash { algorithm, version, params, salt: Some(salt), hash: Some(hash) }.to_string())
}

/// Returns whether `password` fits the PHC string `hash`; `None` when that is not an argon2 hash.
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
    async fn password_verifies_against_its_hash_within_bounds() {
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

    #[tokio::test]
    async fn passwords_in_any_normal_form_are_one_and_old_hashes_fit_what_was_typed() {
        let passwords = Passwords::start(2).unwrap();
        let (composed, decomposed) = ("correct h\u{f6}rse \u{d55c}", "correct ho\u{308}rse\u{a0}\u{1112}\u{1161}\u{11ab}");
        for made in [composed, decomposed] {
            let hash = passwords.hash(made).await.unwrap();
            for typed in [composed, decomposed] {
                assert!(passwords.verify(typed, Some(hash.clone())).await.unwrap(), "{made:?} {typed:?}");
            }
            assert!(!passwords.verify("correct horse 한", Some(hash)).await.unwrap());
        }
        // An earlier version hashed what was typed.
        let old = hashed(decomposed).unwrap();
        assert!(passwords.verify(decomposed, Some(old.clone())).await.unwrap());
        assert!(!passwords.verify(composed, Some(old)).await.unwrap());
        // Counted in the form that is hashed, whatever was typed.
        let long = "\u{1112}\u{1161}\u{11ab}".repeat(42);
        assert!(passwords.verify(&long, Some(passwords.hash(&long).await.unwrap())).await.unwrap());
        assert!(matches!(passwords.hash(&"e\u{301}".repeat(7)).await, Err(AuthError::Password(PasswordError::TooShort))));
        assert!(!passwords.verify(&"\u{a0}".repeat(128), Some("rubbish".into())).await.unwrap());
    }

    #[test]
    fn hashes_of_other_implementations_are_read() {
        // The crate's own hasher and verifier agree with this module's.
        let own = Argon2::default().hash_password_with_salt(b"correct horse", b"some fixed salt").unwrap().to_string();
        assert_eq!((fits("correct horse", &own), fits("correct horsf", &own)), (Some(true), Some(false)));
        let made = hashed("correct horse").unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &PasswordHash::new(&made).unwrap()).is_ok());
        assert_ne!(made, hashed("correct horse").unwrap(), "another salt");
        assert_eq!(fits("correct horse", "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBmaXhlZCBzYWx0"), None);
    }

    /// PBKDF2 of a password, as Django stores it.
    fn django(password: &str, iterations: u32) -> String {
        let (mut hash, salt) = ([0; 32], "some salt");
        let count = std::num::NonZeroU32::new(iterations).unwrap();
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, count, salt.as_bytes(), password.as_bytes(), &mut hash);
        let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
        format!("pbkdf2_sha256${iterations}${salt}${hash}")
    }

    #[tokio::test]
    async fn passwords_of_django_are_verified_as_they_are_typed_and_hashed_anew() {
        let passwords = Passwords::start(2).unwrap();
        // Django knows neither the least length nor the normal form.
        for password in ["p", "ho\u{308}rse\u{a0}x", &"x".repeat(500)] {
            let hash = django(password, 20);
            passwords.note(&hash);
            assert!(passwords.verify(password, Some(hash.clone())).await.unwrap(), "{password}");
            assert!(!passwords.verify(&format!("{password}y"), Some(hash)).await.unwrap());
            let anew = passwords.rehash(password).await.unwrap();
            match anew {
                Some(anew) => assert!(passwords.verify(password, Some(anew)).await.unwrap(), "{password}"),
                None => assert_eq!(password.len(), 500),
            }
        }
        for none in ["", "!", "!abc"] {
            assert!(!passwords.verify(none, Some(NO_PASSWORD.into())).await.unwrap());
        }
    }

    /// The number of argon2id hashes and of PBKDF2 iterations is compared by time: of the shortest of several runs, and with PBKDF2 made
    /// far slower than argon2id, so that leaving it out shows on any machine.
    #[test]
    fn wrong_password_costs_the_same_with_every_kind_of_hash() {
        let most = 400_000;
        let kinds = [
            Stored::Argon2(UNKNOWN_USER_HASH.into()),
            Stored::Pbkdf2(Pbkdf2::parse(&django("right", most)).unwrap()),
            Stored::Pbkdf2(Pbkdf2::parse(&django("right", 10)).unwrap()),
        ];
        let times = kinds.map(|stored| {
            let run = || {
                let began = std::time::Instant::now();
                assert!(!stored.fits("wrong", most));
                began.elapsed()
            };
            (0..3).map(|_| run()).min().unwrap()
        });
        let (least, longest) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*longest < *least * 3, "{times:?}");
    }

    #[tokio::test]
    async fn unknown_user_costs_as_much_as_a_known_one() {
        let passwords = Passwords::start(2).unwrap();
        assert!(!passwords.verify("anything", None).await.unwrap());
        let (nobody, real) = (PasswordHash::new(UNKNOWN_USER_HASH).unwrap(), passwords.hash("correct horse").await.unwrap());
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(
            (nobody.algorithm, nobody.version, nobody.params.to_string()),
            (real.algorithm, real.version, real.params.to_string())
        );
        assert_eq!(nobody.hash.map(|h| h.len()), real.hash.map(|h| h.len()));
    }

    #[tokio::test]
    async fn cancelled_calls_count_until_their_job_is_done() {
        let passwords = Passwords::start(2).unwrap();
        let mut busy = 0;
        for _ in 0..2 + MAX_WAITING_JOBS + 5 {
            // Polled once: the work is in the queue. Then dropped.
            let mut going = std::pin::pin!(passwords.verify("x", None));
            busy += usize::from(matches!(futures_util::poll!(going.as_mut()), std::task::Poll::Ready(Err(AuthError::Busy))));
        }
        assert!(busy >= 5, "{busy}");
    }

    #[tokio::test]
    async fn calls_beyond_the_queue_get_busy_and_later_ones_are_served() {
        let passwords = Arc::new(Passwords::start(2).unwrap());
        let tasks = (0..60).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.verify("x", None).await })
        });
        let mut busy = 0;
        for task in tasks.collect::<Vec<_>>() {
            busy += usize::from(matches!(task.await.unwrap(), Err(AuthError::Busy)));
        }
        assert!((1..=60 - MAX_WAITING_JOBS).contains(&busy), "{busy}");
        assert!(!passwords.verify("x", None).await.unwrap());
    }
}
