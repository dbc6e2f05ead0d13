//! Rates of counters.

use std::time::{Duration, Instant};

/// The shortest time that a rate is the average of.
const MIN_PERIOD: Duration = Duration::from_millis(900);

/// The numbers of messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of clients, and messages over REST.
    pub received: u64,
    /// Messages written to clients.
    pub sent: u64,
}

/// The average rates between two looks at counters.
#[derive(Debug)]
pub(super) struct Rate {
    at: Instant,
    counters: Counters,
    last: (f64, f64),
}

impl Rate {
    /// Begins at `at` with `counters`.
    pub(super) fn begin(at: Instant, counters: Counters) -> Self {
        Self { at, counters, last: (0.0, 0.0) }
    }

    /// Returns the messages in a second that came in and went out since the last look, or what that look returned if it was just now.
    pub(super) fn observe(&mut self, now: Instant, counters: Counters) -> (f64, f64) {
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed >= MIN_PERIOD {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            self.last = (rate(counters.received, self.counters.received), rate(counters.sent, self.counters.sent));
            (self.at, self.counters) = (now, counters);
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_the_average_since_the_last_look() {
        let start = Instant::now();
        let mut rate = Rate::begin(start, Counters::default());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(rate.observe(at(100), Counters { received: 5, sent: 5 }), (0.0, 0.0), "too early to tell");
        assert_eq!(rate.observe(at(2000), Counters { received: 10, sent: 40 }), (5.0, 20.0));
        assert_eq!(rate.observe(at(2500), Counters { received: 99, sent: 99 }), (5.0, 20.0));
        assert_eq!(rate.observe(at(12_000), Counters { received: 110, sent: 40 }), (10.0, 0.0));
    }
}
