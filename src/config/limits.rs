//! `[limits]`: every bound on what others may do.

use serde::{Deserialize, Serialize};

/// `[limits]`: 0 switches a limit off, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Messages a minute on one connection, all at once if it likes (guide section 8.3). Text and binary frames count.
    pub messages_per_minute: u32,
    /// Messages a minute of one user over all connections, so that reconnecting does not start anew.
    pub user_messages_per_minute: u32,
    /// Unicode characters in a message; more is answered with `MESSAGE_TOO_LARGE`.
    pub max_message_chars: usize,
    /// Bytes in a WebSocket frame or message; more closes the connection with 1009.
    pub max_frame_bytes: usize,
    /// Live connections of one user.
    pub connections_per_user: u32,
    /// Live connections from one address (an IPv6 /64 is one address).
    pub connections_per_address: u32,
    /// Live connections in all.
    pub connections: u32,
    /// WebSocket handshakes a minute from one address.
    pub connects_per_minute: u32,
    /// Password log-ins a minute from one address.
    pub logins_per_minute: u32,
    /// Refused credentials a minute from one address that are still answered with a close code; then 429.
    pub refusals_per_minute: u32,
    /// Seconds between the server's WebSocket pings.
    pub ping_seconds: u32,
    /// Seconds without a sign of life until a connection is closed with 4102.
    pub idle_seconds: u32,
    /// Seconds a write may wait for a slow reader until 4100.
    pub write_seconds: u32,
    /// Frames a minute on one connection that are no whole message: pings, fragments, pongs that nobody asked for. More closes
    /// it with 4008.
    pub frames_per_minute: u32,
    /// Bytes a minute that one connection may send. Absent: as many as `messages_per_minute` of `max_frame_bytes` each.
    pub bytes_per_minute: Option<u32>,
    /// REST calls a minute with one token of a user or a device.
    pub requests_per_minute: u32,
    /// REST calls a minute with one token of an administrator or a service, which push for everybody.
    pub trusted_requests_per_minute: u32,
    /// Pairings a minute that devices at one address may begin.
    pub pairings_per_minute: u32,
    /// Open HTTP connections of one address that are no WebSocket (yet). Absent: as many as `connections_per_address`, but at
    /// least 50; any number where that is unbounded.
    pub sockets_per_address: Option<u32>,
    /// Open HTTP connections in all that are no WebSocket (yet); further ones wait.
    pub sockets: u32,
    /// Seconds in which a request's head must have arrived, and that an HTTP connection may be idle before it. Can't be 0.
    pub head_seconds: u32,
    /// Seconds in which a request's body must have arrived. Can't be 0.
    pub body_seconds: u32,
    /// Bytes in a REST body; more is 413.
    pub push_bytes: usize,
    /// Live messages that a connection may fall behind, a group; a power of two fits best. Can't be 0.
    pub group_buffer: usize,
    /// Bytes of messages that a connection may fall behind, all its groups together. Can't be 0.
    pub group_bytes: usize,
    /// Tokens of one user; a log-in beyond that retires the one unused for longest. Can't be 0.
    pub tokens_per_user: usize,
    /// Devices of one user.
    pub devices_per_user: usize,
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
            connects_per_minute: 60,
            logins_per_minute: 10,
            refusals_per_minute: 10,
            ping_seconds: 30,
            idle_seconds: 75,
            write_seconds: 10,
            frames_per_minute: 6000,
            bytes_per_minute: None,
            requests_per_minute: 6000,
            trusted_requests_per_minute: 600_000,
            pairings_per_minute: 10,
            sockets_per_address: None,
            sockets: 2000,
            head_seconds: 10,
            body_seconds: 30,
            push_bytes: 262_144,
            group_buffer: 64,
            group_bytes: 4 << 20,
            tokens_per_user: 100,
            devices_per_user: 100,
        }
    }
}

impl Limits {
    /// The bound on plain HTTP connections of one address.
    pub fn sockets_per_address(&self) -> u32 {
        let follows = |n: u32| if n == 0 { 0 } else { n.max(50) };
        self.sockets_per_address.unwrap_or_else(|| follows(self.connections_per_address))
    }

    /// The bound on bytes a minute of one connection. 0, no bound, where what it follows from is unbounded.
    pub fn bytes_per_minute(&self) -> u32 {
        let follows = || u32::try_from(self.max_frame_bytes).unwrap_or(u32::MAX).saturating_mul(self.messages_per_minute);
        self.bytes_per_minute.unwrap_or_else(follows)
    }
}
