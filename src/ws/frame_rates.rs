//! Rate limits below the level of messages: of frames that are no whole message (control frames, fragments), and of bytes. A flood of
//! fragments or empty continuations would reach no message limit.
//!
//! Pongs that answer the server's own pings are not counted: the server decides how many come, not the client.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::admission::rates::SingleRateLimit;
use crate::config::Limits;
use crate::wire::frame::{BINARY, FrameHeader, PONG, TEXT};

/// The largest number of expected pongs; a client that answers only the newest ping (RFC 6455 section 5.5.3) never sends them all.
const MAX_EXPECTED_PONGS: u32 = 4096;

/// The limits of one connection.
pub(super) struct FrameRates {
    frames: SingleRateLimit,
    bytes: SingleRateLimit,
    /// The number of pings that no pong has answered yet.
    expected_pongs: u32,
}

impl FrameRates {
    /// Uses of `limits`: frames and bytes a minute.
    pub(super) fn new(limits: &Limits) -> Self {
        let (frames, bytes) = (limits.frames_per_minute, limits.bytes_per_minute());
        Self { frames: SingleRateLimit::per_minute(frames), bytes: SingleRateLimit::per_minute(bytes), expected_pongs: 0 }
    }

    /// Notes that `count` pings are about to be written: their pongs are not counted.
    #[inline]
    pub(super) fn expect_pongs(&mut self, count: u32) {
        self.expected_pongs = self.expected_pongs.saturating_add(count).min(MAX_EXPECTED_PONGS);
    }

    /// Counts a frame.
    ///
    /// # Errors
    /// The time until the next one is accepted, when a limit is exceeded.
    #[inline]
    pub(super) fn count(&mut self, header: &FrameHeader) -> Result<(), Duration> {
        if header.opcode == PONG && self.expected_pongs > 0 {
            self.expected_pongs -= 1;
            return Ok(());
        }
        let message = header.fin && matches!(header.opcode, TEXT | BINARY); // counted where messages are
        if !message {
            self.frames.check()?;
        }
        let bytes = u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX);
        NonZeroU32::new(bytes).map_or(Ok(()), |n| self.bytes.check_many(n))
    }
}
