//! Rate limits: governor's limiters by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::slots::Slots;
use crate::core::awake::{slept, woke_lately};

/// The time that a number of things is allowed in.
const MINUTE: Duration = Duration::from_secs(60);

/// Returns a quota of `per_minute` with a burst of the same number; `None` for 0.
fn quota(per_minute: u32) -> Option<Quota> {
    NonZeroU32::new(per_minute).map(|n| Quota::per_minute(n).allow_burst(n))
}

/// Allows what a limit refuses while the process has slept until lately.
pub(super) fn unless_slept(checked: Result<(), Duration>) -> Result<(), Duration> {
    checked.or_else(|wait| if woke_lately() { Ok(()) } else { Err(wait) })
}

/// A rate limit for each key; none where the configured number is 0.
pub struct RateLimit<K: Hash + Eq + Clone> {
    limiter: ArcSwapOption<DefaultKeyedRateLimiter<K>>,
    per_minute: AtomicU32,
    /// The times to return that were told.
    slots: Slots<K>,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// Allows `n` a minute for each key; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { limiter: ArcSwapOption::new(Self::limiter(n)), per_minute: AtomicU32::new(n), slots: Slots::default() }
    }

    fn limiter(n: u32) -> Option<Arc<DefaultKeyedRateLimiter<K>>> {
        quota(n).map(|quota| Arc::new(RateLimiter::keyed(quota)))
    }

    /// Changes the limit to `n` a minute. A different number resets all counts; returns whether it did.
    pub fn set_limit(&self, n: u32) -> bool {
        let changed = self.per_minute.swap(n, Ordering::AcqRel) != n;
        if changed {
            self.limiter.store(Self::limiter(n));
        }
        changed
    }

    /// Counts one.
    ///
    /// # Errors
    /// The time until one more is allowed, when the limit is exceeded.
    #[inline]
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        if self.per_minute.load(Ordering::Acquire) == 0 {
            return Ok(()); // without a look at the limiter, which costs more
        }
        let limiter = self.limiter.load();
        let Some(limiter) = &*limiter else { return Ok(()) };
        limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Counts one of something that many clients of a key do: each that is refused gets a time of its own to return.
    ///
    /// # Errors
    /// The time to wait, when the limit is exceeded.
    pub fn check_spread(&self, key: &K) -> Result<(), Duration> {
        self.check(key).map_err(|wait| self.slots.next(key, Instant::now(), wait, self.interval()))
    }

    /// Returns the time after which one more is allowed, each time.
    fn interval(&self) -> Duration {
        MINUTE / self.per_minute.load(Ordering::Acquire).max(1)
    }

    /// Counts one of something that may have waited while this process slept: all that did is allowed, since all of it comes at once. For
    /// what another limit bounds as well.
    ///
    /// # Errors
    /// As [`check_spread`](Self::check_spread).
    pub fn check_after_sleep(&self, key: &K) -> Result<(), Duration> {
        unless_slept(self.check_spread(key))
    }

    /// Evicts keys that have their full quota again: governor never does so by itself.
    pub fn sweep(&self) {
        if let Some(limiter) = &*self.limiter.load() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        self.slots.sweep();
    }
}

/// The time for which a key is blocked once it has exceeded its limit; every further attempt restarts it. Longer than the longest
/// back-off of the guide's JavaScript client (32 s), so that the client sees five failures in a row and stops, instead of retrying for
/// ever.
const BLOCK_DURATION: Duration = Duration::from_secs(60);

/// A rate limit that, once exceeded, blocks its key until no attempt was made for [`BLOCK_DURATION`].
pub struct BlockingRateLimit<K: Hash + Eq + Clone> {
    rate: RateLimit<K>,
    blocked: Mutex<HashMap<K, Instant>>,
    /// The times to return that were told.
    slots: Slots<K>,
}

impl<K: Hash + Eq + Clone> BlockingRateLimit<K> {
    /// Allows `n` a minute for each key; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self { rate: RateLimit::per_minute(n), blocked: Mutex::default(), slots: Slots::default() }
    }

    /// Changes the limit to `n` a minute. A different number resets all counts and unblocks all keys.
    pub fn set_limit(&self, n: u32) {
        if self.rate.set_limit(n) {
            self.blocked.lock().clear();
        }
    }

    /// Counts one at `now`.
    ///
    /// # Errors
    /// The time to wait, when the limit is exceeded or the key is blocked: the first client is told [`BLOCK_DURATION`], others more,
    /// as the limit allows one after the other.
    #[inline]
    pub fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        if self.rate.per_minute.load(Ordering::Acquire) == 0 {
            return Ok(()); // also for a key that was blocked just before the limit was lifted
        }
        let mut blocked = self.blocked.lock();
        if blocked.get(key).is_some_and(|&end| end > now) || self.rate.check(key).is_err() {
            blocked.insert(key.clone(), now + BLOCK_DURATION);
            return Err(self.slots.next(key, now, BLOCK_DURATION, self.rate.interval()));
        }
        Ok(())
    }

    /// Evicts keys that are no longer blocked or have their full quota again.
    pub fn sweep(&self) {
        self.rate.sweep();
        let (mut blocked, now) = (self.blocked.lock(), Instant::now());
        blocked.retain(|_, end| *end > now);
        blocked.shrink_to_fit();
        self.slots.sweep();
    }
}

/// The clock of all rate limits without keys. Each connection has several of these, and a clock of governor's takes more room than the
/// rest of one.
#[derive(Debug, Clone, Copy)]
struct SharedClock;

static CLOCK: LazyLock<DefaultClock> = LazyLock::new(DefaultClock::default);

impl Clock for SharedClock {
    type Instant = <DefaultClock as Clock>::Instant;

    #[inline]
    fn now(&self) -> Self::Instant {
        CLOCK.now()
    }
}

/// A rate limit without keys; none where the configured number is 0.
pub struct SingleRateLimit(Option<Single>);

struct Single {
    limiter: RateLimiter<NotKeyed, InMemoryState, SharedClock, NoOpMiddleware<<DefaultClock as Clock>::Instant>>,
    per_minute: NonZeroU32,
    /// What may come beyond the limit: it was sent, at that rate, while this process slept, and is read at once. The lower half is its
    /// number, the upper one the seconds slept until now for which it was counted. One word, since each connection has several of these.
    extra: AtomicU64,
}

/// The seconds that this process has slept, as far as they fit.
fn slept_seconds() -> u32 {
    u32::try_from(slept().as_secs()).unwrap_or(u32::MAX)
}

impl Single {
    fn new(quota: Quota) -> Self {
        let extra = AtomicU64::new(u64::from(slept_seconds()) << 32);
        Self { limiter: RateLimiter::direct_with_clock(quota, SharedClock), per_minute: quota.burst_size(), extra }
    }

    /// Takes `n` from what was allowed during sleeps; returns whether there was as much.
    fn take_extra(&self, n: NonZeroU32) -> bool {
        let (slept, woke_lately) = (slept_seconds(), woke_lately());
        let after = |extra: u64| {
            let (counted, left) = ((extra >> 32) as u32, extra & u64::from(u32::MAX));
            let allowed = u64::from(slept.saturating_sub(counted)) * u64::from(self.per_minute.get()) / 60;
            let left = if woke_lately { (left + allowed).min(u32::MAX.into()) } else { 0 };
            let taken = left.checked_sub(n.get().into());
            (u64::from(slept) << 32 | taken.unwrap_or(left), taken.is_some())
        };
        let before = self.extra.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |extra| Some(after(extra).0));
        before.is_ok_and(|extra| after(extra).1)
    }
}

impl SingleRateLimit {
    /// Allows `n` a minute; 0: any number.
    pub fn per_minute(n: u32) -> Self {
        Self(quota(n).map(Single::new))
    }

    /// Counts one.
    ///
    /// # Errors
    /// The time until one more is allowed, when the limit is exceeded.
    #[inline]
    pub fn check(&self) -> Result<(), Duration> {
        let Some(single) = &self.0 else { return Ok(()) };
        match single.limiter.check() {
            Err(_) if single.take_extra(NonZeroU32::MIN) => Ok(()),
            checked => checked.map_err(|not_until| not_until.wait_time_from(SharedClock.now())),
        }
    }

    /// Counts `n` at once; more than the burst counts as the burst.
    ///
    /// # Errors
    /// The time until they are allowed, when they exceed the limit; none of them is counted then.
    #[inline]
    pub fn check_many(&self, n: NonZeroU32) -> Result<(), Duration> {
        let Some(single) = &self.0 else { return Ok(()) };
        let n = n.min(single.per_minute);
        match single.limiter.check_n(n) {
            Ok(Err(_)) if single.take_extra(n) => Ok(()),
            Ok(Err(not_until)) => Err(not_until.wait_time_from(SharedClock.now())),
            Ok(Ok(())) | Err(_) => Ok(()), // never more than the burst
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_equals_the_number_per_minute_for_each_key() {
        let rate = RateLimit::per_minute(3);
        for _ in 0..3 {
            assert!(rate.check(&1).is_ok());
        }
        let wait = rate.check(&1).unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert!(rate.check(&2).is_ok());
        rate.sweep();
        assert!(rate.check(&1).is_err(), "sweeping evicts only keys with their full quota");
    }

    #[test]
    fn attempt_of_a_blocked_key_restarts_the_block() {
        let (limit, start) = (BlockingRateLimit::per_minute(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(limit.check(&1, start).is_ok() && limit.check(&1, start).is_ok());
        // The guide's client pauses 2, 4, 8, 16 and 32 seconds, and stops when all of these attempts fail.
        for seconds in [0, 2, 6, 14, 30, 62] {
            assert!(limit.check(&1, at(seconds)).is_err_and(|wait| wait >= BLOCK_DURATION), "{seconds}");
        }
        assert!(limit.check(&2, at(62)).is_ok());
        limit.blocked.lock().remove(&1);
        assert!(limit.check(&1, at(62)).is_err(), "the rate counts by the real clock");
    }

    #[test]
    fn changed_limit_unblocks_and_an_equal_one_does_not() {
        let (limit, now) = (BlockingRateLimit::per_minute(1), Instant::now());
        assert!(limit.check(&1, now).is_ok() && limit.check(&1, now).is_err());
        limit.set_limit(1);
        assert!(limit.check(&1, now).is_err());
        limit.set_limit(5);
        assert!((0..5).all(|_| limit.check(&1, now).is_ok()) && limit.check(&1, now).is_err());
        limit.set_limit(0);
        limit.blocked.lock().insert(1, now + BLOCK_DURATION); // by a check that ran at the same time
        assert!((0..100).all(|_| limit.check(&1, now).is_ok()));
    }

    #[test]
    fn check_many_counts_all_or_nothing() {
        let (rate, n) = (SingleRateLimit::per_minute(100), |n| NonZeroU32::new(n).unwrap());
        assert!(rate.check_many(n(60)).is_ok());
        assert!(rate.check_many(n(60)).is_err(), "all or nothing");
        assert!(rate.check_many(n(40)).is_ok());
        assert!(SingleRateLimit::per_minute(100).check_many(n(1000)).is_ok(), "one that is larger than the burst");
    }

    #[test]
    fn what_was_sent_during_a_sleep_is_read_at_once() {
        let (rate, bytes) = (SingleRateLimit::per_minute(60), SingleRateLimit::per_minute(600));
        let hundred = NonZeroU32::new(100).unwrap();
        let take = || (0..).take_while(|_| rate.check().is_ok()).count();
        let take_bytes = || (0..).take_while(|_| bytes.check_many(hundred).is_ok()).count();
        assert_eq!((take(), take_bytes()), (60, 6));
        crate::core::awake::pretend_sleep(Duration::from_secs(80));
        assert_eq!((take(), take_bytes()), (80, 8));
        assert_eq!((take(), take_bytes()), (0, 0), "once");
        let rate = RateLimit::per_minute(1);
        assert!(rate.check(&1).is_ok() && rate.check(&1).is_err() && rate.check_after_sleep(&1).is_ok());
    }

    #[test]
    fn changed_limit_resets_counts_and_an_equal_one_does_not() {
        let rate = RateLimit::per_minute(1);
        assert!(rate.check(&1).is_ok() && rate.check(&1).is_err());
        rate.set_limit(1);
        assert!(rate.check(&1).is_err());
        rate.set_limit(2);
        assert!(rate.check(&1).is_ok() && rate.check(&1).is_ok() && rate.check(&1).is_err());
        rate.set_limit(0);
        assert!((0..100).all(|_| rate.check(&1).is_ok()));
    }

    #[test]
    fn limit_of_zero_allows_any_number() {
        let (rate, single) = (RateLimit::per_minute(0), SingleRateLimit::per_minute(0));
        for _ in 0..10_000 {
            assert!(rate.check(&()).is_ok() && single.check().is_ok());
        }
    }
}
