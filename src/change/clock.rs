//! The service clock: seconds that a store has lived, for ends of life.
//!
//! The wall clock may jump by years, when a box without a battery finds a time server or an operator mistypes. A message must
//! not expire for that. So lives are counted on a clock of the store's own: while the server runs it follows the monotonic clock;
//! over a stop it follows the wall clock, but never back and never by more than [`MAX_GAP_SECONDS`] at once.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::store::{MetaKey, Result, Trees};

/// The most that a stop counts for: a day. After a longer one, messages are kept for longer than their senders asked for.
const MAX_GAP_SECONDS: u64 = 86_400;

/// The time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock, for people.
    pub wall: Timestamp,
    /// The service clock, in seconds, for ends of life.
    pub service: u64,
}

/// The service clock of one run.
#[derive(Debug)]
pub struct ServiceClock {
    base: u64,
    started: Instant,
    #[cfg(test)]
    ahead: std::sync::atomic::AtomicU64,
}

impl ServiceClock {
    /// Continues from the last run's saved time, `now` being the time of the wall clock.
    ///
    /// # Errors
    /// If the store fails.
    pub fn open(trees: &Trees, now: Timestamp) -> Result<Self> {
        let (service, wall) = (trees.meta.number(MetaKey::ServiceSeconds)?, trees.meta.number(MetaKey::ServiceWallSeconds)?);
        let gap = if wall == 0 { 0 } else { wall_seconds(now).saturating_sub(wall).min(MAX_GAP_SECONDS) };
        // From 1, so that 0 can mean "never yet".
        Ok(Self {
            base: (service + gap).max(1),
            started: Instant::now(),
            #[cfg(test)]
            ahead: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Returns the present, in seconds of the service clock.
    pub fn now(&self) -> u64 {
        let now = self.base + self.started.elapsed().as_secs();
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        now
    }

    /// Returns the present by both clocks.
    pub fn moment(&self) -> Moment {
        Moment { wall: Timestamp::now(), service: self.now() }
    }

    /// Moves the clock forward.
    #[cfg(test)]
    pub fn skip(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Saves the time, so that the next run can continue from it.
///
/// # Errors
/// If the store fails.
pub(super) fn save(trees: &Trees, moment: Moment) -> Result<()> {
    trees.meta.set(MetaKey::ServiceSeconds, moment.service)?;
    trees.meta.set(MetaKey::ServiceWallSeconds, wall_seconds(moment.wall))
}

fn wall_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.unix_seconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn wall_clock_jumps_between_runs_count_for_a_day_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let clock = ServiceClock::open(store.trees(), Timestamp::now()).unwrap();
        let then = clock.moment();
        save(store.trees(), then).unwrap();
        let (then, year) = (then.service, std::time::Duration::from_secs(365 * 86_400));
        let open = |now| ServiceClock::open(store.trees(), now).unwrap().base;
        let saved = store.trees().meta.number(MetaKey::ServiceWallSeconds).unwrap();
        let wall = Timestamp::from_unix_micros(i64::try_from(saved).unwrap() * 1_000_000);
        assert_eq!(open(wall.plus_seconds(10 * year.as_secs())), then + MAX_GAP_SECONDS);
        assert_eq!(open(wall.minus(year * 10)), then);
        assert_eq!(open(wall.plus_seconds(3600)), then + 3600);
    }
}
