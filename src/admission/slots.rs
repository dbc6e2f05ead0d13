//! Times to return, spread over those who were refused.
//!
//! Where many are refused at once, each is told a time of its own, one after the other at the rate of the limit: whoever comes then
//! finds room, and they don't come back in step.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The longest time beyond the next free place that anyone is told: those beyond it get a random one within it, since somebody who does
/// not wait would else put off all others.
const MAX_SPREAD: Duration = Duration::from_secs(60);
/// The largest number of keys with a time; the clients of others are told the next free place.
const MAX_KEYS: usize = 100_000;

/// The last time that was told, by key.
#[derive(Debug)]
pub struct Slots<K: Hash + Eq + Clone>(Mutex<HashMap<K, Instant>>);

impl<K: Hash + Eq + Clone> Default for Slots<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Slots<K> {
    /// Returns the time to wait from `now` on for a client of `key`, of which one more is allowed after `wait` and another after each
    /// `interval`.
    pub fn next(&self, key: &K, now: Instant, wait: Duration, interval: Duration) -> Duration {
        let mut told = self.0.lock();
        let slot = next_slot(told.get(key).copied(), now, wait, interval);
        if let Some(slot) = slot
            && (told.len() < MAX_KEYS || told.contains_key(key))
        {
            told.insert(key.clone(), slot);
        }
        slot.map_or_else(|| within_spread(wait), |slot| slot.saturating_duration_since(now))
    }

    /// Forgets the times that have passed.
    pub fn sweep(&self) {
        let (mut told, now) = (self.0.lock(), Instant::now());
        told.retain(|_, slot| *slot > now);
        told.shrink_to_fit();
    }
}

/// Returns the next time after `last`, the one that was told before; `None` beyond [`MAX_SPREAD`].
pub fn next_slot(last: Option<Instant>, now: Instant, wait: Duration, interval: Duration) -> Option<Instant> {
    let earliest = now + wait;
    let slot = last.map_or(earliest, |last| earliest.max(last + interval));
    (slot <= earliest + MAX_SPREAD).then_some(slot)
}

/// Returns a random time to wait, of at least `wait`, within [`MAX_SPREAD`].
pub fn within_spread(wait: Duration) -> Duration {
    wait + MAX_SPREAD.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn clients_that_are_refused_together_return_one_after_the_other() {
        let (slots, now) = (Slots::default(), Instant::now());
        let told: Vec<_> = (0..60).map(|_| slots.next(&"nat", now, SECOND / 2, SECOND)).collect();
        assert!(told.iter().zip(0..).all(|(told, n)| *told == SECOND / 2 + SECOND * n), "{told:?}");
        assert_eq!(slots.next(&"other", now, SECOND / 2, SECOND), SECOND / 2);
        // Later on, those who have been told are ahead of who comes anew.
        assert_eq!(slots.next(&"nat", now + SECOND * 20, SECOND, SECOND), Duration::from_millis(40_500));
        assert_eq!(slots.next(&"nat", now + SECOND * 200, SECOND, SECOND), SECOND);
    }

    #[test]
    fn client_that_does_not_wait_puts_others_off_by_a_minute_at_most() {
        let (slots, now) = (Slots::default(), Instant::now());
        let told: Vec<_> = (0..1000).map(|_| slots.next(&(), now, SECOND, SECOND)).collect();
        assert!(told.iter().all(|told| (SECOND..=SECOND + MAX_SPREAD).contains(told)));
        let late: std::collections::BTreeSet<_> = told[100..].iter().map(Duration::as_secs).collect();
        assert!(late.len() > 20, "spread: {late:?}");
    }
}
