//! How often: governor's limiters by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

/// So and so many a minute, all at once if one likes.
fn quota(per_minute: u32) -> Option<Quota> {
    NonZeroU32::new(per_minute).map(|n| Quota::per_minute(n).allow_burst(n))
}

/// A rate for each key; none where the configured number is 0.
pub struct Rate<K: Hash + Eq + Clone> {
    limiter: ArcSwapOption<DefaultKeyedRateLimiter<K>>,
    number: AtomicU32,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `n` a minute for each key; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { limiter: ArcSwapOption::new(Self::limiter(n)), number: AtomicU32::new(n) }
    }

    fn limiter(n: u32) -> Option<Arc<DefaultKeyedRateLimiter<K>>> {
        quota(n).map(|quota| Arc::new(RateLimiter::keyed(quota)))
    }

    /// From now on `n` a minute; where that is another number, everybody begins anew. Whether it is.
    pub fn set(&self, n: u32) -> bool {
        let another = self.number.swap(n, Ordering::AcqRel) != n;
        if another {
            self.limiter.store(Self::limiter(n));
        }
        another
    }

    /// Counts one.
    ///
    /// # Errors
    /// The time to wait, when it is one too many.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        let limiter = self.limiter.load();
        let Some(limiter) = &*limiter else { return Ok(()) };
        limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets keys that have their full allowance again: governor never does so by itself.
    pub fn sweep(&self) {
        if let Some(limiter) = &*self.limiter.load() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// How long somebody who tried too often is barred; anew with every further attempt. Longer than the longest pause of the
/// guide's JavaScript client (32 s), so that it meets five failures in a row and gives up, instead of coming back for ever.
const BARRED: Duration = Duration::from_secs(60);

/// A rate for each key that, once exceeded, must be left alone for a while before it counts from the start.
pub struct Penalty<K: Hash + Eq + Clone> {
    rate: Rate<K>,
    barred: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Penalty<K> {
    /// `n` a minute for each key; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { rate: Rate::per_minute(n), barred: Mutex::default() }
    }

    /// From now on `n` a minute; where that is another number, everybody begins anew, who is barred included.
    pub fn set(&self, n: u32) {
        if self.rate.set(n) {
            self.barred.lock().clear();
        }
    }

    /// Counts one at `now`.
    ///
    /// # Errors
    /// The time to wait, when it is one too many or follows one too soon.
    pub fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        if self.rate.number.load(Ordering::Acquire) == 0 {
            return Ok(()); // even to who was barred a moment before the number changed
        }
        let mut barred = self.barred.lock();
        if barred.get(key).is_some_and(|&end| end > now) || self.rate.check(key).is_err() {
            barred.insert(key.clone(), now + BARRED);
            return Err(BARRED);
        }
        Ok(())
    }

    /// Forgets who has kept away.
    pub fn sweep(&self) {
        self.rate.sweep();
        let (mut barred, now) = (self.barred.lock(), Instant::now());
        barred.retain(|_, end| *end > now);
        barred.shrink_to_fit();
    }
}

/// A rate for one thing; none where the configured number is 0.
pub struct SingleRate(Option<(DefaultDirectRateLimiter, NonZeroU32)>);

impl SingleRate {
    /// `n` a minute; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self(quota(n).map(|quota| (RateLimiter::direct(quota), quota.burst_size())))
    }

    /// Counts one.
    ///
    /// # Errors
    /// The time to wait, when it is one too many.
    pub fn check(&self) -> Result<(), Duration> {
        let Some((limiter, _)) = &self.0 else { return Ok(()) };
        limiter.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Counts `n` at once; more than a minute's number counts as that.
    ///
    /// # Errors
    /// The time to wait, when these are too many.
    pub fn check_many(&self, n: NonZeroU32) -> Result<(), Duration> {
        let Some((limiter, burst)) = &self.0 else { return Ok(()) };
        match limiter.check_n(n.min(*burst)) {
            Ok(Err(not_until)) => Err(not_until.wait_time_from(DefaultClock::default().now())),
            Ok(Ok(())) | Err(_) => Ok(()), // never more than the burst
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_is_the_minutes_number_and_keys_are_apart() {
        let rate = Rate::per_minute(3);
        for _ in 0..3 {
            assert!(rate.check(&1).is_ok());
        }
        let wait = rate.check(&1).unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert!(rate.check(&2).is_ok());
        rate.sweep();
        assert!(rate.check(&1).is_err(), "sweeping forgets only who has the full allowance");
    }

    #[test]
    fn who_is_barred_must_keep_away() {
        let (penalty, start) = (Penalty::per_minute(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(penalty.check(&1, start).is_ok() && penalty.check(&1, start).is_ok());
        // The guide's client: it pauses 2, 4, 8, 16 and 32 seconds, and gives up when all of these fail.
        for seconds in [0, 2, 6, 14, 30, 62] {
            assert_eq!(penalty.check(&1, at(seconds)), Err(BARRED), "{seconds}");
        }
        assert!(penalty.check(&2, at(62)).is_ok());
        penalty.barred.lock().remove(&1);
        assert!(penalty.check(&1, at(62)).is_err(), "the rate counts by the real clock");
    }

    #[test]
    fn another_number_pardons_and_the_same_one_does_not() {
        let (penalty, now) = (Penalty::per_minute(1), Instant::now());
        assert!(penalty.check(&1, now).is_ok() && penalty.check(&1, now).is_err());
        penalty.set(1);
        assert!(penalty.check(&1, now).is_err());
        penalty.set(5);
        assert!((0..5).all(|_| penalty.check(&1, now).is_ok()) && penalty.check(&1, now).is_err());
        penalty.set(0);
        penalty.barred.lock().insert(1, now + BARRED); // by somebody who was just looking
        assert!((0..100).all(|_| penalty.check(&1, now).is_ok()));
    }

    #[test]
    fn many_at_once() {
        let (rate, n) = (SingleRate::per_minute(100), |n| NonZeroU32::new(n).unwrap());
        assert!(rate.check_many(n(60)).is_ok());
        assert!(rate.check_many(n(60)).is_err(), "all or nothing");
        assert!(rate.check_many(n(40)).is_ok());
        assert!(SingleRate::per_minute(100).check_many(n(1000)).is_ok(), "one that is larger than the minute");
    }

    #[test]
    fn another_number_counts_anew_and_the_same_one_goes_on() {
        let rate = Rate::per_minute(1);
        assert!(rate.check(&1).is_ok() && rate.check(&1).is_err());
        rate.set(1);
        assert!(rate.check(&1).is_err());
        rate.set(2);
        assert!(rate.check(&1).is_ok() && rate.check(&1).is_ok() && rate.check(&1).is_err());
        rate.set(0);
        assert!((0..100).all(|_| rate.check(&1).is_ok()));
    }

    #[test]
    fn zero_is_no_limit() {
        let (rate, single) = (Rate::per_minute(0), SingleRate::per_minute(0));
        for _ in 0..10_000 {
            assert!(rate.check(&()).is_ok() && single.check().is_ok());
        }
    }
}
