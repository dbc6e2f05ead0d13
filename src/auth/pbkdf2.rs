//! PBKDF2 (RFC 8018 section 5.2), in the form in which Django stores it. Accounts that come from there have such hashes until their users
//! log in.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, Algorithm, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256};

/// The most iterations of a hash: about a second's work. Django 6.0 makes hashes of 1,200,000.
pub const MAX_ITERATIONS: u32 = 2_000_000;

/// The longest salt, in bytes; Django's have 22 characters.
const MAX_SALT_BYTES: usize = 256;

/// The stored form of an account without a password, which Django has, too.
pub const NO_PASSWORD: &str = "!";

/// The reason a stored password is not taken from Django. None of them repeats the hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignHash {
    /// Made in another way.
    #[error("its password is stored with {0}, which is not read; pbkdf2_sha256 and pbkdf2_sha1 are")]
    Hasher(String),
    /// More work than a log-in may cost.
    #[error("its password is stored with {0} iterations; 1 to {MAX_ITERATIONS} are read")]
    Iterations(u64),
    /// Not what Django writes.
    #[error("its stored password is damaged")]
    Damaged,
}

/// A hash of PBKDF2 in Django's form, `pbkdf2_sha256$ITERATIONS$SALT$HASH`.
#[derive(Clone)]
pub struct Pbkdf2 {
    algorithm: Algorithm,
    iterations: NonZeroU32,
    salt: String,
    hash: Vec<u8>,
}

impl Pbkdf2 {
    /// Parses a stored password.
    ///
    /// # Errors
    /// [`ForeignHash`].
    pub fn parse(text: &str) -> Result<Self, ForeignHash> {
        let mut parts = text.split('$');
        let hasher = parts.next().unwrap_or_default();
        let (algorithm, bytes) = match hasher {
            "pbkdf2_sha256" => (PBKDF2_HMAC_SHA256, 32),
            "pbkdf2_sha1" => (PBKDF2_HMAC_SHA1, 20),
            // The name only where it is one: an old hash of MD5 has no name in front.
            name if text.contains('$') && is_hasher_name(name) => return Err(ForeignHash::Hasher(name.to_owned())),
            _ => return Err(ForeignHash::Hasher("another hasher".into())),
        };
        let (Some(iterations), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(ForeignHash::Damaged);
        };
        let plain = iterations.bytes().all(|b| b.is_ascii_digit());
        let iterations: u64 = iterations.parse().ok().filter(|_| plain).ok_or(ForeignHash::Damaged)?;
        let bounded = u32::try_from(iterations).ok().filter(|&n| n <= MAX_ITERATIONS).and_then(NonZeroU32::new);
        let iterations = bounded.ok_or(ForeignHash::Iterations(iterations))?;
        let hash = STANDARD.decode(hash).ok().filter(|hash| hash.len() == bytes).ok_or(ForeignHash::Damaged)?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(ForeignHash::Damaged);
        }
        Ok(Self { algorithm, iterations, salt: salt.to_owned(), hash })
    }

    /// The iterations.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// Returns whether `password` fits; takes the same time wherever the hashes differ.
    pub fn fits(&self, password: &str) -> bool {
        pbkdf2::verify(self.algorithm, self.iterations, self.salt.as_bytes(), password.as_bytes(), &self.hash).is_ok()
    }
}

/// Does the work of so many iterations, for nothing.
pub fn spend(iterations: u32) {
    if let Some(iterations) = NonZeroU32::new(iterations) {
        let mut out = [0; 32];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, b"no salt", b"no password", &mut out);
        std::hint::black_box(out);
    }
}

/// Returns whether a text can be the name of one of Django's hashers.
fn is_hasher_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Passwords and their hashes, made by Python's `hashlib` in Django's form.
    const MADE_BY_DJANGO: [(&str, &str); 3] = [
        ("old-password-1", "pbkdf2_sha256$1000$saltsaltsalt$8QBxcNlVezvwm6NO9suSC8vn6s7fPZL8rjW7oOqfCVk="),
        ("密码 with blanks", "pbkdf2_sha256$3$xyz$vFH/EVNmjvfWZc7+7KZPwSf7P6YfVSCZh3+9adC9e+0="),
        ("sha1-password", "pbkdf2_sha1$2$abc$45/hD0aPYU4ODppQCIXArBQ6NhE="),
    ];

    #[test]
    fn hashes_of_django_fit_their_passwords_only() {
        for (password, text) in MADE_BY_DJANGO {
            let hash = Pbkdf2::parse(text).unwrap();
            assert!(hash.fits(password), "{text}");
            for other in ["", "old-password-2", &format!("{password} "), &password.to_uppercase()] {
                assert!(!hash.fits(other), "{other}");
            }
        }
    }

    #[test]
    fn other_forms_are_refused_without_the_hash() {
        let hash = STANDARD.encode([7; 32]);
        let cases = [
            ("bcrypt_sha256$$2b$12$abcdefgh", ForeignHash::Hasher("bcrypt_sha256".into())),
            ("argon2$argon2id$v=19$m=102400,t=2,p=8$x$y", ForeignHash::Hasher("argon2".into())),
            ("scrypt$16384$x$8$1$y", ForeignHash::Hasher("scrypt".into())),
            ("5f4dcc3b5aa765d61d8327deb882cf99", ForeignHash::Hasher("another hasher".into())),
            ("$2b$12$abcdefgh", ForeignHash::Hasher("another hasher".into())),
            ("pbkdf2_sha256$x$y", ForeignHash::Damaged),
            ("pbkdf2_sha256$+5$salt$aGFzaA==", ForeignHash::Damaged),
            ("pbkdf2_sha256$5$salt$aGFzaA==", ForeignHash::Damaged),
            (&format!("pbkdf2_sha256$5$${hash}"), ForeignHash::Damaged),
            (&format!("pbkdf2_sha256$5$salt${hash}$more"), ForeignHash::Damaged),
            (&format!("pbkdf2_sha1$5$salt${hash}"), ForeignHash::Damaged),
            (&format!("pbkdf2_sha256$0$salt${hash}"), ForeignHash::Iterations(0)),
            (&format!("pbkdf2_sha256$2000001$salt${hash}"), ForeignHash::Iterations(2_000_001)),
            (&format!("pbkdf2_sha256$4294967297$salt${hash}"), ForeignHash::Iterations(4_294_967_297)),
        ];
        for (text, error) in cases {
            assert_eq!(Pbkdf2::parse(text).err(), Some(error.clone()), "{text}");
            assert!(!error.to_string().contains(&hash));
        }
        assert_eq!(Pbkdf2::parse(&format!("pbkdf2_sha256$2000000$salt${hash}")).unwrap().iterations(), MAX_ITERATIONS);
    }

    proptest! {
        #[test]
        fn any_text_parses_without_panic(text in "(pbkdf2_sha(1|256)\\$)?[0-9a-z$=+]{0,40}|\\PC{0,40}") {
            let _ = Pbkdf2::parse(&text);
        }
    }
}
