//! When to ping, and when to give a client up.

use std::time::Duration;

use tokio::time::Instant;

/// When to ping and when to give up.
pub(super) struct Heartbeat {
    ping: Option<Duration>,
    idle: Option<Duration>,
    next_ping: Instant,
    /// The next moment at which something may be due.
    pub(super) due: Instant,
}

/// What "never" is to a timer: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

impl Heartbeat {
    pub(super) fn new(ping_seconds: u32, idle_seconds: u32) -> Self {
        let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
        let (ping, idle) = (seconds(ping_seconds), seconds(idle_seconds));
        let now = Instant::now();
        let first = ping.or(idle).unwrap_or(NEVER);
        Self { ping, idle, next_ping: now + ping.unwrap_or(NEVER), due: now + first }
    }

    pub(super) fn given_up(&self, silence: Duration) -> bool {
        self.idle.is_some_and(|idle| silence >= idle)
    }

    /// Sets the next moment, and says whether a ping is due now.
    pub(super) fn advance(&mut self, now: Instant, silence: Duration) -> bool {
        let ping = self.ping.filter(|_| now >= self.next_ping);
        if let Some(every) = ping {
            self.next_ping = now + every;
        }
        let give_up = now + self.idle.map_or(NEVER, |idle| idle.saturating_sub(silence));
        self.due = self.next_ping.min(give_up);
        ping.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep_until;

    #[tokio::test(start_paused = true)]
    async fn pings_at_30_and_60_and_gives_up_at_75() {
        let start = Instant::now();
        let mut clock = Heartbeat::new(30, 75);
        let mut seen = Vec::new();
        loop {
            sleep_until(clock.due).await;
            let silence = start.elapsed();
            if clock.given_up(silence) {
                break;
            }
            seen.push((silence.as_secs(), clock.advance(Instant::now(), silence)));
        }
        assert_eq!(seen, [(30, true), (60, true)]);
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lively_client_is_never_given_up() {
        let mut clock = Heartbeat::new(30, 75);
        for _ in 0..10 {
            sleep_until(clock.due).await;
            assert!(!clock.given_up(Duration::from_secs(1)));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_is_never_due() {
        let off = Heartbeat::new(0, 0);
        assert!(off.due >= Instant::now() + NEVER);
        assert!(!off.given_up(NEVER));
    }
}
