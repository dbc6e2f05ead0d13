//! Limits by address, with all keys that an address has.

use std::time::{Duration, Instant};

use super::net_key::{Link, NetKey, Site};
use super::permits::{Permit, Permits};
use super::rates::{BlockingRateLimit, RateLimit, unless_slept};

/// All link-local addresses of an interface together may do this many times what one address may: enough for a household, of which one
/// machine can't use up the share of all by accident; and few enough that it makes no difference how many addresses a machine takes.
pub const LINK_FACTOR: u32 = 4;
/// All networks of an IPv6 site together may guess this many times as often as one address.
pub const SITE_FACTOR: u32 = 16;

/// A rate limit by address.
pub struct AddressRate {
    addresses: RateLimit<NetKey>,
    links: RateLimit<Link>,
    /// Only for guesses.
    sites: Option<RateLimit<Site>>,
}

impl AddressRate {
    /// Allows `n` a minute from an address; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { addresses: RateLimit::per_minute(n), links: RateLimit::per_minute(n.saturating_mul(LINK_FACTOR)), sites: None }
    }

    /// Allows `n` a minute from an address, of something that gets an attacker nearer to its aim each time; 0: any number.
    pub fn guesses_per_minute(n: u32) -> Self {
        Self { sites: Some(RateLimit::per_minute(n.saturating_mul(SITE_FACTOR))), ..Self::per_minute(n) }
    }

    /// Changes the limit to `n` a minute. A different number resets all counts.
    pub fn set_limit(&self, n: u32) {
        self.addresses.set_limit(n);
        self.links.set_limit(n.saturating_mul(LINK_FACTOR));
        if let Some(sites) = &self.sites {
            sites.set_limit(n.saturating_mul(SITE_FACTOR));
        }
    }

    /// Counts one.
    ///
    /// # Errors
    /// The time to wait, when a limit is exceeded: of several clients, each has one of its own.
    pub fn check(&self, key: &NetKey) -> Result<(), Duration> {
        self.addresses.check_spread(key)?;
        if let Some(link) = key.link() {
            self.links.check_spread(&link)?;
        }
        match self.sites.as_ref().zip(key.site()) {
            Some((sites, site)) => sites.check_spread(&site),
            None => Ok(()),
        }
    }

    /// Counts one of something that may have waited while this process slept: see [`RateLimit::check_after_sleep`].
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_after_sleep(&self, key: &NetKey) -> Result<(), Duration> {
        unless_slept(self.check(key))
    }

    /// Evicts keys that have their full quota again.
    pub fn sweep(&self) {
        self.addresses.sweep();
        self.links.sweep();
        if let Some(sites) = &self.sites {
            sites.sweep();
        }
    }
}

/// A rate limit by address that blocks an address that exceeds it. A link is not blocked, only limited: one machine must not lock out
/// the others for as long as it tries.
pub struct AddressRefusals {
    addresses: BlockingRateLimit<NetKey>,
    links: RateLimit<Link>,
}

impl AddressRefusals {
    /// Allows `n` a minute from an address; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { addresses: BlockingRateLimit::per_minute(n), links: RateLimit::per_minute(n.saturating_mul(LINK_FACTOR)) }
    }

    /// Changes the limit to `n` a minute. A different number resets all counts.
    pub fn set_limit(&self, n: u32) {
        self.addresses.set_limit(n);
        self.links.set_limit(n.saturating_mul(LINK_FACTOR));
    }

    /// Counts one at `now`.
    ///
    /// # Errors
    /// The time to wait, when a limit is exceeded or the address is blocked.
    pub fn check(&self, key: &NetKey, now: Instant) -> Result<(), Duration> {
        self.addresses.check(key, now)?;
        key.link().map_or(Ok(()), |link| self.links.check_spread(&link))
    }

    /// Evicts keys that are no longer blocked or have their full quota again.
    pub fn sweep(&self) {
        self.addresses.sweep();
        self.links.sweep();
    }
}

/// Permits by address.
pub struct AddressPermits {
    addresses: Permits<NetKey>,
    links: Permits<Link>,
}

/// A permit of [`AddressPermits`]; returned when dropped.
pub struct AddressPermit {
    _address: Permit<NetKey>,
    _link: Option<Permit<Link>>,
}

impl AddressPermits {
    /// Allows `limit` permits an address; 0: any number.
    pub fn new(limit: u32) -> Self {
        Self { addresses: Permits::new(limit), links: Permits::new(limit.saturating_mul(LINK_FACTOR)) }
    }

    /// Changes the limit for each address; permits in use stay valid, and count.
    pub fn set_limit(&self, limit: u32) {
        self.addresses.set_limit(limit);
        self.links.set_limit(limit.saturating_mul(LINK_FACTOR));
    }

    /// Returns a permit; `None` when all of this address's, or its link's, are in use.
    pub fn try_acquire(&self, key: NetKey) -> Option<AddressPermit> {
        let address = self.addresses.try_acquire(key)?;
        let link = match key.link() {
            Some(link) => Some(self.links.try_acquire(link)?),
            None => None,
        };
        Some(AddressPermit { _address: address, _link: link })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::client_addr::ClientAddr;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn key(ip: IpAddr, interface: u32) -> NetKey {
        ClientAddr { ip, interface }.into()
    }

    /// Addresses that one machine of the network can take as it likes.
    fn free_addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u64>().prop_map(|n| IpAddr::from((0xfe80_u128 << 112 | u128::from(n)).to_be_bytes())),
            any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([169, 254, a, b])),
            any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xa9fe, u16::from_be_bytes([a, b])])),
            any::<u64>().prop_map(|n| IpAddr::from((0x2001_0db8_0001_0002_u128 << 64 | u128::from(n)).to_be_bytes())),
        ]
    }

    /// Returns how many of `addresses` pass each kind of limit, which allows `n` to one.
    fn passed(n: u32, addresses: &[IpAddr]) -> [usize; 4] {
        let (rate, guesses) = (AddressRate::per_minute(n), AddressRate::guesses_per_minute(n));
        let (refusals, permits, now) = (AddressRefusals::per_minute(n), AddressPermits::new(n), Instant::now());
        let keys: Vec<NetKey> = addresses.iter().map(|&ip| key(ip, 2)).collect();
        let held: Vec<AddressPermit> = keys.iter().filter_map(|&key| permits.try_acquire(key)).collect();
        [
            keys.iter().filter(|key| rate.check(key).is_ok()).count(),
            keys.iter().filter(|key| guesses.check(key).is_ok()).count(),
            keys.iter().filter(|key| refusals.check(key, now).is_ok()).count(),
            held.len(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn number_of_addresses_that_a_machine_takes_makes_no_difference(
            all in proptest::collection::vec(free_addresses(), 1..400),
            n in 1..8u32,
        ) {
            // Of each of the three nets that they are in, and a bit for the time that the test takes.
            let most = (3 * LINK_FACTOR * n + 2) as usize;
            for count in passed(n, &all) {
                prop_assert!(count <= most, "{count} of {}, at most {most}", all.len());
            }
            prop_assert_eq!(passed(0, &all), [all.len(); 4], "no limit");
        }
    }

    #[test]
    fn machine_with_one_address_leaves_its_neighbours_their_share() {
        let of = |n: u8| key(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n.into()]), 2);
        let (rate, refusals, permits, now) =
            (AddressRate::per_minute(10), AddressRefusals::per_minute(10), AddressPermits::new(10), Instant::now());
        let mut held = Vec::new();
        for _ in 0..1000 {
            let _ = (rate.check(&of(1)), refusals.check(&of(1), now));
            held.extend(permits.try_acquire(of(1)));
        }
        assert_eq!(held.len(), 10);
        for _ in 0..10 {
            assert!(rate.check(&of(2)).is_ok() && refusals.check(&of(2), now).is_ok());
            held.push(permits.try_acquire(of(2)).unwrap());
        }
        // The other interface, and every other kind of address, have allowances of their own.
        for n in 3..=40 {
            let _ = (rate.check(&of(n)), refusals.check(&of(n), now));
            held.extend((0..10).filter_map(|_| permits.try_acquire(of(n))));
        }
        assert!(permits.try_acquire(of(50)).is_none() && held.len() == 40);
        for other in
            [key("fe80::1".parse().unwrap(), 3), key("169.254.0.1".parse().unwrap(), 2), key("10.0.0.1".parse().unwrap(), 2)]
        {
            assert!(rate.check(&other).is_ok() && refusals.check(&other, now).is_ok() && permits.try_acquire(other).is_some());
        }
        drop(held);
        assert!(permits.try_acquire(of(50)).is_some(), "returned");
    }

    #[test]
    fn networks_of_a_site_share_what_it_may_guess() {
        let (rate, guesses) = (AddressRate::per_minute(10), AddressRate::guesses_per_minute(10));
        let all: Vec<NetKey> = (0..1000).map(|n| key(IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]), 0)).collect();
        assert_eq!(all.iter().filter(|key| rate.check(key).is_ok()).count(), 1000);
        let passed = all.iter().filter(|key| guesses.check(key).is_ok()).count();
        assert!((160..=165).contains(&passed), "{passed}");
        assert!(guesses.check(&key("2001:db8:2::1".parse().unwrap(), 0)).is_ok(), "another site");
    }

    #[test]
    fn changed_limit_applies_to_every_key() {
        let (rate, permits) = (AddressRate::guesses_per_minute(1), AddressPermits::new(1));
        let of = |n: u16| key(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n]), 2);
        let held: Vec<_> = (0..9).filter_map(|n| permits.try_acquire(of(n))).collect();
        assert_eq!((held.len(), (0..9).filter(|&n| rate.check(&of(n)).is_ok()).count()), (4, 4));
        rate.set_limit(0);
        permits.set_limit(0);
        let more: Vec<_> = (0..9).filter_map(|n| permits.try_acquire(of(n))).collect();
        assert_eq!((more.len(), (0..9).filter(|&n| rate.check(&of(n)).is_ok()).count()), (9, 9));
    }
}
