//! `[limits]`: bounds on connections, messages and requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units;

/// `[limits]`: 0 disables a limit, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Messages a minute on one connection, in any burst (guide section 8.3). Text and binary frames count.
    pub messages_per_minute: u32,
    /// Messages a minute of one user over all connections, so that reconnecting does not reset the limit.
    pub user_messages_per_minute: u32,
    /// Unicode characters in a message; a longer one is answered with `MESSAGE_TOO_LARGE`.
    pub max_message_chars: usize,
    /// Bytes in a WebSocket frame or message; a larger one closes the connection with 1009.
    #[serde(deserialize_with = "units::bytes")]
    pub max_frame_bytes: usize,
    /// Live connections of one user.
    pub connections_per_user: u32,
    /// Live connections from one address. In every limit by address, an IPv6 /64 is one address, and all link-local addresses of an
    /// interface together may have four times as many; not in `sockets_per_address`.
    pub connections_per_address: u32,
    /// Live connections in total.
    pub connections: u32,
    /// WebSockets of consoles in total, which are not counted in the others.
    pub console_connections: u32,
    /// WebSocket handshakes a minute from one address without a good credential. With one, an address may open
    /// `connections_per_address` a minute and a user `connections_per_user`, but at least this many; any number where those are
    /// unlimited.
    pub connects_per_minute: u32,
    /// Wrong passwords a minute from one address, and as many again for names that have not failed there lately; from an IPv6 /48,
    /// sixteen times as many. Also log-ins of one name from one address, with whatever password.
    pub logins_per_minute: u32,
    /// Refused credentials a minute from one address that are still answered with a close code; then 429.
    pub refusals_per_minute: u32,
    /// Seconds between the server's WebSocket pings.
    #[serde(deserialize_with = "units::seconds")]
    pub ping_seconds: u32,
    /// Seconds without any frame or pong until a connection is closed with 4102, unless the peer's TCP still acknowledges.
    #[serde(deserialize_with = "units::seconds")]
    pub idle_seconds: u32,
    /// Seconds a write may wait without progress until the connection is closed with 4100, unless the peer's TCP still
    /// acknowledges.
    #[serde(deserialize_with = "units::seconds")]
    pub write_seconds: u32,
    /// Seconds without any frame, pong or progress of a write until a connection is closed with 4102, although the peer's TCP
    /// acknowledges.
    #[serde(deserialize_with = "units::seconds")]
    pub stalled_seconds: u32,
    /// Frames a minute on one connection that are not a whole message: pings, fragments, unsolicited pongs. More close the
    /// connection with 4008.
    pub frames_per_minute: u32,
    /// Bytes a minute that one connection may send. Default: as many as `messages_per_minute` of `max_frame_bytes` each.
    #[serde(deserialize_with = "units::bytes")]
    pub bytes_per_minute: Option<u32>,
    /// REST calls a minute of one user, with all of its tokens and its devices'.
    pub requests_per_minute: u32,
    /// REST calls a minute of one administrator, with all of its tokens and its services': those send for many users.
    pub trusted_requests_per_minute: u32,
    /// Pairings a minute that devices at one address may start; in an IPv6 /48, sixteen times as many.
    pub pairings_per_minute: u32,
    /// Open HTTP connections of one address that are not (yet) a WebSocket. Default: `connections_per_address`, but at least
    /// 50; unlimited where that is unlimited.
    pub sockets_per_address: Option<u32>,
    /// Open HTTP connections in total that are not (yet) a WebSocket; a further one takes the place of one that has not sent a whole
    /// request.
    pub sockets: u32,
    /// Seconds within which the head of a request must arrive, from its first byte on; that of the first one, from the beginning of the
    /// connection on. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub head_seconds: u32,
    /// Seconds that an HTTP connection may be idle after an answer, before the next request. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub keep_alive_seconds: u32,
    /// Seconds within which the body of a request must arrive. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub body_seconds: u32,
    /// Bytes in a REST body; a larger one is refused with 413.
    #[serde(deserialize_with = "units::bytes")]
    pub push_bytes: usize,
    /// Live messages that a connection may fall behind in each group; best a power of two. Not 0.
    pub group_buffer: usize,
    /// Bytes of live messages that a connection may fall behind, over all its groups. Default: 1/32 of the memory budget. Not 0.
    #[serde(deserialize_with = "units::bytes")]
    pub group_bytes: Option<usize>,
    /// Bytes of long answers to REST calls that are on their way to clients; further ones wait. One user has a quarter of them, but at
    /// least 1.25 MiB. Default: 1/16 of the memory budget. Not 0.
    #[serde(deserialize_with = "units::bytes")]
    pub answer_bytes: Option<usize>,
    /// Tokens of one user; a log-in beyond that revokes the least recently used one. Not 0.
    pub tokens_per_user: usize,
    /// Devices of one user.
    pub devices_per_user: usize,
    /// Seconds after a log-in in a browser, or after the password was shown again, within which it may change accounts, tokens and devices.
    /// 0: as long as the log-in lasts.
    #[serde(deserialize_with = "units::seconds")]
    pub elevation_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages_per_minute: 100,
            user_messages_per_minute: 300,
            max_message_chars: 10_240,
            max_frame_bytes: 65_536,
            connections_per_user: 20,
            connections_per_address: 200,
            connections: 20_000,
            console_connections: 20,
            connects_per_minute: 60,
            logins_per_minute: 10,
            refusals_per_minute: 10,
            ping_seconds: 30,
            idle_seconds: 75,
            write_seconds: 10,
            stalled_seconds: 600,
            frames_per_minute: 6000,
            bytes_per_minute: None,
            requests_per_minute: 6000,
            trusted_requests_per_minute: 600_000,
            pairings_per_minute: 10,
            sockets_per_address: None,
            sockets: 2000,
            head_seconds: 10,
            keep_alive_seconds: 75,
            body_seconds: 30,
            push_bytes: 262_144,
            group_buffer: 64,
            group_bytes: None,
            answer_bytes: None,
            tokens_per_user: 100,
            devices_per_user: 100,
            elevation_seconds: 600,
        }
    }
}

impl Limits {
    /// Returns the time for which a browser's session is elevated; `None` where sessions need no elevation.
    pub fn elevation(&self) -> Option<Duration> {
        (self.elevation_seconds > 0).then(|| Duration::from_secs(self.elevation_seconds.into()))
    }

    /// Returns the limit on open HTTP connections of one address; 0: unlimited.
    pub fn sockets_per_address(&self) -> u32 {
        let derived = |n: u32| if n == 0 { 0 } else { n.max(50) };
        self.sockets_per_address.unwrap_or_else(|| derived(self.connections_per_address))
    }

    /// Returns the limit on WebSocket handshakes a minute from one address with good credentials; 0: unlimited.
    pub fn known_connects_per_address(&self) -> u32 {
        self.known_connects(self.connections_per_address)
    }

    /// Returns the limit on WebSocket handshakes a minute of one user; 0: unlimited.
    pub fn known_connects_per_user(&self) -> u32 {
        self.known_connects(self.connections_per_user)
    }

    /// Returns the limit on handshakes for whoever may hold `connections`.
    fn known_connects(&self, connections: u32) -> u32 {
        if connections == 0 || self.connects_per_minute == 0 { 0 } else { connections.max(self.connects_per_minute) }
    }

    /// Returns the limit on bytes a minute of one connection; 0: unlimited, also where a limit that it derives from is.
    pub fn bytes_per_minute(&self) -> u32 {
        let derived = || u32::try_from(self.max_frame_bytes).unwrap_or(u32::MAX).saturating_mul(self.messages_per_minute);
        self.bytes_per_minute.unwrap_or_else(derived)
    }
}
