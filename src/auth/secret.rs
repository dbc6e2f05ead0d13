//! Secrets: generated from the system's random numbers, shown once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::core::hex::hex;
use crate::store::TokenHash;

/// The prefix of tokens, by which secret scanners find one that was committed by mistake.
const TOKEN_PREFIX: &str = "qlt_";
/// The prefix of tickets.
const TICKET_PREFIX: &str = "qlx_";
/// The prefix of device codes.
const DEVICE_CODE_PREFIX: &str = "qlp_";
/// The prefix of one-time links.
const LINK_PREFIX: &str = "qll_";
/// The longest text that is looked up, in bytes; this server's secrets have 47.
const MAX_SECRET_BYTES: usize = 128;

/// A secret in the clear. Neither `Debug` nor any log shows it.
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Generates a token: 256 random bits. `None` when the system returns none.
    pub fn token() -> Option<Self> {
        Some(Self(format!("{TOKEN_PREFIX}{}", random_text::<32>()?)))
    }

    /// Generates a ticket.
    pub fn ticket() -> Option<Self> {
        Some(Self(format!("{TICKET_PREFIX}{}", random_text::<32>()?)))
    }

    /// Generates a device code.
    pub fn device_code() -> Option<Self> {
        Some(Self(format!("{DEVICE_CODE_PREFIX}{}", random_text::<32>()?)))
    }

    /// Generates the code of a one-time link: 128 random bits, in letters and digits alone, so that a double click marks all of it.
    pub fn link() -> Option<Self> {
        let mut bytes = [0u8; 16];
        SysRng.try_fill_bytes(&mut bytes).ok()?;
        Some(Self(format!("{LINK_PREFIX}{}", hex(&bytes))))
    }

    /// Returns the secret, for its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the hash under which the secret is stored.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// Generates a password for the first administrator: 120 random bits that can be typed. `None` when the system returns none.
pub fn random_password() -> Option<String> {
    random_text::<15>()
}

/// Returns `N` random bytes in letters, digits, `-` and `_`, which fit into a path, a header and a subprotocol name.
fn random_text<const N: usize>() -> Option<String> {
    let mut bytes = [0u8; N];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns whether `text` can be a token at all. Tokens of other systems pass, and are not found.
pub fn plausible(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_SECRET_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_distinct_and_not_printed() {
        let (a, b) = (Secret::token().unwrap(), Secret::token().unwrap());
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(a.reveal().len(), 47);
        assert!(a.reveal().starts_with("qlt_") && plausible(a.reveal()));
        assert!(!format!("{a:?}").contains(&a.reveal()[4..]));
        assert_eq!(random_password().unwrap().len(), 20);
        let code = Secret::link().unwrap();
        assert!(
            code.reveal().len() == 36 && code.reveal().starts_with("qll_") && code.reveal() != Secret::link().unwrap().reveal()
        );
    }
}
