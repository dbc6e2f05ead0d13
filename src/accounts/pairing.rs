//! How a device without a keyboard gets its token: it shows a short code, its owner types that in elsewhere, and the device,
//! asking from time to time, is given a token of its own. The model is OAuth's device grant (RFC 8628).
//!
//! In memory only: after a restart the device begins again, which takes a moment.
//!
//! # Invariants
//! - A code is good for [`PAIRING_SECONDS`] and one claim. Of two who claim it at once, one gets it.
//! - Wrong codes count against all that are open: at [`MAX_WRONG`] a code is burned, whoever guessed. So guessing has
//!   five tries in a billion (for each code that is open), and who guesses is then barred for a while.
//! - The device code, 256 random bits, is kept as its hash only; the token is made when the device fetches it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use rand::TryRng;
use rand::rngs::SysRng;

use crate::auth::Secret;
use crate::core::ids::{DeviceId, UserId};
use crate::store::TokenHash;

/// How long a code is good for.
pub const PAIRING_SECONDS: u64 = 600;
/// How often the device may ask, in seconds.
pub const POLL_SECONDS: u64 = 5;
/// Asking this much earlier than that is still fine.
const POLL_GRACE: Duration = Duration::from_secs(2);
/// Wrong claims until a code is burned, and until a user is barred.
pub const MAX_WRONG: u8 = 5;
/// How many pairings may be open.
const MAX_OPEN: usize = 10_000;
/// Letters and digits that can't be taken for one another; 32, so that five bits make one without bias.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The length of a short code.
const CODE_CHARS: usize = 6;

/// What a device says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// For people.
    pub name: Option<String>,
    /// Unique: a device that is paired again is known by it.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
}

/// A pairing that has begun.
#[derive(Debug)]
pub struct Begun {
    /// For the device alone.
    pub device_code: Secret,
    /// For its display.
    pub code: String,
}

/// Why a pairing does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// Too many are open.
    #[error("too many pairings")]
    Full,
    /// The system gave no random numbers.
    #[error("no random numbers")]
    NoRandom,
    /// No such code, or one that has ended.
    #[error("no such pairing")]
    Unknown,
    /// This user has guessed too often, or this device asked too early; come back after so long.
    #[error("too many attempts")]
    TooMany(Duration),
}

/// What a device that asks is told.
pub enum Polled<'a> {
    /// Nobody has claimed it yet; it is good for so long.
    Pending(Duration),
    /// It is claimed: the token can be handed out.
    Claimed(Handout<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Somebody has typed the code; the device is being made.
    Claiming,
    Claimed(UserId, DeviceId),
    /// The device has come for its token, which is being made.
    HandingOut,
}

struct Pairing {
    code: String,
    about: About,
    stage: Stage,
    wrong: u8,
    end: Instant,
    next_poll: Instant,
}

#[derive(Default)]
struct State {
    pairings: HashMap<TokenHash, Pairing>,
    /// Short code → the hash of the device code.
    codes: HashMap<String, TokenHash>,
    /// Wrong claims of a user, and when they are forgotten.
    guesses: HashMap<UserId, (u8, Instant)>,
}

impl State {
    fn forget(&mut self, device_code: &TokenHash) {
        if let Some(pairing) = self.pairings.remove(device_code) {
            self.codes.remove(&pairing.code);
        }
    }

    fn forget_stale(&mut self, now: Instant) {
        self.pairings.retain(|_, pairing| pairing.end > now);
        let pairings = &self.pairings;
        self.codes.retain(|_, device_code| pairings.contains_key(device_code));
        self.guesses.retain(|_, (_, end)| *end > now);
    }

    /// Counts a wrong claim of `user`.
    fn wrong(&mut self, user: UserId, now: Instant) {
        let (count, _) = self.guesses.entry(user).or_insert((0, now + Duration::from_secs(PAIRING_SECONDS)));
        *count += 1;
        self.pairings.retain(|_, pairing| {
            pairing.wrong += u8::from(pairing.stage == Stage::Open);
            pairing.wrong < MAX_WRONG
        });
        let pairings = &self.pairings;
        self.codes.retain(|_, device_code| pairings.contains_key(device_code));
    }
}

/// The open pairings.
#[derive(Default)]
pub struct Pairings(Mutex<State>);

/// A code that somebody has typed in: nobody else can until this is dropped.
pub struct Claim<'a> {
    pairings: &'a Pairings,
    device_code: TokenHash,
    about: About,
    /// What becomes of the pairing.
    stage: Stage,
}

impl Claim<'_> {
    /// What the device says about itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The device is made and belongs to `user`. Without this call the code is open again.
    pub fn succeed(mut self, user: UserId, device: DeviceId) {
        self.stage = Stage::Claimed(user, device);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(pairing) = self.pairings.lock().pairings.get_mut(&self.device_code) {
            pairing.stage = self.stage;
            if self.stage != Stage::Open {
                // Claimed in its last second, it still waits for the device.
                pairing.end = pairing.end.max(Instant::now() + Duration::from_secs(PAIRING_SECONDS));
            }
        }
    }
}

/// A claimed pairing whose device is getting its token: once. Unless that succeeds, the device can come again.
pub struct Handout<'a> {
    pairings: &'a Pairings,
    device_code: TokenHash,
    /// Whose the device is.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    done: bool,
}

impl Handout<'_> {
    /// The token is made, or there is nothing to come again for.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Handout<'_> {
    fn drop(&mut self) {
        let mut state = self.pairings.lock();
        if self.done {
            state.forget(&self.device_code);
        } else if let Some(pairing) = state.pairings.get_mut(&self.device_code) {
            pairing.stage = Stage::Claimed(self.user, self.device);
            pairing.next_poll = Instant::now(); // not the device's fault
        }
    }
}

impl Pairings {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Begins a pairing.
    ///
    /// # Errors
    /// [`PairingError::Full`], [`PairingError::NoRandom`].
    pub fn begin(&self, about: About, now: Instant) -> Result<Begun, PairingError> {
        let device_code = Secret::device_code().ok_or(PairingError::NoRandom)?;
        let mut state = self.lock();
        if state.pairings.len() >= MAX_OPEN {
            state.forget_stale(now);
        }
        if state.pairings.len() >= MAX_OPEN {
            return Err(PairingError::Full);
        }
        let code = loop {
            let code = short_code().ok_or(PairingError::NoRandom)?;
            if !state.codes.contains_key(&code) {
                break code;
            }
        };
        let end = now + Duration::from_secs(PAIRING_SECONDS);
        let pairing = Pairing { code: code.clone(), about, stage: Stage::Open, wrong: 0, end, next_poll: now };
        state.codes.insert(code.clone(), device_code.hash());
        state.pairings.insert(device_code.hash(), pairing);
        Ok(Begun { device_code, code })
    }

    /// Claims `typed` for `user`. Case, blanks and dashes do not matter.
    ///
    /// # Errors
    /// [`PairingError::Unknown`]; [`PairingError::TooMany`] for who has guessed too often.
    pub fn claim(&self, typed: &str, user: UserId, now: Instant) -> Result<Claim<'_>, PairingError> {
        let code: String = typed.chars().filter(|c| !matches!(c, ' ' | '-')).take(CODE_CHARS + 1).collect();
        let code = code.to_ascii_uppercase();
        let mut state = self.lock();
        if let Some(&(count, end)) = state.guesses.get(&user)
            && end > now
            && count >= MAX_WRONG
        {
            return Err(PairingError::TooMany(end - now));
        }
        state.guesses.retain(|_, (_, end)| *end > now);
        // What is no code at all is a slip, not a guess.
        if code.len() != CODE_CHARS || !code.bytes().all(|b| ALPHABET.contains(&b)) {
            return Err(PairingError::Unknown);
        }
        let device_code = state.codes.get(&code).copied();
        let found = device_code.and_then(|hash| state.pairings.get_mut(&hash).map(|pairing| (hash, pairing)));
        match found.filter(|(_, pairing)| pairing.stage == Stage::Open && pairing.end > now) {
            Some((device_code, pairing)) => {
                pairing.stage = Stage::Claiming;
                let about = pairing.about.clone();
                Ok(Claim { pairings: self, device_code, about, stage: Stage::Open })
            }
            None => {
                state.wrong(user, now);
                Err(PairingError::Unknown)
            }
        }
    }

    /// The device asks. A claimed pairing is handed out once.
    ///
    /// # Errors
    /// [`PairingError::Unknown`] when it has ended: begin again; [`PairingError::TooMany`] when it asks too often.
    pub fn poll(&self, device_code: &str, now: Instant) -> Result<Polled<'_>, PairingError> {
        let hash = TokenHash::of(device_code);
        let mut state = self.lock();
        let pairing = state.pairings.get_mut(&hash).filter(|pairing| pairing.end > now).ok_or(PairingError::Unknown)?;
        if pairing.next_poll > now + POLL_GRACE {
            return Err(PairingError::TooMany(pairing.next_poll - now));
        }
        pairing.next_poll = now + Duration::from_secs(POLL_SECONDS);
        match pairing.stage {
            Stage::Claimed(user, device) => {
                pairing.stage = Stage::HandingOut;
                Ok(Polled::Claimed(Handout { pairings: self, device_code: hash, user, device, done: false }))
            }
            Stage::HandingOut => Err(PairingError::Unknown),
            Stage::Open | Stage::Claiming => Ok(Polled::Pending(pairing.end - now)),
        }
    }

    /// Forgets what has ended.
    pub fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        state.forget_stale(now);
        state.pairings.shrink_to_fit();
        state.codes.shrink_to_fit();
        state.guesses.shrink_to_fit();
    }
}

/// A random short code; `None` when the system gives no random numbers.
fn short_code() -> Option<String> {
    let mut bytes = [0u8; CODE_CHARS];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId(1);
    const BOB: UserId = UserId(2);

    fn begun(pairings: &Pairings, now: Instant) -> Begun {
        pairings.begin(About::default(), now).unwrap()
    }

    fn later(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    /// A well-formed code that is not `code`.
    fn other(code: &str) -> String {
        code.chars().map(|c| if c == '2' { '3' } else { '2' }).collect()
    }

    /// The handout, when the pairing is claimed.
    fn handed<'a>(pairings: &'a Pairings, device_code: &Secret, now: Instant) -> Option<Handout<'a>> {
        match pairings.poll(device_code.reveal(), now) {
            Ok(Polled::Claimed(handout)) => Some(handout),
            _ => None,
        }
    }

    #[test]
    fn what_is_claimed_in_the_last_second_is_still_fetched() {
        let pairings = Pairings::default();
        let begun_at = Instant::now().checked_sub(Duration::from_secs(PAIRING_SECONDS - 1)).unwrap();
        let Begun { device_code, code } = begun(&pairings, begun_at);
        pairings.claim(&code, ANA, Instant::now()).unwrap().succeed(ANA, DeviceId(7));
        assert!(handed(&pairings, &device_code, later(begun_at, PAIRING_SECONDS + 5)).is_some());
    }

    #[test]
    fn slips_are_no_guesses() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        let code = begun(&pairings, now).code;
        for slip in ["", "ABC", "O0I1O0", "ABCDEFG", "äöüÄÖÜ", "      "] {
            for _ in 0..MAX_WRONG {
                assert_eq!(pairings.claim(slip, ANA, now).err(), Some(PairingError::Unknown));
            }
        }
        assert!(pairings.claim(&code, ANA, now).is_ok());
    }

    #[test]
    fn shown_typed_fetched_once() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        let Begun { device_code, code } = begun(&pairings, now);
        assert!(code.len() == 6 && !code.contains(['0', 'O', '1', 'I']));
        assert!(matches!(pairings.poll(device_code.reveal(), now), Ok(Polled::Pending(left)) if left.as_secs() == 600));
        let typed = format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..]);
        pairings.claim(&typed, ANA, now).unwrap().succeed(ANA, DeviceId(7));
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown), "a replay");
        let now = later(now, POLL_SECONDS);
        let handout = handed(&pairings, &device_code, now).unwrap();
        assert_eq!((handout.user, handout.device), (ANA, DeviceId(7)));
        let now = later(now, POLL_SECONDS);
        assert!(handed(&pairings, &device_code, now).is_none(), "one of two that ask at once");
        drop(handout); // the token could not be made, or the device hung up
        let now = later(now, POLL_SECONDS);
        handed(&pairings, &device_code, now).unwrap().done();
        assert_eq!(pairings.poll(device_code.reveal(), later(now, 5)).err(), Some(PairingError::Unknown));
    }

    #[test]
    fn one_of_two_who_race_wins_and_a_failure_opens_it_again() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        let code = begun(&pairings, now).code;
        let claim = pairings.claim(&code, ANA, now).unwrap();
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown));
        drop(claim);
        assert!(pairings.claim(&code, BOB, now).is_ok());
    }

    #[test]
    fn guessing_burns_the_code_and_bars_who_guesses() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        let Begun { device_code, code } = begun(&pairings, now);
        for _ in 0..MAX_WRONG {
            assert_eq!(pairings.claim(&other(&code), ANA, now).err(), Some(PairingError::Unknown));
        }
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown), "burned");
        assert_eq!(pairings.poll(device_code.reveal(), now).err(), Some(PairingError::Unknown));
        let fresh = begun(&pairings, now).code;
        assert!(matches!(pairings.claim(&fresh, ANA, now), Err(PairingError::TooMany(wait)) if wait.as_secs() == 600));
        assert!(pairings.claim(&fresh, BOB, now).is_ok());
        let now = later(now, PAIRING_SECONDS + 1);
        let fresh = begun(&pairings, now).code;
        assert!(pairings.claim(&fresh, ANA, now).is_ok(), "forgiven after a while");
    }

    #[test]
    fn codes_end_and_impatience_is_told() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        let Begun { device_code, code } = begun(&pairings, now);
        pairings.poll(device_code.reveal(), now).unwrap();
        assert!(matches!(pairings.poll(device_code.reveal(), later(now, 1)), Err(PairingError::TooMany(_))));
        assert!(pairings.poll(device_code.reveal(), later(now, 4)).is_ok());
        let end = later(now, PAIRING_SECONDS);
        assert_eq!(pairings.poll(device_code.reveal(), end).err(), Some(PairingError::Unknown));
        assert_eq!(pairings.claim(&code, ANA, end).err(), Some(PairingError::Unknown));
        pairings.sweep(end);
        assert!(pairings.lock().pairings.is_empty() && pairings.lock().codes.is_empty());
    }

    #[test]
    fn the_number_is_bounded() {
        let (pairings, now) = (Pairings::default(), Instant::now());
        for _ in 0..MAX_OPEN {
            begun(&pairings, now);
        }
        assert_eq!(pairings.begin(About::default(), now).err(), Some(PairingError::Full));
        assert!(pairings.begin(About::default(), later(now, PAIRING_SECONDS)).is_ok(), "what has ended makes room");
    }
}
