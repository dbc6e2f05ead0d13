//! The boot clock: the time since the system started, which goes on while the machine sleeps and which nobody sets.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A time of the boot clock.
///
/// `std::time::Instant` stands still while the machine is suspended: a code that is valid for ten minutes would be valid the next
/// morning. For ends of life it is this, for timeouts that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Returns the present.
    pub fn now() -> Self {
        // Linux has had it since 2.6.39; where something else runs the program, the monotonic clock is as near.
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
        Self(time.map_or(Duration::ZERO, Duration::from))
    }

    /// Returns the time that has passed since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the milliseconds since the system started.
    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl std::ops::Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

#[cfg(test)]
impl BootInstant {
    /// Returns the time `duration` earlier.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.checked_sub(duration).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_clock_goes_on_and_is_no_younger_than_the_monotonic_one() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let now = BootInstant::now();
        assert!(now.millis() >= (seconds * 1000.0) as u64, "{now:?} after {seconds} s");
        assert!(BootInstant::now() >= now);
        assert_eq!((now + Duration::from_secs(5)).since(now), Duration::from_secs(5));
        assert_eq!(now.since(now + Duration::from_secs(5)), Duration::ZERO);
    }
}
