//! The end of a connection.

use std::fmt;
use std::time::Duration;

use crate::wire::CloseCode;

/// The close code with which a client refuses a message as too large for it (RFC 6455 section 7.4.1).
const TOO_BIG: u16 = 1009;

/// The reason for which a connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// The client closed, with this code where it sent one, or vanished: nothing can be sent any more.
    Gone(Option<u16>),
    /// The server closes, with this code; the client may return after so many seconds.
    Close(CloseCode, Option<f64>),
}

impl End {
    /// Too many messages, frames or bytes; `wait` is the time until the next one is accepted.
    pub fn too_many(wait: Duration) -> Self {
        let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
        Self::Close(CloseCode::RateLimited, Some(seconds))
    }

    /// The close code that the server sends, if it closes.
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::Gone(_) => None,
            Self::Close(code, _) => Some(code.code()),
        }
    }

    /// The close code that the client sent, if it closed with one.
    pub const fn client_code(self) -> Option<u16> {
        match self {
            Self::Gone(code) => code,
            Self::Close(..) => None,
        }
    }

    /// Returns whether the client closed because a message was too large for it.
    pub fn too_big_for_client(self) -> bool {
        self.client_code() == Some(TOO_BIG)
    }
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Close(code, None)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone(_) => "client closed",
            Self::Close(code, _) => code.reason(),
        })
    }
}
