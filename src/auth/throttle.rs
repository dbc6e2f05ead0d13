//! Bounds on guesses at passwords: by address, by name, and by both.
//!
//! # Invariants
//! - Counted are wrong passwords, and those being checked. One that was right is given back, but to its own name at its own address.
//! - An address that has used up its attempts has as many again, apart, for names that have not failed there lately: a program with an
//!   old password locks out itself, not its neighbours. Of these, a wrong one is answered as one too many, so that no more guesses are
//!   answered than before.
//! - A name that is attacked from many addresses has a few attempts from each, and none of those apart.
//! - Nothing is counted for an attempt that is refused.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::admission::net_key::{Link, Site};
use crate::admission::slots::{next_slot, within_spread};
use crate::admission::{LINK_FACTOR, NetKey, SITE_FACTOR};
use crate::core::names::{MAX_USERNAME_CHARS, fold};
use crate::net::client_addr::ClientAddr;

/// A name is under attack beyond this many times the attempts a minute that one address has.
const NAME_FACTOR: u32 = 3;
/// The attempts a minute that each address has on a name under attack: enough for its owner, who has another address than the attacker
/// and so is never locked out.
const ATTEMPTS_PER_MINUTE_UNDER_ATTACK: u32 = 3;
/// The time for which a name that has failed from an address gets none of the attempts that are kept for others.
const FAILED_LATELY: Duration = Duration::from_secs(60);
/// The time after which it is known how the attempts ended that are being checked.
const CHECK_TIME: Duration = Duration::from_secs(1);
/// The time that a number of attempts is allowed in.
const MINUTE: Duration = Duration::from_secs(60);

/// A name at an address.
type Pair = (NetKey, String);

/// The attempts of one key, as in the generic cell rate algorithm.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// The time at which all attempts are forgotten.
    until: Instant,
    /// The last time to return that anyone was told.
    told: Option<Instant>,
    /// The attempts among them that are being checked.
    checking: u32,
}

/// A number of attempts a minute for each key.
#[derive(Debug)]
struct Allowance<K: Hash + Eq + Clone> {
    /// The time in which one attempt is forgotten.
    interval: Duration,
    counts: HashMap<K, Count>,
}

impl<K: Hash + Eq + Clone> Allowance<K> {
    /// Allows `per_minute`, at least one.
    fn new(per_minute: u32) -> Self {
        Self { interval: MINUTE / per_minute.max(1), counts: HashMap::new() }
    }

    /// Returns the time until one more attempt is allowed; `None` where one is now.
    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let count = self.counts.get(key)?;
        let wait = (count.until.saturating_duration_since(now) + self.interval).saturating_sub(MINUTE);
        (!wait.is_zero()).then_some(wait)
    }

    /// Returns the time to wait for a client of `key` that is refused: each has one of its own.
    fn tell(&mut self, key: &K, now: Instant) -> Duration {
        let (Some(wait), Some(count)) = (self.wait(key, now), self.counts.get_mut(key)) else { return CHECK_TIME };
        if wait <= self.interval * count.checking {
            return CHECK_TIME; // there is room if those are right
        }
        let slot = next_slot(count.told, now, wait, self.interval);
        count.told = slot.or(count.told);
        slot.map_or_else(|| within_spread(wait), |slot| slot.saturating_duration_since(now))
    }

    /// Counts an attempt that is being checked.
    fn take(&mut self, key: &K, now: Instant) {
        let count = self.counts.entry(key.clone()).or_insert(Count { until: now, told: None, checking: 0 });
        count.until = count.until.max(now) + self.interval;
        count.checking += 1;
    }

    /// Ends an attempt, which stays counted only if it `counts`.
    fn end(&mut self, key: &K, counts: bool) {
        let Some(count) = self.counts.get_mut(key) else { return };
        count.checking = count.checking.saturating_sub(1);
        if !counts {
            count.until = count.until.checked_sub(self.interval).unwrap_or(count.until);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.counts.retain(|_, count| count.until > now || count.checking > 0);
        self.counts.shrink_to_fit();
    }
}

/// The attempts of an address, and of the networks that it is in.
#[derive(Debug)]
struct ByAddress {
    addresses: Allowance<NetKey>,
    links: Allowance<Link>,
    sites: Allowance<Site>,
}

impl ByAddress {
    fn new(per_minute: u32) -> Self {
        Self {
            addresses: Allowance::new(per_minute),
            links: Allowance::new(per_minute.saturating_mul(LINK_FACTOR)),
            sites: Allowance::new(per_minute.saturating_mul(SITE_FACTOR)),
        }
    }

    fn allows(&self, key: NetKey, now: Instant) -> bool {
        self.addresses.wait(&key, now).is_none()
            && key.link().is_none_or(|link| self.links.wait(&link, now).is_none())
            && key.site().is_none_or(|site| self.sites.wait(&site, now).is_none())
    }

    fn tell(&mut self, key: NetKey, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        if self.addresses.wait(&key, now).is_some() {
            longest = self.addresses.tell(&key, now);
        }
        if let Some(link) = key.link().filter(|link| self.links.wait(link, now).is_some()) {
            longest = longest.max(self.links.tell(&link, now));
        }
        if let Some(site) = key.site().filter(|site| self.sites.wait(site, now).is_some()) {
            longest = longest.max(self.sites.tell(&site, now));
        }
        longest
    }

    fn take(&mut self, key: NetKey, now: Instant) {
        self.addresses.take(&key, now);
        if let Some(link) = key.link() {
            self.links.take(&link, now);
        }
        if let Some(site) = key.site() {
            self.sites.take(&site, now);
        }
    }

    fn end(&mut self, key: NetKey, counts: bool) {
        self.addresses.end(&key, counts);
        if let Some(link) = key.link() {
            self.links.end(&link, counts);
        }
        if let Some(site) = key.site() {
            self.sites.end(&site, counts);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.addresses.sweep(now);
        self.links.sweep(now);
        self.sites.sweep(now);
    }
}

/// All that is counted.
#[derive(Debug)]
struct Counts {
    per_minute: u32,
    usual: ByAddress,
    /// For names that have not failed from the address lately.
    spare: ByAddress,
    names: Allowance<String>,
    pairs: Allowance<Pair>,
    /// For names under attack.
    attacked: Allowance<Pair>,
    /// The last time that a name failed from an address.
    failed: HashMap<Pair, Instant>,
}

impl Counts {
    fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            usual: ByAddress::new(per_minute),
            spare: ByAddress::new(per_minute),
            names: Allowance::new(per_minute.saturating_mul(NAME_FACTOR)),
            pairs: Allowance::new(per_minute),
            attacked: Allowance::new(per_minute.min(ATTEMPTS_PER_MINUTE_UNDER_ATTACK)),
            failed: HashMap::new(),
        }
    }

    /// Counts an attempt of `pair`; `may_spare` where it may use what is kept for names that have not failed.
    fn take(&mut self, pair: &Pair, may_spare: bool, now: Instant) -> Result<(bool, bool), Duration> {
        let (key, name) = pair;
        if self.pairs.wait(pair, now).is_some() {
            return Err(self.pairs.tell(pair, now));
        }
        let attacked = self.names.wait(name, now).is_some();
        if attacked && self.attacked.wait(pair, now).is_some() {
            return Err(self.attacked.tell(pair, now));
        }
        let failed = self.failed.get(pair).is_some_and(|&at| now.saturating_duration_since(at) < FAILED_LATELY);
        let spare = !self.usual.allows(*key, now);
        if spare && (!may_spare || attacked || failed || !self.spare.allows(*key, now)) {
            return Err(self.usual.tell(*key, now));
        }
        if spare {
            self.spare.take(*key, now)
        } else {
            self.usual.take(*key, now)
        }
        self.pairs.take(pair, now);
        if attacked {
            self.attacked.take(pair, now)
        } else {
            self.names.take(name, now)
        }
        Ok((spare, attacked))
    }
}

/// Log-in attempts.
pub(super) struct LoginThrottle(Mutex<Counts>);

/// An attempt that is being checked; one that is dropped was wrong.
pub(super) struct Attempt<'a> {
    counts: &'a Mutex<Counts>,
    pair: Pair,
    /// Set where it used what is kept for names that have not failed.
    spare: bool,
    attacked: bool,
    /// Set until its end is known; not where there is no limit.
    open: bool,
}

/// The end of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Right,
    Wrong,
    Unchecked,
}

impl LoginThrottle {
    /// Allows `per_minute` attempts from one address; 0: no limit of any kind.
    pub(super) fn new(per_minute: u32) -> Self {
        Self(Mutex::new(Counts::new(per_minute)))
    }

    /// Applies a changed limit.
    pub(super) fn set(&self, per_minute: u32) {
        let mut counts = self.0.lock();
        if counts.per_minute != per_minute {
            *counts = Counts::new(per_minute);
        }
    }

    /// Begins an attempt on `name` from `address`; an error is the time to wait.
    pub(super) fn begin(&self, address: ClientAddr, name: &str) -> Result<Attempt<'_>, Duration> {
        self.attempt(address, name, true)
    }

    /// Counts an attempt that is as good as wrong: one to register.
    pub(super) fn count(&self, address: ClientAddr, name: &str) -> Result<(), Duration> {
        self.attempt(address, name, false).map(drop)
    }

    fn attempt(&self, address: ClientAddr, name: &str, may_spare: bool) -> Result<Attempt<'_>, Duration> {
        // Every spelling that leads to the same account counts as one name. Bounds the key, whatever the length of the name.
        let pair = (NetKey::from(address), fold(&name.chars().take(MAX_USERNAME_CHARS).collect::<String>()));
        let mut counts = self.0.lock();
        let open = counts.per_minute > 0;
        let (spare, attacked) = if open { counts.take(&pair, may_spare, Instant::now())? } else { (false, false) };
        Ok(Attempt { counts: &self.0, pair, spare, attacked, open })
    }

    /// Evicts idle entries.
    pub(super) fn sweep(&self) {
        let (mut counts, now) = (self.0.lock(), Instant::now());
        let Counts { usual, spare, names, pairs, attacked, failed, .. } = &mut *counts;
        usual.sweep(now);
        spare.sweep(now);
        names.sweep(now);
        pairs.sweep(now);
        attacked.sweep(now);
        failed.retain(|_, at| now.saturating_duration_since(*at) < FAILED_LATELY);
        failed.shrink_to_fit();
    }
}

impl Attempt<'_> {
    /// Ends it with the right password.
    pub(super) fn right(mut self) {
        self.end(End::Right);
    }

    /// Ends it without a check: it counts for nothing.
    pub(super) fn unchecked(mut self) {
        self.end(End::Unchecked);
    }

    /// Ends it with a wrong password.
    ///
    /// # Errors
    /// The time to wait, where its address had no more attempts: it is answered as one too many.
    pub(super) fn wrong(mut self) -> Result<(), Duration> {
        self.end(End::Wrong);
        if !self.spare {
            return Ok(());
        }
        let (mut counts, now) = (self.counts.lock(), Instant::now());
        Err(counts.usual.tell(self.pair.0, now).max(CHECK_TIME))
    }

    fn end(&mut self, end: End) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let mut counts = self.counts.lock();
        let (pair, wrong) = (&self.pair, end == End::Wrong);
        if self.spare {
            counts.spare.end(pair.0, wrong)
        } else {
            counts.usual.end(pair.0, wrong)
        }
        if self.attacked {
            counts.attacked.end(pair, wrong)
        } else {
            counts.names.end(&pair.1, wrong)
        }
        // A log-in with the right password costs a token: it stays counted for its own name at its own address.
        counts.pairs.end(pair, end != End::Unchecked);
        match end {
            End::Right => drop(counts.failed.remove(pair)),
            End::Wrong => drop(counts.failed.insert(pair.clone(), Instant::now())),
            End::Unchecked => {}
        }
    }
}

/// The client may have gone before the end was known.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(End::Wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn from(n: u8) -> ClientAddr {
        IpAddr::from([10, 0, 0, n]).into()
    }

    /// Tries `password`, which is right where it is the name; returns the status as over REST.
    fn try_password(throttle: &LoginThrottle, address: ClientAddr, name: &str, password: &str) -> u16 {
        let Ok(attempt) = throttle.begin(address, name) else { return 429 };
        if name == password {
            attempt.right();
            return 200;
        }
        if attempt.wrong().is_ok() { 401 } else { 429 }
    }

    #[test]
    fn scenarios() {
        /// Attempts in a row: how often, from which address, on which name, with which password, and what answers it gets.
        type Step = (usize, u8, &'static str, &'static str, &'static [u16]);
        let scenarios: [(&str, &[Step]); 8] = [
            ("guesses on one name", &[(5, 1, "ana", "x", &[401]), (3, 1, "ana", "x", &[429]), (1, 1, "ana", "ana", &[429])]),
            ("its owner elsewhere", &[(9, 1, "ana", "x", &[401, 429]), (1, 2, "ana", "ana", &[200])]),
            (
                "an old password, and neighbours",
                &[(90, 1, "old", "x", &[401, 429]), (1, 1, "ana", "ana", &[200]), (1, 1, "bob", "bob", &[200])],
            ),
            (
                "three old passwords, and a neighbour",
                &[
                    (30, 1, "old1", "x", &[401, 429]),
                    (30, 1, "old2", "x", &[401, 429]),
                    (30, 1, "old3", "x", &[401, 429]),
                    (1, 1, "ana", "ana", &[200]),
                ],
            ),
            (
                "a neighbour's right one, many times: but no more than its share",
                &[(90, 1, "old", "x", &[401, 429]), (5, 1, "ana", "ana", &[200]), (1, 1, "ana", "ana", &[429])],
            ),
            ("whatever the name, beyond the limit", &[(9, 1, "ana", "x", &[401, 429]), (9, 1, "bob", "x", &[429])]),
            (
                "right ones of many names use nothing up",
                &[(4, 1, "a", "a", &[200]), (4, 1, "b", "b", &[200]), (4, 1, "c", "c", &[200]), (5, 1, "d", "x", &[401])],
            ),
            (
                "a name that is attacked from many addresses",
                &[
                    (5, 1, "ana", "x", &[401]),
                    (5, 2, "ana", "x", &[401]),
                    (5, 3, "ana", "x", &[401]),
                    (3, 4, "ana", "x", &[401]),
                    (3, 4, "ana", "x", &[429]),
                    (1, 5, "ana", "ana", &[200]),
                    (1, 4, "bob", "bob", &[200]),
                ],
            ),
        ];
        for (what, steps) in scenarios {
            let throttle = LoginThrottle::new(5);
            for &(times, address, name, password, expected) in steps {
                for n in 0..times {
                    let status = try_password(&throttle, from(address), name, password);
                    assert!(expected.contains(&status), "{what}: {name}, {password}, {n}: {status}");
                }
            }
        }
    }

    /// Returns how many passwords are checked of `count` tries, each on a name of its own from an address of its own.
    fn checked(throttle: &LoginThrottle, count: u32, address: impl Fn(u32) -> IpAddr) -> usize {
        (0..count).filter(|n| throttle.begin(address(*n).into(), &format!("user{n}")).is_ok()).count()
    }

    #[test]
    fn checked_guesses_are_bounded_however_they_are_spread() {
        let n = 10;
        type Addresses = fn(u32) -> IpAddr;
        let one: Addresses = |_| IpAddr::from([10, 0, 0, 1]);
        let link: Addresses = |n| IpAddr::from([0xfe80, 0, 0, 0, 0, 0, (n >> 16) as u16, n as u16]);
        let site: Addresses = |n| IpAddr::from([0x2001, 0xdb8, 1, n as u16, 0, 0, 0, 1]);
        for (addresses, factor) in [(one, 1), (link, LINK_FACTOR), (site, SITE_FACTOR)] {
            let count = checked(&LoginThrottle::new(n), 1200, addresses);
            // The usual ones and those for other names, with a few that time gives back.
            let most = 2 * n * factor;
            assert!((most as usize..=most as usize + 10).contains(&count), "{count}, {most}");
        }
        assert_eq!(checked(&LoginThrottle::new(0), 1200, one), 1200, "no limit");
    }

    #[test]
    fn attempts_at_the_same_time_are_bounded_and_given_back() {
        let throttle = LoginThrottle::new(5);
        let names: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
        let open: Vec<_> = names.iter().map_while(|name| throttle.begin(from(1), name).ok()).collect();
        assert_eq!(open.len(), 10);
        let wait = throttle.begin(from(1), "user11").err().unwrap();
        assert_eq!(wait, CHECK_TIME, "there may be room soon");
        open.into_iter().for_each(Attempt::right);
        assert_eq!(try_password(&throttle, from(1), "user11", "user11"), 200);
        // Those that were not checked, or never ended.
        throttle.begin(from(1), "ana").unwrap().unchecked();
        for _ in 0..5 {
            drop(throttle.begin(from(1), "ana").unwrap());
        }
        assert!(throttle.begin(from(1), "ana").is_err());
    }

    #[test]
    fn refused_clients_are_told_times_of_their_own() {
        let throttle = LoginThrottle::new(5);
        (0..5).for_each(|_| drop(throttle.begin(from(1), "ana")));
        let told: Vec<u64> = (0..4).map(|_| throttle.begin(from(1), "ana").err().unwrap().as_secs_f64().round() as u64).collect();
        assert_eq!(told, [12, 24, 36, 48]);
        throttle.sweep();
        assert!(throttle.begin(from(1), "ana").is_err());
        throttle.set(6);
        assert!(throttle.begin(from(1), "ana").is_ok(), "another limit begins anew");
    }
}
