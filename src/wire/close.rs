//! The close codes, each with the client's next step.

/// The reason for which the server closes a connection (RFC 6455 section 7.4, and the private range from 4000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1001: the server shuts down, or the client must reconnect.
    GoingAway,
    /// 1002: the client broke RFC 6455's framing.
    Protocol,
    /// 1007: a text frame that is not UTF-8.
    InvalidData,
    /// 1009: a frame or message over the hard limit.
    TooBig,
    /// 4000: an internal error.
    Internal,
    /// 4001: no, wrong, expired or revoked credential.
    Unauthorized,
    /// 4002: the configuration asks for a bound device and there is none.
    NoDevice,
    /// 4003: the user id in the path is not the credential's user.
    WrongUser,
    /// 4008: too many messages.
    RateLimited,
    /// 4100: the backlog could not be written within the write deadline.
    TooSlow,
    /// 4101: too many connections of this user or this address.
    ConnectionLimit,
    /// 4102: no answer to pings.
    NoPong,
    /// 4104: too many clients (readers) of this user.
    TooManyClients,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::InvalidData => 1007,
            Self::TooBig => 1009,
            Self::Internal => 4000,
            Self::Unauthorized => 4001,
            Self::NoDevice => 4002,
            Self::WrongUser => 4003,
            Self::RateLimited => 4008,
            Self::TooSlow => 4100,
            Self::ConnectionLimit => 4101,
            Self::NoPong => 4102,
            Self::TooManyClients => 4104,
        }
    }

    /// The reason in the close frame and the `disconnect` event; at most 123 bytes (RFC 6455 section 5.5).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "going away, come back",
            Self::Protocol => "protocol error",
            Self::InvalidData => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::Internal => "internal error",
            Self::Unauthorized => "authentication required",
            Self::NoDevice => "this user has no primary device",
            Self::WrongUser => "the user id in the path is not the token's user",
            Self::RateLimited => "message rate limit exceeded",
            Self::TooSlow => "too slow: backlog not written in time",
            Self::ConnectionLimit => "too many connections",
            Self::NoPong => "no answer to pings",
            Self::TooManyClients => "too many clients",
        }
    }

    /// Returns whether the client should reconnect: `false` where the same attempt can't succeed.
    pub const fn reconnect(self) -> bool {
        !matches!(
            self,
            Self::Protocol
                | Self::InvalidData
                | Self::TooBig
                | Self::Unauthorized
                | Self::NoDevice
                | Self::WrongUser
                | Self::TooManyClients
        )
    }

    /// Returns whether a `disconnect` event precedes the close frame: for the private codes, which old clients can't read.
    pub const fn announced(self) -> bool {
        self.code() >= 4000
    }

    /// Every code, for counters and tables.
    pub const ALL: [Self; 13] = [
        Self::GoingAway,
        Self::Protocol,
        Self::InvalidData,
        Self::TooBig,
        Self::Internal,
        Self::Unauthorized,
        Self::NoDevice,
        Self::WrongUser,
        Self::RateLimited,
        Self::TooSlow,
        Self::ConnectionLimit,
        Self::NoPong,
        Self::TooManyClients,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_a_close_frame_and_codes_are_distinct() {
        let mut codes: Vec<u16> = CloseCode::ALL.iter().map(|c| c.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CloseCode::ALL.len());
        assert!(CloseCode::ALL.iter().all(|c| c.reason().len() <= 123));
    }
}
