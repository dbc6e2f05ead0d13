//! The schedule of pings, of the timeouts of a silent client and of the credential's expiry.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Watermark;
use crate::config::Limits;
use crate::core::awake::slept;

/// The actions that a heartbeat has due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// A ping, with this payload or an empty one.
    pub ping: Option<Option<Watermark>>,
    /// The client has been silent for the idle time: the connection ends, unless its peer still acknowledges.
    pub idle: bool,
}

/// The schedule of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    ping: Seconds,
    idle: Seconds,
    stalled: Seconds,
    next_ping: Instant,
    /// The credential's expiry.
    end: Instant,
    /// The time that the process had slept at the last look.
    slept: Duration,
    /// The next moment at which something may be due.
    pub(super) due: Instant,
}

/// "Never" as a timer's duration: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// A time in a setting, in whole seconds; 0: none. A fifth of the size of an optional duration.
#[derive(Debug, Clone, Copy)]
struct Seconds(u32);

impl Seconds {
    fn get(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl Heartbeat {
    /// A schedule from now on, by `limits`; `expires_in` is the credential's remaining validity, `None` meaning without end.
    pub(super) fn new(limits: &Limits, expires_in: Option<Duration>) -> Self {
        let (ping, idle, stalled) = (Seconds(limits.ping_seconds), Seconds(limits.idle_seconds), Seconds(limits.stalled_seconds));
        let now = Instant::now();
        let first = ping.get().or(idle.get()).unwrap_or(NEVER);
        let end = now + expires_in.unwrap_or(NEVER).min(NEVER);
        Self {
            ping,
            idle,
            stalled,
            next_ping: now + ping.get().unwrap_or(NEVER),
            end,
            slept: slept(),
            due: (now + first).min(end),
        }
    }

    /// Returns the time that the process has slept since the last call.
    pub(super) fn slept(&mut self) -> Duration {
        let now = slept();
        now.saturating_sub(std::mem::replace(&mut self.slept, now))
    }

    /// Sets the end of the credential, which is valid for `left` from now on.
    pub(super) fn set_end(&mut self, left: Option<Duration>) {
        self.end = Instant::now() + left.unwrap_or(NEVER).min(NEVER);
    }

    /// Returns whether the credential has expired.
    pub(super) fn expired(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// Returns whether a client that has been silent for `silence` must acknowledge at least at the level of TCP.
    pub(super) fn idle(&self, silence: Duration) -> bool {
        self.idle.get().is_some_and(|idle| silence >= idle)
    }

    /// Returns whether a client that has been silent for `silence` is closed in any case. Without pings, only where a write waits:
    /// nothing else asks the client for a sign of life.
    pub(super) fn stalled(&self, silence: Duration, writing: bool) -> bool {
        (writing || self.ping.get().is_some()) && self.stalled.get().is_some_and(|stalled| silence >= stalled)
    }

    /// Sets the next moment, and returns whether a ping is due now.
    pub(super) fn advance(&mut self, now: Instant, silence: Duration) -> bool {
        let ping = self.ping.get().filter(|_| now >= self.next_ping);
        if let Some(every) = ping {
            self.next_ping = now + every;
        }
        // An idle client is looked at again with each ping.
        let idle = self.idle.get().filter(|&idle| idle > silence).map_or(self.next_ping, |idle| now + (idle - silence));
        let stalled = self.stalled.get().filter(|_| self.ping.get().is_some());
        let stalled = now + stalled.map_or(NEVER, |stalled| stalled.saturating_sub(silence));
        self.due = self.next_ping.min(idle).min(stalled).min(self.end);
        ping.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep_until;

    fn schedule(ping_seconds: u32, idle_seconds: u32, stalled_seconds: u32, expires_in: Option<Duration>) -> Heartbeat {
        let limits = Limits { ping_seconds, idle_seconds, stalled_seconds, ..Limits::default() };
        Heartbeat::new(&limits, expires_in)
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeat_pings_at_30_and_60_and_is_idle_at_75() {
        let start = Instant::now();
        let mut clock = schedule(30, 75, 600, None);
        let mut seen = Vec::new();
        loop {
            sleep_until(clock.due).await;
            let silence = start.elapsed();
            if clock.idle(silence) {
                break;
            }
            seen.push((silence.as_secs(), clock.advance(Instant::now(), silence)));
        }
        assert_eq!(seen, [(30, true), (60, true)]);
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_client_is_looked_at_with_each_ping_until_it_has_stalled() {
        let start = Instant::now();
        let mut clock = schedule(30, 75, 200, None);
        let mut seen = Vec::new();
        loop {
            sleep_until(clock.due).await;
            let silence = start.elapsed();
            if clock.stalled(silence, false) {
                break;
            }
            seen.push((silence.as_secs(), clock.idle(silence), clock.advance(Instant::now(), silence)));
        }
        let expected =
            [(30, false, true), (60, false, true), (75, true, false), (90, true, true), (120, true, true), (150, true, true)];
        assert_eq!(seen[..6], expected);
        assert_eq!(seen[6..], [(180, true, true)]);
        assert_eq!(start.elapsed().as_secs(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn active_client_never_times_out() {
        let mut clock = schedule(30, 75, 600, None);
        for _ in 0..10 {
            sleep_until(clock.due).await;
            assert!(!clock.idle(Duration::from_secs(1)) && !clock.stalled(Duration::from_secs(1), true));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn disabled_heartbeat_is_never_due() {
        let off = schedule(0, 0, 0, None);
        assert!(off.due >= Instant::now() + NEVER);
        assert!(!off.idle(NEVER) && !off.stalled(NEVER, true));
    }

    #[tokio::test(start_paused = true)]
    async fn without_pings_only_a_waiting_write_stalls() {
        let silence = Duration::from_secs(600);
        let mut clock = schedule(0, 0, 600, None);
        clock.advance(Instant::now(), silence);
        assert!(clock.due >= Instant::now() + NEVER);
        assert!(!clock.stalled(silence, false) && clock.stalled(silence, true));
    }

    #[tokio::test(start_paused = true)]
    async fn credential_expires_to_the_second() {
        let start = Instant::now();
        let mut clock = schedule(30, 75, 600, Some(Duration::from_secs(40)));
        while !clock.expired(Instant::now()) {
            sleep_until(clock.due).await;
            clock.advance(Instant::now(), Duration::ZERO);
        }
        assert_eq!(start.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_is_reported_once() {
        let mut clock = schedule(30, 75, 600, None);
        assert_eq!(clock.slept(), Duration::ZERO);
        crate::core::awake::pretend_sleep(Duration::from_secs(80));
        assert_eq!((clock.slept(), clock.slept()), (Duration::from_secs(80), Duration::ZERO));
        let mut later = schedule(30, 75, 600, None);
        assert_eq!(later.slept(), Duration::ZERO, "of before its connection");
    }
}
