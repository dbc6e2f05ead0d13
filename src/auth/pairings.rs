//! Codes of pairings, and the pace at which devices poll. The pairings are in [`change`](crate::change).

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::core::boot::BootInstant;
use crate::store::TokenHash;

/// The least time between polls of a device, in seconds (`interval`).
pub const POLL_SECONDS: u64 = 5;
/// A poll may be that much early.
const POLL_GRACE: Duration = Duration::from_secs(2);
/// The most devices whose polls are timed: more than there are pairings.
const MAX_POLLING: usize = 20_000;
/// Letters and digits that are not mistaken for one another; 32, so that five bits choose one without bias.
const CODE_ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The length of a user code.
const CODE_CHARS: usize = 6;
/// The number of codes that are made at once. With 10,000 pairings, each is taken with a probability of 1 in 100,000.
const CANDIDATES: usize = 4;

/// Returns random user codes, of which one is likely to be free; `None` when the system returns no random numbers.
pub fn user_codes() -> Option<Vec<String>> {
    (0..CANDIDATES).map(|_| user_code()).collect()
}

fn user_code() -> Option<String> {
    let mut bytes = [0u8; CODE_CHARS];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)])).collect())
}

/// Returns the code that was `typed`: case, blanks and dashes do not matter. `None` for text that can't be one: a typing error, not a
/// guess.
pub fn typed_code(typed: &str) -> Option<String> {
    let code: String = typed.chars().filter(|c| !matches!(c, ' ' | '-')).take(CODE_CHARS + 1).collect();
    let code = code.to_ascii_uppercase();
    (code.len() == CODE_CHARS && code.bytes().all(|b| CODE_ALPHABET.contains(&b))).then_some(code)
}

/// The times from which devices may poll again. In memory only.
#[derive(Default)]
pub struct Polls(Mutex<HashMap<TokenHash, BootInstant>>);

impl Polls {
    /// Notes a poll of the device with that code.
    ///
    /// # Errors
    /// The time to wait, when it polls too often.
    pub fn check(&self, device_code: TokenHash, now: BootInstant) -> Result<(), Duration> {
        let mut polls = self.0.lock();
        if let Some(next) = polls.get(&device_code).filter(|next| **next > now + POLL_GRACE) {
            return Err(next.since(now));
        }
        if polls.len() >= MAX_POLLING {
            polls.retain(|_, next| *next > now);
        }
        if polls.len() < MAX_POLLING {
            polls.insert(device_code, now + Duration::from_secs(POLL_SECONDS));
        }
        Ok(())
    }

    /// Lets a device poll again at once: the last poll failed, which was not its fault.
    pub fn forget(&self, device_code: &TokenHash) {
        self.0.lock().remove(device_code);
    }

    /// Removes the times that have come.
    pub fn sweep(&self, now: BootInstant) {
        let mut polls = self.0.lock();
        polls.retain(|_, next| *next > now);
        polls.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_as_they_are_typed() {
        let codes = user_codes().unwrap();
        assert_eq!(codes.len(), CANDIDATES);
        for code in codes {
            assert!(code.len() == 6 && !code.contains(['0', 'O', '1', 'I']));
            assert_eq!(typed_code(&format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..])), Some(code));
        }
        for malformed in ["", "ABC", "O0I1O0", "ABCDEFG", "äöüÄÖÜ", "      ", "23456\u{131}"] {
            assert_eq!(typed_code(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn early_polls_are_refused() {
        let (polls, now) = (Polls::default(), BootInstant::now());
        let (code, other) = (TokenHash::of("a"), TokenHash::of("b"));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(polls.check(code, now), Ok(()));
        assert_eq!(polls.check(code, later(1)), Err(Duration::from_secs(4)));
        assert_eq!(polls.check(other, later(1)), Ok(()));
        assert_eq!(polls.check(code, later(4)), Ok(()), "a little early");
        polls.forget(&code);
        assert_eq!(polls.check(code, later(4)), Ok(()));
        polls.sweep(later(6));
        assert_eq!(polls.0.lock().len(), 1);
        polls.sweep(later(9));
        assert!(polls.0.lock().is_empty());
    }

    #[test]
    fn timed_devices_are_bounded() {
        let (polls, now) = (Polls::default(), BootInstant::now());
        for n in 0..MAX_POLLING + 10 {
            assert_eq!(polls.check(TokenHash::of(&n.to_string()), now), Ok(()));
        }
        assert_eq!(polls.0.lock().len(), MAX_POLLING);
        assert_eq!(polls.check(TokenHash::of("x"), now + Duration::from_secs(POLL_SECONDS)), Ok(()));
        assert_eq!(polls.0.lock().len(), 1);
    }
}
