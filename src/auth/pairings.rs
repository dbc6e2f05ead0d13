//! Pairings of devices without a keyboard, after OAuth's device authorization grant (RFC 8628): the device shows a user code, its
//! owner types that in elsewhere, and the device, polling with its device code, gets a token of its own.
//!
//! In memory only: after a restart the device starts again, which takes a moment.
//!
//! # Invariants
//! - A user code is valid for [`PAIRING_SECONDS`] and one claim. Of two concurrent claims, one succeeds.
//! - Wrong codes count against all open pairings: at [`MAX_WRONG_CODES`] a pairing ends, whoever guessed. So a guesser has five
//!   tries in a billion (for each open code), and is then blocked for [`PAIRING_SECONDS`].
//! - The number of open pairings is bounded. Where there are too many, the oldest of the address that has begun the most of them makes
//!   room: whoever begins many can't keep others from it.
//! - The device code, 256 random bits, is kept as its hash only; the token is made when the device fetches it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use rand::TryRng;
use rand::rngs::SysRng;

use super::Secret;
use crate::admission::NetKey;
use crate::core::boot::BootInstant;
use crate::core::ids::{DeviceId, UserId};
use crate::store::TokenHash;

/// The lifetime of a code, in seconds (`expires_in`).
pub const PAIRING_SECONDS: u64 = 600;
/// The least time between polls of a device, in seconds (`interval`).
pub const POLL_SECONDS: u64 = 5;
/// A poll may be that much early.
const POLL_GRACE: Duration = Duration::from_secs(2);
/// The number of wrong codes that ends an open pairing, or blocks the user who sent them.
pub const MAX_WRONG_CODES: u8 = 5;
/// The largest number of open pairings.
const MAX_PAIRINGS: usize = 10_000;
/// Letters and digits that are not mistaken for one another; 32, so that five bits choose one without bias.
const CODE_ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// The length of a user code.
const CODE_CHARS: usize = 6;

/// A device's description of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// For people.
    pub name: Option<String>,
    /// Unique: identifies a device that is paired again.
    pub serial: Option<String>,
    /// For people.
    pub model: Option<String>,
}

/// The answer to a started pairing (RFC 8628 section 3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    /// The device's secret, with which it polls.
    pub device_code: Secret,
    /// The code that the device shows and its owner types in.
    pub user_code: String,
}

/// Errors of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// Too many pairings are open, and no other address has more of them.
    #[error("too many pairings")]
    Full,
    /// The system returned no random numbers.
    #[error("no random numbers")]
    NoRandom,
    /// There is no such code, or it has expired or been used.
    #[error("no such pairing")]
    Unknown,
    /// This user has sent too many wrong codes, or this device polls too often; retry after that time.
    #[error("too many attempts")]
    TooMany(Duration),
}

/// The state of a pairing, for the device that polls.
pub enum Poll<'a> {
    /// Not claimed yet; the time until it expires.
    Pending(Duration),
    /// Claimed: the token can be issued.
    Claimed(Handout<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The code has been typed in; the device is being created.
    Claiming,
    Claimed(UserId, DeviceId),
    /// The device has polled; its token is being issued.
    HandingOut,
}

struct Pairing {
    user_code: String,
    /// The address that has begun it.
    from: NetKey,
    device: DeviceInfo,
    stage: Stage,
    wrong: u8,
    end: BootInstant,
    next_poll: BootInstant,
}

#[derive(Default)]
struct State {
    pairings: HashMap<TokenHash, Pairing>,
    /// User code → the hash of the device code.
    codes: HashMap<String, TokenHash>,
    /// Wrong codes of a user, and the moment they are forgotten.
    guesses: HashMap<UserId, (u8, BootInstant)>,
}

impl State {
    fn remove(&mut self, device_code: &TokenHash) {
        if let Some(pairing) = self.pairings.remove(device_code) {
            self.codes.remove(&pairing.user_code);
        }
    }

    /// Removes the oldest pairing that nobody has claimed of the address that has begun the most of them, where that has more than
    /// `from`; returns whether it did.
    fn make_room(&mut self, from: NetKey) -> bool {
        let mut addresses: HashMap<NetKey, (usize, BootInstant, &TokenHash)> = HashMap::new();
        for (hash, pairing) in self.pairings.iter().filter(|(_, pairing)| pairing.stage == Stage::Open) {
            let begun = addresses.entry(pairing.from).or_insert((0, pairing.end, hash));
            begun.0 += 1;
            if pairing.end < begun.1 {
                (begun.1, begun.2) = (pairing.end, hash);
            }
        }
        let own = addresses.get(&from).map_or(0, |begun| begun.0);
        let most = addresses.values().max_by_key(|(count, end, _)| (*count, Reverse(*end)));
        let oldest = most.filter(|(count, ..)| *count > own + 1).map(|(.., hash)| **hash);
        oldest.inspect(|hash| self.remove(hash)).is_some()
    }

    fn remove_expired(&mut self, now: BootInstant) {
        self.pairings.retain(|_, pairing| pairing.end > now);
        let pairings = &self.pairings;
        self.codes.retain(|_, device_code| pairings.contains_key(device_code));
        self.guesses.retain(|_, (_, end)| *end > now);
    }

    /// Counts a wrong code of `user`.
    fn count_wrong(&mut self, user: UserId, now: BootInstant) {
        let (count, _) = self.guesses.entry(user).or_insert((0, now + Duration::from_secs(PAIRING_SECONDS)));
        *count += 1;
        self.pairings.retain(|_, pairing| {
            pairing.wrong += u8::from(pairing.stage == Stage::Open);
            pairing.wrong < MAX_WRONG_CODES
        });
        let pairings = &self.pairings;
        self.codes.retain(|_, device_code| pairings.contains_key(device_code));
    }
}

/// The open pairings.
#[derive(Default)]
pub struct Pairings(Mutex<State>);

/// A claim under way: until it is dropped, nobody else can claim the code.
pub struct Claim<'a> {
    pairings: &'a Pairings,
    device_code: TokenHash,
    device: DeviceInfo,
    /// The pairing's stage after the claim.
    stage: Stage,
}

impl Claim<'_> {
    /// Returns the device's description of itself.
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Completes the claim: the device exists and belongs to `user`. Without this call the code is open again.
    pub fn succeed(mut self, user: UserId, device: DeviceId) {
        self.stage = Stage::Claimed(user, device);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(pairing) = self.pairings.lock().pairings.get_mut(&self.device_code) {
            pairing.stage = self.stage;
            if self.stage != Stage::Open {
                // Claimed in its last second, it still waits for the device to poll.
                pairing.end = pairing.end.max(BootInstant::now() + Duration::from_secs(PAIRING_SECONDS));
            }
        }
    }
}

/// A claimed pairing whose device is being issued its token, once. Unless that succeeds, the device can poll again.
pub struct Handout<'a> {
    pairings: &'a Pairings,
    device_code: TokenHash,
    /// The owner of the device.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    done: bool,
}

impl Handout<'_> {
    /// Ends the pairing: the token is issued, or a retry can't succeed.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Handout<'_> {
    fn drop(&mut self) {
        let mut state = self.pairings.lock();
        if self.done {
            state.remove(&self.device_code);
        } else if let Some(pairing) = state.pairings.get_mut(&self.device_code) {
            pairing.stage = Stage::Claimed(self.user, self.device);
            pairing.next_poll = BootInstant::now(); // not the device's fault
        }
    }
}

impl Pairings {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Starts a pairing of a device at address `from`.
    ///
    /// # Errors
    /// [`PairingError::Full`], [`PairingError::NoRandom`].
    pub fn begin(&self, device: DeviceInfo, from: NetKey, now: BootInstant) -> Result<DeviceAuthorization, PairingError> {
        let device_code = Secret::device_code().ok_or(PairingError::NoRandom)?;
        let mut state = self.lock();
        if state.pairings.len() >= MAX_PAIRINGS {
            state.remove_expired(now);
        }
        if state.pairings.len() >= MAX_PAIRINGS && !state.make_room(from) {
            return Err(PairingError::Full);
        }
        let code = loop {
            let code = user_code().ok_or(PairingError::NoRandom)?;
            if !state.codes.contains_key(&code) {
                break code;
            }
        };
        let end = now + Duration::from_secs(PAIRING_SECONDS);
        let pairing = Pairing { user_code: code.clone(), from, device, stage: Stage::Open, wrong: 0, end, next_poll: now };
        state.codes.insert(code.clone(), device_code.hash());
        state.pairings.insert(device_code.hash(), pairing);
        Ok(DeviceAuthorization { device_code, user_code: code })
    }

    /// Claims the pairing with the user code `typed` for `user`. Case, blanks and dashes do not matter.
    ///
    /// # Errors
    /// [`PairingError::Unknown`]; [`PairingError::TooMany`] after too many wrong codes.
    pub fn claim(&self, typed: &str, user: UserId, now: BootInstant) -> Result<Claim<'_>, PairingError> {
        let code: String = typed.chars().filter(|c| !matches!(c, ' ' | '-')).take(CODE_CHARS + 1).collect();
        let code = code.to_ascii_uppercase();
        let mut state = self.lock();
        if let Some(&(count, end)) = state.guesses.get(&user)
            && end > now
            && count >= MAX_WRONG_CODES
        {
            return Err(PairingError::TooMany(end.since(now)));
        }
        state.guesses.retain(|_, (_, end)| *end > now);
        // Text that can't be a code is a typing error, not a guess.
        if code.len() != CODE_CHARS || !code.bytes().all(|b| CODE_ALPHABET.contains(&b)) {
            return Err(PairingError::Unknown);
        }
        let device_code = state.codes.get(&code).copied();
        let found = device_code.and_then(|hash| state.pairings.get_mut(&hash).map(|pairing| (hash, pairing)));
        match found.filter(|(_, pairing)| pairing.stage == Stage::Open && pairing.end > now) {
            Some((device_code, pairing)) => {
                pairing.stage = Stage::Claiming;
                let device = pairing.device.clone();
                Ok(Claim { pairings: self, device_code, device, stage: Stage::Open })
            }
            None => {
                state.count_wrong(user, now);
                Err(PairingError::Unknown)
            }
        }
    }

    /// Returns the state of the pairing with that device code. A claimed pairing is handed out once.
    ///
    /// # Errors
    /// [`PairingError::Unknown`] when it has ended; [`PairingError::TooMany`] when the device polls too often.
    pub fn poll(&self, device_code: &str, now: BootInstant) -> Result<Poll<'_>, PairingError> {
        let hash = TokenHash::of(device_code);
        let mut state = self.lock();
        let pairing = state.pairings.get_mut(&hash).filter(|pairing| pairing.end > now).ok_or(PairingError::Unknown)?;
        if pairing.next_poll > now + POLL_GRACE {
            return Err(PairingError::TooMany(pairing.next_poll.since(now)));
        }
        pairing.next_poll = now + Duration::from_secs(POLL_SECONDS);
        match pairing.stage {
            Stage::Claimed(user, device) => {
                pairing.stage = Stage::HandingOut;
                Ok(Poll::Claimed(Handout { pairings: self, device_code: hash, user, device, done: false }))
            }
            Stage::HandingOut => Err(PairingError::Unknown),
            Stage::Open | Stage::Claiming => Ok(Poll::Pending(pairing.end.since(now))),
        }
    }

    /// Removes expired pairings and counts.
    pub fn sweep(&self, now: BootInstant) {
        let mut state = self.lock();
        state.remove_expired(now);
        state.pairings.shrink_to_fit();
        state.codes.shrink_to_fit();
        state.guesses.shrink_to_fit();
    }
}

/// Returns a random user code; `None` when the system returns no random numbers.
fn user_code() -> Option<String> {
    let mut bytes = [0u8; CODE_CHARS];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ANA: UserId = UserId(1);
    const BOB: UserId = UserId(2);

    fn begun(pairings: &Pairings, now: BootInstant) -> DeviceAuthorization {
        begun_at(pairings, 1, now).unwrap()
    }

    /// Begins a pairing at address number `n`.
    fn begun_at(pairings: &Pairings, n: u32, now: BootInstant) -> Result<DeviceAuthorization, PairingError> {
        let from = NetKey::Net(Ipv4Addr::from(n).into());
        pairings.begin(DeviceInfo::default(), from, now)
    }

    fn later(now: BootInstant, seconds: u64) -> BootInstant {
        now + Duration::from_secs(seconds)
    }

    /// A well-formed code that is not `code`.
    fn other(code: &str) -> String {
        code.chars().map(|c| if c == '2' { '3' } else { '2' }).collect()
    }

    /// The handout, when the pairing is claimed.
    fn handed<'a>(pairings: &'a Pairings, device_code: &Secret, now: BootInstant) -> Option<Handout<'a>> {
        match pairings.poll(device_code.reveal(), now) {
            Ok(Poll::Claimed(handout)) => Some(handout),
            _ => None,
        }
    }

    #[test]
    fn pairing_claimed_in_its_last_second_can_be_fetched() {
        let pairings = Pairings::default();
        let begun_at = BootInstant::now().before(Duration::from_secs(PAIRING_SECONDS - 1));
        let DeviceAuthorization { device_code, user_code: code } = begun(&pairings, begun_at);
        pairings.claim(&code, ANA, BootInstant::now()).unwrap().succeed(ANA, DeviceId(7));
        assert!(handed(&pairings, &device_code, later(begun_at, PAIRING_SECONDS + 5)).is_some());
    }

    #[test]
    fn malformed_codes_are_not_counted_as_guesses() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        let code = begun(&pairings, now).user_code;
        for malformed in ["", "ABC", "O0I1O0", "ABCDEFG", "äöüÄÖÜ", "      "] {
            for _ in 0..MAX_WRONG_CODES {
                assert_eq!(pairings.claim(malformed, ANA, now).err(), Some(PairingError::Unknown));
            }
        }
        assert!(pairings.claim(&code, ANA, now).is_ok());
    }

    #[test]
    fn pairing_hands_out_one_token_to_one_claimant() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        let DeviceAuthorization { device_code, user_code: code } = begun(&pairings, now);
        assert!(code.len() == 6 && !code.contains(['0', 'O', '1', 'I']));
        assert!(matches!(pairings.poll(device_code.reveal(), now), Ok(Poll::Pending(left)) if left.as_secs() == 600));
        let typed = format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..]);
        pairings.claim(&typed, ANA, now).unwrap().succeed(ANA, DeviceId(7));
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown), "a replay");
        let now = later(now, POLL_SECONDS);
        let handout = handed(&pairings, &device_code, now).unwrap();
        assert_eq!((handout.user, handout.device), (ANA, DeviceId(7)));
        let now = later(now, POLL_SECONDS);
        assert!(handed(&pairings, &device_code, now).is_none(), "one of two that poll at once");
        drop(handout); // the token could not be issued, or the device disconnected
        let now = later(now, POLL_SECONDS);
        handed(&pairings, &device_code, now).unwrap().done();
        assert_eq!(pairings.poll(device_code.reveal(), later(now, 5)).err(), Some(PairingError::Unknown));
    }

    #[test]
    fn claim_excludes_others_until_it_fails() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        let code = begun(&pairings, now).user_code;
        let claim = pairings.claim(&code, ANA, now).unwrap();
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown));
        drop(claim);
        assert!(pairings.claim(&code, BOB, now).is_ok());
    }

    #[test]
    fn wrong_codes_end_open_pairings_and_block_the_guesser() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        let DeviceAuthorization { device_code, user_code: code } = begun(&pairings, now);
        for _ in 0..MAX_WRONG_CODES {
            assert_eq!(pairings.claim(&other(&code), ANA, now).err(), Some(PairingError::Unknown));
        }
        assert_eq!(pairings.claim(&code, BOB, now).err(), Some(PairingError::Unknown), "ended");
        assert_eq!(pairings.poll(device_code.reveal(), now).err(), Some(PairingError::Unknown));
        let fresh = begun(&pairings, now).user_code;
        assert!(matches!(pairings.claim(&fresh, ANA, now), Err(PairingError::TooMany(wait)) if wait.as_secs() == 600));
        assert!(pairings.claim(&fresh, BOB, now).is_ok());
        let now = later(now, PAIRING_SECONDS + 1);
        let fresh = begun(&pairings, now).user_code;
        assert!(pairings.claim(&fresh, ANA, now).is_ok(), "no longer blocked");
    }

    #[test]
    fn codes_expire_and_early_polls_are_refused() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        let DeviceAuthorization { device_code, user_code: code } = begun(&pairings, now);
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
    fn open_pairings_are_bounded() {
        let (pairings, now) = (Pairings::default(), BootInstant::now());
        for _ in 0..MAX_PAIRINGS {
            begun(&pairings, now);
        }
        assert_eq!(begun_at(&pairings, 1, now).err(), Some(PairingError::Full));
        assert!(begun_at(&pairings, 1, later(now, PAIRING_SECONDS)).is_ok(), "expired pairings make room");
    }

    #[test]
    fn address_that_begins_the_most_makes_room_for_others() {
        let (pairings, start) = (Pairings::default(), BootInstant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        let ana = begun_at(&pairings, 1, start).unwrap();
        let crowd: Vec<_> = (1..MAX_PAIRINGS).map(|n| begun_at(&pairings, 2, at(n)).unwrap()).collect();
        let open = |begun: &DeviceAuthorization| pairings.lock().codes.contains_key(&begun.user_code);
        // One that has been claimed is the device's own, and stays.
        pairings.claim(&crowd[0].user_code, ANA, start).unwrap().succeed(ANA, DeviceId(7));
        for n in 0..20 {
            assert!(open(&crowd[n + 1]), "{n}");
            let begun = begun_at(&pairings, 10 + n as u32, at(MAX_PAIRINGS + n)).unwrap();
            assert!(!open(&crowd[n + 1]) && open(&begun) && open(&ana) && open(&crowd[0]), "{n}");
            assert_eq!(begun_at(&pairings, 2, at(MAX_PAIRINGS)).err(), Some(PairingError::Full));
        }
        assert_eq!(pairings.lock().pairings.len(), MAX_PAIRINGS);
        assert_eq!(pairings.lock().codes.len(), MAX_PAIRINGS);
    }
}
