//! The service clock: seconds that a store has lived, for ends of life.
//!
//! The wall clock may jump by years, when a box without a battery finds a time server or an operator mistypes. A message must
//! not end its life for that. So lives are counted on a clock of the store's own: while the server runs it follows the
//! monotonic clock; over a stop it follows the wall clock, but never back and never by more than [`MAX_GAP`] at once.

use std::time::Instant;

use crate::core::time::Timestamp;
use crate::store::{Log, Result};

/// The most that a stop counts for, in seconds: a day. A longer one keeps messages for longer than they asked for.
const MAX_GAP: u64 = 86_400;
/// Names of the numbers in the store.
const SERVICE: &str = "service_seconds";
const WALL: &str = "service_wall_seconds";

/// The service clock of one run.
#[derive(Debug)]
pub(super) struct ServiceClock {
    base: u64,
    started: Instant,
    #[cfg(test)]
    ahead: std::sync::atomic::AtomicU64,
}

impl ServiceClock {
    /// Goes on where the last run stopped, `now` being the wall clock's time.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open(log: Log<'_>, now: Timestamp) -> Result<Self> {
        let (service, wall) = (log.number(SERVICE)?, log.number(WALL)?);
        let wall_now = u64::try_from(now.unix_seconds()).unwrap_or(0);
        let gap = if wall == 0 { 0 } else { wall_now.saturating_sub(wall).min(MAX_GAP) };
        // From 1, so that 0 can mean "never yet".
        Ok(Self {
            base: (service + gap).max(1),
            started: Instant::now(),
            #[cfg(test)]
            ahead: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// The present, in seconds.
    pub(super) fn now(&self) -> u64 {
        let now = self.base + self.started.elapsed().as_secs();
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        now
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(super) fn skip(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes the present, so that the next run can go on.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn save(&self, log: Log<'_>) -> Result<()> {
        log.set_number(SERVICE, self.now())?;
        log.set_number(WALL, u64::try_from(Timestamp::now().unix_seconds()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn jumps_of_the_wall_clock_between_runs_count_for_a_day_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let clock = ServiceClock::open(store.log(), Timestamp::now()).unwrap();
        clock.save(store.log()).unwrap();
        let then = clock.now();
        let year = std::time::Duration::from_secs(365 * 86_400);
        let ahead = ServiceClock::open(store.log(), Timestamp::now().plus_seconds(10 * year.as_secs())).unwrap();
        assert!((then..=then + MAX_GAP + 1).contains(&ahead.now()));
        let back = ServiceClock::open(store.log(), Timestamp::now().minus(year * 10)).unwrap();
        assert!((then..=then + 1).contains(&back.now()));
        let hour = ServiceClock::open(store.log(), Timestamp::now().plus_seconds(3600)).unwrap();
        assert!((then + 3599..=then + 3602).contains(&hour.now()));
    }
}
