//! Pairings of devices without a keyboard, after OAuth's device authorization grant (RFC 8628): the device shows a user code, its
//! owner types that in elsewhere, and the device, polling with its device code, gets a token of its own.
//!
//! # Invariants
//! - A user code is valid for [`PAIRING_SECONDS`] and one claim, which is made together with the device's record.
//! - A claimed pairing is collected once, together with the device's token.
//! - Wrong codes count against all open pairings: at [`MAX_WRONG_CODES`] a pairing ends, whoever guessed. So a guesser has five
//!   tries in a billion (for each open code), and is then blocked for [`PAIRING_SECONDS`].
//! - The number of open pairings is bounded. Where there are too many, the oldest of the address that has begun the most of them makes
//!   room: whoever begins many can't keep others from it.
//! - The device code, 256 random bits, is kept as its hash only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accounts::change_device;
use super::clock::{self, Moment};
use super::machine::{Machine, Operation};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::store::accounts::{read, write};
use crate::store::{
    Authority, Device, DeviceChange, DeviceInfo, Guesses, MetaKey, NewDevice, NewToken, Pairing, Result, Severity, StoreError,
    Token, TokenHash, TokenKind, Trees,
};

/// The lifetime of a code, in seconds (`expires_in`).
pub const PAIRING_SECONDS: u64 = 600;
/// The number of wrong codes that ends an open pairing, or blocks the user who sent them.
pub const MAX_WRONG_CODES: u8 = 5;
/// The largest number of open pairings.
const MAX_PAIRINGS: usize = 10_000;
/// The most that one operation removes because their time is over.
const MAX_EXPIRED: usize = 1000;

/// Errors of a pairing.
#[derive(Debug, thiserror::Error)]
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
    /// The store failed or refused the change.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for PairingError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// The state of a pairing, for the device that polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingState {
    /// Not claimed yet; the time until it expires.
    Pending(Duration),
    /// Claimed: the token can be collected.
    Claimed(UserId),
}

/// The pairings, and the wrong codes of users.
#[derive(Debug, Default)]
pub struct Pairings {
    /// By the hash of the device code.
    pairings: HashMap<TokenHash, Pairing>,
    /// User code → the hash of the device code.
    codes: HashMap<String, TokenHash>,
    /// All of them, oldest first.
    numbers: BTreeMap<u64, TokenHash>,
    guesses: HashMap<UserId, Guesses>,
    /// The number of wrong codes that were ever tried.
    wrong: u64,
}

impl Pairings {
    /// Reads those in the store.
    ///
    /// # Errors
    /// If the store fails.
    pub fn load(trees: &Trees) -> Result<Self> {
        let mut pairings = Self { wrong: trees.meta.get(MetaKey::WrongCodes)?.unwrap_or(0), ..Self::default() };
        for entry in trees.pairings.iter() {
            let (device_code, pairing) = entry?;
            pairings.insert(device_code, pairing);
        }
        pairings.guesses = trees.guesses.iter().collect::<Result<_>>()?;
        Ok(pairings)
    }

    /// Adds a pairing, or replaces that of the same device code.
    fn insert(&mut self, device_code: TokenHash, pairing: Pairing) {
        self.remove(&device_code);
        self.codes.insert(pairing.user_code.clone(), device_code);
        self.numbers.insert(pairing.number, device_code);
        self.pairings.insert(device_code, pairing);
    }

    fn remove(&mut self, device_code: &TokenHash) {
        if let Some(pairing) = self.pairings.remove(device_code) {
            self.codes.remove(&pairing.user_code);
            self.numbers.remove(&pairing.number);
        }
    }

    /// Returns whether a pairing has ended by time, or by wrong codes.
    fn is_over(&self, pairing: &Pairing, now: u64) -> bool {
        let guessed = pairing.claimed.is_none() && self.wrong - pairing.wrong_before >= u64::from(MAX_WRONG_CODES);
        pairing.until <= now || guessed
    }

    /// Returns the pairing with that device code, unless it has ended.
    fn get(&self, device_code: &TokenHash, now: u64) -> Option<&Pairing> {
        self.pairings.get(device_code).filter(|pairing| !self.is_over(pairing, now))
    }

    /// Returns the state of a pairing at `now`, by the clock of credentials; `None` where it has ended.
    pub fn state(&self, device_code: &TokenHash, now: u64) -> Option<PairingState> {
        let pairing = self.get(device_code, now)?;
        Some(match pairing.claimed {
            None => PairingState::Pending(Duration::from_millis(pairing.until - now)),
            Some((user, _)) => PairingState::Claimed(user),
        })
    }

    /// Returns the time for which `user` is blocked, who has sent too many wrong codes.
    pub fn blocked(&self, user: UserId, now: u64) -> Option<Duration> {
        let guesses = self.guesses.get(&user).filter(|guesses| guesses.until > now && guesses.count >= MAX_WRONG_CODES)?;
        Some(Duration::from_millis(guesses.until - now))
    }

    /// Returns up to `most` pairings that have ended.
    fn over(&self, now: u64, most: usize) -> Vec<TokenHash> {
        let ended = |code: &&TokenHash| self.pairings.get(code).is_some_and(|pairing| self.is_over(pairing, now));
        self.numbers.values().filter(ended).take(most).copied().collect()
    }

    /// Returns the oldest pairing that nobody has claimed of the address that has begun the most of them, where that has more than
    /// `from`.
    fn excess(&self, from: &str) -> Option<TokenHash> {
        let mut addresses: HashMap<&str, (usize, u64, TokenHash)> = HashMap::new();
        for (&number, code) in &self.numbers {
            let Some(pairing) = self.pairings.get(code).filter(|pairing| pairing.claimed.is_none()) else { continue };
            addresses.entry(&pairing.from).or_insert((0, number, *code)).0 += 1;
        }
        let own = addresses.get(from).map_or(0, |begun| begun.0);
        let most = addresses.values().max_by_key(|(count, oldest, _)| (*count, Reverse(*oldest)))?;
        (most.0 > own + 1).then_some(most.2)
    }
}

/// Removes a pairing.
fn remove(machine: &Machine<'_>, device_code: &TokenHash) -> Result<()> {
    machine.memory().pairings.remove(device_code);
    machine.trees.pairings.remove(device_code)
}

/// Adds a pairing, or replaces it.
fn put(machine: &Machine<'_>, device_code: TokenHash, pairing: Pairing) -> Result<()> {
    machine.trees.pairings.insert(&device_code, &pairing)?;
    machine.memory().pairings.insert(device_code, pairing);
    Ok(())
}

/// Removes pairings and guesses whose time is over: a bounded number of them.
pub(super) fn expire(machine: &Machine<'_>, moment: Moment) -> Result<()> {
    let now = moment.clock.lived;
    let over = machine.memory().pairings.over(now, MAX_EXPIRED);
    over.iter().try_for_each(|device_code| remove(machine, device_code))?;
    let mut forgotten: Vec<UserId> = {
        let memory = machine.memory();
        memory.pairings.guesses.iter().filter(|(_, guesses)| guesses.until <= now).map(|(user, _)| *user).collect()
    };
    forgotten.sort_unstable();
    for user in forgotten.into_iter().take(MAX_EXPIRED) {
        machine.memory().pairings.guesses.remove(&user);
        machine.trees.guesses.remove(&user)?;
    }
    Ok(())
}

/// Counts a wrong code of `user`.
fn count_wrong(machine: &Machine<'_>, user: UserId, now: u64) -> Result<()> {
    let (guesses, wrong) = {
        let mut memory = machine.memory();
        let fresh = Guesses { count: 0, until: now.saturating_add(PAIRING_SECONDS * 1000) };
        let guesses = memory.pairings.guesses.entry(user).or_insert(fresh);
        if guesses.until <= now {
            *guesses = fresh;
        }
        guesses.count = guesses.count.saturating_add(1);
        let guesses = *guesses;
        memory.pairings.wrong += 1;
        (guesses, memory.pairings.wrong)
    };
    machine.trees.guesses.insert(&user, &guesses)?;
    machine.trees.meta.set(MetaKey::WrongCodes, wrong)
}

/// Starts a pairing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginPairing {
    /// The hash of the device code.
    pub device_code: TokenHash,
    /// User codes, of which the first one that is free is taken.
    pub codes: Vec<String>,
    /// The device.
    pub device: DeviceInfo,
    /// The address that begins it, as limits count it.
    pub from: String,
}

impl Operation for BeginPairing {
    /// The user code.
    type Output = String;
    /// [`PairingError::Full`].
    type Error = PairingError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<String, PairingError> {
        let now = moment.clock.lived;
        if machine.memory().pairings.pairings.len() >= MAX_PAIRINGS {
            expire(machine, moment)?;
        }
        if machine.memory().pairings.pairings.len() >= MAX_PAIRINGS {
            let excess = machine.memory().pairings.excess(&self.from).ok_or(PairingError::Full)?;
            remove(machine, &excess)?;
        }
        let (code, number, wrong_before) = {
            let memory = machine.memory();
            let known = &memory.pairings;
            let free = self.codes.into_iter().find(|code| !known.codes.contains_key(code));
            let number = known.numbers.last_key_value().map_or(1, |(last, _)| last + 1);
            (free.ok_or(PairingError::Full)?, number, known.wrong)
        };
        let until = now.saturating_add(PAIRING_SECONDS * 1000);
        let Self { device, from, device_code, .. } = self;
        put(machine, device_code, Pairing { number, user_code: code.clone(), from, device, claimed: None, wrong_before, until })?;
        Ok(code)
    }
}

/// Claims the device that shows a code: makes its record, or takes the one that its user has of it by its serial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPairing {
    /// The user code.
    pub code: String,
    /// The user who has typed it in, whose wrong codes count.
    pub by: UserId,
    /// The user who gets the device.
    pub user: UserId,
    /// The device's name, instead of its own.
    pub name: Option<String>,
    /// Whether it becomes the primary device; where that is `None`, if it is the only one of its user.
    pub primary: Option<bool>,
    /// The most devices that a user may have; 0: any number.
    pub limit: usize,
}

impl Operation for ClaimPairing {
    type Output = Device;
    /// [`PairingError::Unknown`], which counts as a wrong code; [`PairingError::TooMany`] of them; those of
    /// [`CreateDevice`](super::CreateDevice), after which the code is good still.
    type Error = PairingError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Device, PairingError> {
        let now = moment.clock.lived;
        let found = {
            let memory = machine.memory();
            if let Some(wait) = memory.pairings.blocked(self.by, now) {
                return Err(PairingError::TooMany(wait));
            }
            let code = memory.pairings.codes.get(&self.code).copied();
            code.and_then(|code| Some((code, memory.pairings.get(&code, now)?.clone())))
        };
        let Some((device_code, pairing)) = found.filter(|(_, pairing)| pairing.claimed.is_none()) else {
            count_wrong(machine, self.by, now)?;
            return Err(PairingError::Unknown);
        };
        let user = self.user;
        let device = self.adopt(machine, &pairing.device, moment)?;
        // Claimed in its last second, it still waits for the device to poll.
        let until = pairing.until.max(now.saturating_add(PAIRING_SECONDS * 1000));
        put(machine, device_code, Pairing { claimed: Some((user, device.id)), until, ..pairing })?;
        Ok(device)
    }
}

impl ClaimPairing {
    /// Returns the device's record: the one that the user has of it, by its serial, or a new one.
    fn adopt(self, machine: &mut Machine<'_>, info: &DeviceInfo, moment: Moment) -> Result<Device> {
        let Self { user, name, primary, limit, .. } = self;
        let trees = machine.trees;
        let own = read::devices_of(trees, user)?;
        let same = info.serial.as_deref().map_or(Ok(Vec::new()), |serial| read::devices_by_serial(trees, serial))?;
        let known = same.into_iter().find(|device| own.contains(&device.id));
        let is_only = own.iter().all(|id| known.as_ref().is_some_and(|known| known.id == *id));
        let primary = primary.unwrap_or(is_only);
        match known {
            Some(known) => {
                let change = DeviceChange { name, model: info.model.clone().map(Some), ..DeviceChange::default() };
                let device = change_device(machine, known.id, change, moment)?;
                if primary {
                    write::set_primary(trees, user, device.id, true)?;
                }
                Ok(device)
            }
            None => {
                let name = name.or_else(|| info.name.clone()).unwrap_or_else(|| "device".into());
                let new = NewDevice { name, serial: info.serial.clone(), model: info.model.clone(), primary, max_bytes: None };
                write::create_device(trees, new, user, limit, moment.wall)
            }
        }
    }
}

/// Collects the token of a claimed device, which replaces those that it had from the same user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectPairing {
    /// The hash of the device code.
    pub device_code: TokenHash,
    /// The hash of the token's secret.
    pub secret: TokenHash,
    /// The most tokens that a user may have.
    pub limit: usize,
}

/// A device that has been paired.
#[derive(Debug)]
pub struct Paired {
    /// Its token.
    pub token: Token,
    /// Its record.
    pub device: Device,
    /// A token that was deleted for the new one.
    pub retired: Option<TokenId>,
}

impl Operation for CollectPairing {
    type Output = Paired;
    /// [`PairingError::Unknown`] where it has ended, is not claimed, or its device or owner is gone, which ends it;
    /// [`StoreError::Full`], after which it can be collected still.
    type Error = PairingError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Paired, PairingError> {
        let Self { device_code, secret, limit } = self;
        let trees = machine.trees;
        let claimed = machine.memory().pairings.get(&device_code, moment.clock.lived).and_then(|pairing| pairing.claimed);
        let (user, id) = claimed.ok_or(PairingError::Unknown)?;
        machine.touch(user); // also after a failure: tokens may have been deleted by then
        match collect(trees, user, id, secret, limit, moment) {
            // The device or its owner has been deleted meanwhile: there is nothing to retry for.
            Err(StoreError::Missing(_)) => {
                remove(machine, &device_code)?;
                Err(PairingError::Unknown)
            }
            Err(error) => Err(error.into()),
            Ok(paired) => {
                remove(machine, &device_code)?;
                clock::save(trees, moment, None)?;
                Ok(paired)
            }
        }
    }
}

/// Makes the token of `device` of `user`, and deletes those that it replaces.
fn collect(trees: &Trees, user: UserId, device: DeviceId, secret: TokenHash, limit: usize, moment: Moment) -> Result<Paired> {
    let record = trees.devices.get(&device)?.ok_or(StoreError::Missing("device"))?;
    write::revoke_device_tokens(trees, user, device)?;
    let new = NewToken {
        device_id: Some(device),
        kind: TokenKind::Device,
        label: "pairing".to_owned(),
        make_room: false,
        because: Authority::System,
        ..NewToken::login(user, secret)
    };
    let (token, retired) = write::create_token(trees, new, limit, &moment.present(trees)?)?;
    Ok(Paired { token, device: record, retired })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::CreateUser;
    use crate::change::testing::World;
    use crate::store::{NewUser, Role};

    fn world() -> (World, [UserId; 2]) {
        let world = World::new();
        let users = ["ana", "bob"].map(|name| {
            let new = NewUser { username: name.into(), role: Role::User, password_hash: "x".into() };
            world.run(CreateUser { new, authority: Authority::System }).unwrap().id
        });
        (world, users)
    }

    fn device_code(n: usize) -> TokenHash {
        TokenHash::of(&format!("device {n}"))
    }

    fn begin_at(world: &World, n: usize, code: &str, from: &str) -> Result<String, PairingError> {
        let (device_code, device) = (device_code(n), DeviceInfo::default());
        world.run(BeginPairing { device_code, codes: vec![code.into()], device, from: from.into() })
    }

    /// Begins the pairing of a device with the serial `s1`.
    fn begin_known(world: &World, n: usize, code: &str) {
        let device = DeviceInfo { serial: Some("s1".into()), ..DeviceInfo::default() };
        let begin = BeginPairing { device_code: device_code(n), codes: vec![code.into()], device, from: "192.0.2.1".into() };
        world.run(begin).unwrap();
    }

    fn begin(world: &World, n: usize, code: &str) {
        assert_eq!(begin_at(world, n, code, "192.0.2.1").unwrap(), code);
    }

    fn claim(world: &World, code: &str, user: UserId) -> Result<Device, PairingError> {
        world.run(ClaimPairing { code: code.into(), by: user, user, name: None, primary: None, limit: 2 })
    }

    fn collect(world: &World, n: usize, secret: &str) -> Result<Paired, PairingError> {
        world.run(CollectPairing { device_code: device_code(n), secret: TokenHash::of(secret), limit: 3 })
    }

    fn state(world: &World, n: usize) -> Option<PairingState> {
        world.memory().pairings.state(&device_code(n), world.now().clock.lived)
    }

    fn is_unknown<T>(outcome: Result<T, PairingError>) -> bool {
        matches!(outcome, Err(PairingError::Unknown))
    }

    #[test]
    fn device_is_claimed_once_and_its_token_collected_once() {
        let (world, [ana, bob]) = world();
        begin(&world, 1, "AAAAAA");
        assert_eq!(state(&world, 1), Some(PairingState::Pending(Duration::from_secs(600))));
        assert!(is_unknown(collect(&world, 1, "early")));
        let device = claim(&world, "AAAAAA", ana).unwrap();
        assert_eq!(world.store.primary_device(ana).unwrap(), Some(device.id), "her only device");
        assert!(is_unknown(claim(&world, "AAAAAA", bob)), "a replay");
        let world = world.restart();
        assert_eq!(state(&world, 1), Some(PairingState::Claimed(ana)));
        let paired = collect(&world, 1, "t").unwrap();
        assert_eq!((paired.device.id, paired.token.user_id, paired.token.device_id), (device.id, ana, Some(device.id)));
        assert_eq!(world.store.token(&TokenHash::of("t")).unwrap().map(|token| token.id), Some(paired.token.id));
        assert!(is_unknown(collect(&world, 1, "again")));
        assert_eq!((state(&world, 1), state(&world, 2)), (None, None));
        assert!(world.store.trees().pairings.is_empty().unwrap());
    }

    #[test]
    fn device_that_is_paired_again_keeps_its_record_and_gets_another_token() {
        let (world, [ana, bob]) = world();
        begin_known(&world, 1, "AAAAAA");
        let device = claim(&world, "AAAAAA", ana).unwrap();
        collect(&world, 1, "first").unwrap();
        begin_known(&world, 2, "BBBBBB");
        assert_eq!(claim(&world, "BBBBBB", ana).unwrap().id, device.id);
        collect(&world, 2, "second").unwrap();
        assert_eq!(world.touched().users, [ana], "connections with the first token end");
        let has = |secret| world.store.token(&TokenHash::of(secret)).unwrap().is_some();
        assert_eq!((has("first"), has("second")), (false, true));
        // Another user has no device of that serial, and can't have one.
        begin_known(&world, 3, "CCCCCC");
        assert!(matches!(claim(&world, "CCCCCC", bob), Err(PairingError::Store(StoreError::Taken("serial")))));
        assert!(matches!(state(&world, 3), Some(PairingState::Pending(_))), "the code is good still");
        world.run(crate::change::DeleteDevice { id: device.id }).unwrap();
        claim(&world, "CCCCCC", bob).unwrap();
    }

    #[test]
    fn pairing_ends_with_its_device_and_not_with_a_lack_of_room() {
        let (world, [ana, _]) = world();
        begin(&world, 1, "AAAAAA");
        let device = claim(&world, "AAAAAA", ana).unwrap();
        for n in 0..3 {
            let new = NewToken { make_room: false, ..NewToken::login(ana, TokenHash::of(&format!("{n}"))) };
            world.run(crate::change::CreateToken { new, limit: 3 }).unwrap();
        }
        assert!(matches!(collect(&world, 1, "t"), Err(PairingError::Store(StoreError::Full("tokens")))));
        assert_eq!(state(&world, 1), Some(PairingState::Claimed(ana)));
        world.run(crate::change::DeleteDevice { id: device.id }).unwrap();
        assert!(is_unknown(collect(&world, 1, "t")));
        assert_eq!(state(&world, 1), None);
    }

    #[test]
    fn pairing_claimed_in_its_last_second_can_be_collected() {
        let (mut world, [ana, _]) = world();
        begin(&world, 1, "AAAAAA");
        world.pass(PAIRING_SECONDS - 1);
        claim(&world, "AAAAAA", ana).unwrap();
        world.pass(60);
        collect(&world, 1, "t").unwrap();
    }

    #[test]
    fn wrong_codes_end_open_pairings_and_block_the_guesser() {
        let (world, [ana, bob]) = world();
        begin(&world, 1, "AAAAAA");
        begin(&world, 2, "CCCCCC");
        claim(&world, "CCCCCC", bob).unwrap();
        for _ in 0..MAX_WRONG_CODES {
            assert!(is_unknown(claim(&world, "BBBBBB", ana)));
        }
        assert!(is_unknown(claim(&world, "AAAAAA", bob)), "ended");
        assert_eq!(state(&world, 1), None);
        collect(&world, 2, "t").unwrap(); // one that has been claimed is not guessed
        let mut world = world.restart();
        begin(&world, 3, "DDDDDD");
        assert!(matches!(claim(&world, "DDDDDD", ana), Err(PairingError::TooMany(wait)) if wait.as_secs() == 600));
        world.pass(PAIRING_SECONDS);
        begin(&world, 4, "EEEEEE");
        claim(&world, "EEEEEE", ana).unwrap();
        assert!(world.memory().pairings.guesses.contains_key(&bob), "until it is removed");
        expire(&Machine::new(world.store.trees(), &world.state), world.now()).unwrap();
        assert!(world.memory().pairings.guesses.is_empty() && world.store.trees().guesses.is_empty().unwrap());
        assert_eq!(world.memory().pairings.pairings.len(), 1);
    }

    #[test]
    fn codes_expire_and_taken_ones_are_not_given_again() {
        let (mut world, [ana, _]) = world();
        begin(&world, 1, "AAAAAA");
        let device = DeviceInfo::default();
        let codes = vec!["AAAAAA".to_owned(), "BBBBBB".to_owned()];
        let again = BeginPairing { device_code: device_code(2), codes, device, from: "192.0.2.1".into() };
        assert_eq!(world.run(again).unwrap(), "BBBBBB");
        assert!(matches!(begin_at(&world, 3, "AAAAAA", "192.0.2.1"), Err(PairingError::Full)));
        world.pass(PAIRING_SECONDS);
        assert!(is_unknown(claim(&world, "AAAAAA", ana)));
        assert_eq!(state(&world, 1), None);
    }

    #[test]
    fn address_that_begins_the_most_makes_room_for_others() {
        let (mut world, [ana, _]) = world();
        let code = |n: usize| format!("{n:06}");
        begin_at(&world, 0, &code(0), "ana").unwrap();
        for n in 1..MAX_PAIRINGS {
            begin_at(&world, n, &code(n), "crowd").unwrap();
        }
        // One that has been claimed is the device's own, and stays.
        claim(&world, &code(1), ana).unwrap();
        for n in 0..20 {
            let (next, oldest) = (MAX_PAIRINGS + n, n + 2);
            assert!(state(&world, oldest).is_some(), "{n}");
            begin_at(&world, next, &code(next), &format!("other {n}")).unwrap();
            assert!(state(&world, oldest).is_none() && state(&world, next).is_some(), "{n}");
            assert!(state(&world, 0).is_some() && state(&world, 1).is_some(), "{n}");
            assert!(matches!(begin_at(&world, 99_999, "x", "crowd"), Err(PairingError::Full)));
        }
        let count = |world: &World| {
            let memory = world.memory();
            assert_eq!(memory.pairings.pairings.len(), memory.pairings.codes.len());
            memory.pairings.codes.len()
        };
        assert_eq!(count(&world), MAX_PAIRINGS);
        world.pass(PAIRING_SECONDS);
        begin_at(&world, 99_999, "x", "crowd").unwrap();
        assert_eq!(count(&world), MAX_PAIRINGS - MAX_EXPIRED + 1);
    }
}
