//! The schedule of pings, of the idle timeout and of the credential's expiry.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Watermark;

/// The action that a heartbeat has due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// None.
    Nothing,
    /// A ping, with this payload or an empty one.
    Ping(Option<Watermark>),
}

/// The schedule of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ping: Option<Duration>,
    idle: Option<Duration>,
    next_ping: Instant,
    /// The credential's expiry.
    end: Instant,
    /// The next moment at which something may be due.
    pub(super) due: Instant,
}

/// "Never" as a timer's duration: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

impl Heartbeat {
    /// A schedule from now on: pings and the idle timeout in seconds, 0 meaning never; `expires_in` is the credential's remaining
    /// validity, `None` meaning without end.
    pub(super) fn new(ping_seconds: u32, idle_seconds: u32, expires_in: Option<Duration>) -> Self {
        let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
        let (ping, idle) = (seconds(ping_seconds), seconds(idle_seconds));
        let now = Instant::now();
        let first = ping.or(idle).unwrap_or(NEVER);
        let end = now + expires_in.unwrap_or(NEVER).min(NEVER);
        Self { ping, idle, next_ping: now + ping.unwrap_or(NEVER), end, due: (now + first).min(end) }
    }

    /// Returns whether the credential has expired.
    pub(super) fn expired(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// Returns whether a client that has been silent for `silence` is idle for too long.
    pub(super) fn timed_out(&self, silence: Duration) -> bool {
        self.idle.is_some_and(|idle| silence >= idle)
    }

    /// Sets the next moment, and returns whether a ping is due now.
    pub(super) fn advance(&mut self, now: Instant, silence: Duration) -> bool {
        let ping = self.ping.filter(|_| now >= self.next_ping);
        if let Some(every) = ping {
            self.next_ping = now + every;
        }
        let timeout = now + self.idle.map_or(NEVER, |idle| idle.saturating_sub(silence));
        self.due = self.next_ping.min(timeout).min(self.end);
        ping.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep_until;

    #[tokio::test(start_paused = true)]
    async fn heartbeat_pings_at_30_and_60_and_times_out_at_75() {
        let start = Instant::now();
        let mut clock = Heartbeat::new(30, 75, None);
        let mut seen = Vec::new();
        loop {
            sleep_until(clock.due).await;
            let silence = start.elapsed();
            if clock.timed_out(silence) {
                break;
            }
            seen.push((silence.as_secs(), clock.advance(Instant::now(), silence)));
        }
        assert_eq!(seen, [(30, true), (60, true)]);
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn active_client_never_times_out() {
        let mut clock = Heartbeat::new(30, 75, None);
        for _ in 0..10 {
            sleep_until(clock.due).await;
            assert!(!clock.timed_out(Duration::from_secs(1)));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_heartbeat_is_never_due() {
        let off = Heartbeat::new(0, 0, None);
        assert!(off.due >= Instant::now() + NEVER);
        assert!(!off.timed_out(NEVER));
    }

    #[tokio::test(start_paused = true)]
    async fn credential_expires_to_the_second() {
        let start = Instant::now();
        let mut clock = Heartbeat::new(30, 75, Some(Duration::from_secs(40)));
        while !clock.expired(Instant::now()) {
            sleep_until(clock.due).await;
            clock.advance(Instant::now(), Duration::ZERO);
        }
        assert_eq!(start.elapsed().as_secs(), 40);
    }
}
