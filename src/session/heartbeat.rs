//! When to ping, and when to give a client up.

use std::time::Duration;

use tokio::time::Instant;

/// When to ping and when to give up.
pub(super) struct Heartbeat {
    ping: Option<Duration>,
    idle: Option<Duration>,
    next_ping: Instant,
    /// When the credential expires.
    end: Instant,
    /// The next moment at which something may be due.
    pub(super) due: Instant,
}

/// What "never" is to a timer: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

impl Heartbeat {
    /// Both in seconds, 0: never. `life` is how long the credential is good for.
    pub(super) fn new(ping_seconds: u32, idle_seconds: u32, life: Option<Duration>) -> Self {
        let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
        let (ping, idle) = (seconds(ping_seconds), seconds(idle_seconds));
        let now = Instant::now();
        let first = ping.or(idle).unwrap_or(NEVER);
        let end = now + life.unwrap_or(NEVER).min(NEVER);
        Self { ping, idle, next_ping: now + ping.unwrap_or(NEVER), end, due: (now + first).min(end) }
    }

    /// Whether the credential's time is over.
    pub(super) fn expired(&self, now: Instant) -> bool {
        now >= self.end
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
        self.due = self.next_ping.min(give_up).min(self.end);
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
        let mut clock = Heartbeat::new(30, 75, None);
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
        let mut clock = Heartbeat::new(30, 75, None);
        for _ in 0..10 {
            sleep_until(clock.due).await;
            assert!(!clock.given_up(Duration::from_secs(1)));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_is_never_due() {
        let off = Heartbeat::new(0, 0, None);
        assert!(off.due >= Instant::now() + NEVER);
        assert!(!off.given_up(NEVER));
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_ends_to_the_second() {
        let start = Instant::now();
        let mut clock = Heartbeat::new(30, 75, Some(Duration::from_secs(40)));
        while !clock.expired(Instant::now()) {
            sleep_until(clock.due).await;
            clock.advance(Instant::now(), Duration::ZERO);
        }
        assert_eq!(start.elapsed().as_secs(), 40);
    }
}
