//! Rate limits of log-in attempts.

use std::time::Duration;

use crate::admission::{AddressRate, NetKey, RateLimit};
use crate::core::names::{MAX_USERNAME_CHARS, fold};
use crate::net::client_addr::ClientAddr;

/// A name is under attack beyond this many times the attempts a minute that one address has.
const NAME_FACTOR: u32 = 3;
/// The attempts a minute that each address has on a name under attack: enough for its owner, who has another address than the attacker
/// and so is never locked out.
const ATTEMPTS_PER_MINUTE_UNDER_ATTACK: u32 = 3;

/// Log-in attempts by address, by name, and by both.
pub(super) struct LoginThrottle {
    address: AddressRate,
    name: RateLimit<String>,
    pair: RateLimit<(NetKey, String)>,
}

impl LoginThrottle {
    /// Allows `per_minute` attempts from one address; 0: no limit of any kind.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            address: AddressRate::guesses_per_minute(per_minute),
            name: RateLimit::per_minute(per_minute.saturating_mul(NAME_FACTOR)),
            pair: RateLimit::per_minute(per_minute.min(ATTEMPTS_PER_MINUTE_UNDER_ATTACK)),
        }
    }

    /// Applies a changed limit.
    pub(super) fn set(&self, per_minute: u32) {
        self.address.set_limit(per_minute);
        self.name.set_limit(per_minute.saturating_mul(NAME_FACTOR));
        self.pair.set_limit(per_minute.min(ATTEMPTS_PER_MINUTE_UNDER_ATTACK));
    }

    /// Counts an attempt on `name` from `address`; an error is the time to wait.
    pub(super) fn check(&self, address: ClientAddr, name: &str) -> Result<(), Duration> {
        let address = NetKey::from(address);
        self.address.check(&address)?;
        // Every spelling that leads to the same account counts as one name. Bounds the key, whatever the length of the name.
        let name = fold(&name.chars().take(MAX_USERNAME_CHARS).collect::<String>());
        if self.name.check(&name).is_err() {
            self.pair.check(&(address, name))?;
        }
        Ok(())
    }

    /// Evicts idle entries.
    pub(super) fn sweep(&self) {
        self.address.sweep();
        self.name.sweep();
        self.pair.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn from(n: u8) -> ClientAddr {
        IpAddr::from([10, 0, 0, n]).into()
    }

    #[test]
    fn limit_of_one_address_leaves_others_alone() {
        let throttle = LoginThrottle::new(5);
        for _ in 0..5 {
            assert!(throttle.check(from(1), "ana").is_ok());
        }
        assert!(throttle.check(from(1), "ana").is_err());
        assert!(throttle.check(from(1), "bob").is_err());
        assert!(throttle.check(from(2), "ana").is_ok());
    }

    #[test]
    fn name_attacked_from_many_addresses_stays_open_to_its_owner() {
        let throttle = LoginThrottle::new(5);
        for n in 0..3 {
            for _ in 0..5 {
                assert!(throttle.check(from(n), "ana").is_ok());
            }
        }
        let passed = (0..5).filter(|_| throttle.check(from(100), "ANA").is_ok()).count();
        assert_eq!(passed, 3);
        assert!(throttle.check(from(200), "ana").is_ok(), "the owner");
        assert!(throttle.check(from(101), "bob").is_ok());
    }
}
