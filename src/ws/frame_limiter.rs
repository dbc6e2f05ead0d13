//! Rate limits below the level of messages: of frames that are no whole message (control frames, fragments), and of bytes.
//!
//! The parser returns neither fragments nor empty continuations, so a flood of them would reach no message limit. The limiter
//! sits between the parser and the stream and follows only the frame headers (RFC 6455 section 5.2). Pongs that answer the
//! server's own pings are not counted: the server decides how many come, not the client.

use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::admission::rates::SingleRateLimit;
use crate::wire::frame::{BINARY, FrameHeader, MAX_HEADER_BYTES, PONG, TEXT};

/// The largest number of expected pongs; a client that answers only the newest ping (section 5.5.3) never sends them all.
const MAX_EXPECTED_PONGS: u32 = 4096;

/// A position in a stream of frames.
#[derive(Debug, Default)]
struct HeaderScanner {
    /// The first bytes of a header of which the rest has not come yet.
    partial: [u8; MAX_HEADER_BYTES],
    partial_bytes: usize,
    /// Of the payload, still to come.
    left: u64,
}

impl HeaderScanner {
    /// Scans `bytes` and calls `each` with every frame's header, until it returns an error.
    fn scan<E>(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHeader) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skip = self.left.min(bytes.len() as u64);
                self.left -= skip;
                bytes = &bytes[usize::try_from(skip).unwrap_or(bytes.len())..];
                continue;
            }
            // Nearly every header comes whole; only one that is cut is gathered byte by byte.
            let whole = if self.partial_bytes == 0 { FrameHeader::parse(bytes) } else { None };
            let (header, used) = match whole {
                Some(header) => (whole, header.header_bytes),
                None => {
                    self.partial[self.partial_bytes] = bytes[0];
                    self.partial_bytes += 1;
                    (FrameHeader::parse(&self.partial[..self.partial_bytes]), 1)
                }
            };
            bytes = &bytes[used..];
            if let Some(header) = header {
                (self.left, self.partial_bytes) = (header.payload_bytes, 0);
                each(header)?;
            }
        }
        Ok(())
    }
}

/// The error of a read that exceeded a limit, with the time until the next frame is accepted.
#[derive(Debug, thiserror::Error)]
#[error("too many frames or bytes")]
pub(super) struct LimitExceeded(pub(super) Duration);

/// A stream with limits on its reads.
pub(super) struct FrameLimiter<S> {
    inner: S,
    /// The parser must not write: a frame of the session is half written.
    held: bool,
    /// Boxed, because the stream moves through several futures that each have room for it.
    counters: Box<Counters>,
}

/// The limits of one connection and the position in its stream.
struct Counters {
    scanner: HeaderScanner,
    frames: SingleRateLimit,
    bytes: SingleRateLimit,
    /// The number of pings that no pong has answered yet.
    expected_pongs: u32,
}

impl<S> FrameLimiter<S> {
    /// Limits of `frames` and `bytes` a minute; 0 means none.
    pub(super) fn new(inner: S, frames: u32, bytes: u32) -> Self {
        let (frames, bytes) = (SingleRateLimit::per_minute(frames), SingleRateLimit::per_minute(bytes));
        Self {
            inner,
            held: false,
            counters: Box::new(Counters { scanner: HeaderScanner::default(), frames, bytes, expected_pongs: 0 }),
        }
    }

    /// Notes that a ping is about to be written: its pong is not counted.
    pub(super) fn expect_pong(&mut self) {
        self.counters.expected_pongs = (self.counters.expected_pongs + 1).min(MAX_EXPECTED_PONGS);
    }

    /// Holds or lets through the parser's own writes: as long as they are held, they wait as if the stream took nothing.
    pub(super) fn hold_writes(&mut self, held: bool) {
        self.held = held;
    }

    /// The stream below, without limits.
    pub(super) fn inner(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl Counters {
    fn count(&mut self, bytes: &[u8]) -> Result<(), LimitExceeded> {
        let Self { scanner, frames, bytes: rate, expected_pongs } = self;
        scanner.scan(bytes, |header| {
            if header.opcode == PONG && *expected_pongs > 0 {
                *expected_pongs -= 1;
                return Ok(());
            }
            let message = header.fin && matches!(header.opcode, TEXT | BINARY); // counted where messages are
            if !message {
                frames.check().map_err(LimitExceeded)?;
            }
            let bytes = u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX);
            NonZeroU32::new(bytes).map_or(Ok(()), |n| rate.check_many(n)).map_err(LimitExceeded)
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameLimiter<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.counters.count(&buf.filled()[before..]).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameLimiter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.held {
            return Poll::Pending; // the task that writes the session's frames continues with these
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A frame as a client writes it, with a mask of zeros.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut out = vec![first];
        match payload {
            0..126 => out.push(0x80 | payload as u8),
            126..65_536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&[0; 4]);
        out.resize(out.len() + payload, b'x');
        out
    }

    proptest! {
        #[test]
        fn headers_are_the_same_however_the_stream_is_cut(
            frames in vec((any::<u8>(), prop_oneof![0usize..200, 60_000usize..70_000]), 1..8),
            cuts in vec(1usize..5000, 1..40),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|&(first, payload)| frame(first, payload)).collect();
            let (mut scanner, mut headers, mut rest) = (HeaderScanner::default(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                scanner.scan(now, |header| { headers.push((header.fin, header.opcode, header.frame_bytes())); Ok::<(), ()>(()) }).unwrap();
                rest = later;
            }
            let expected = frames
                .iter()
                .map(|&(first, payload)| (first & 0x80 != 0, first & 0x0f, frame(first, payload).len() as u64));
            prop_assert_eq!(headers, expected.collect::<Vec<_>>());
        }

        #[test]
        fn random_bytes_are_scanned_without_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = HeaderScanner::default().scan(&bytes, |_| Ok::<(), ()>(()));
        }
    }

    #[test]
    fn whole_messages_and_expected_pongs_are_not_counted() {
        let mut limiter = FrameLimiter::new((), 3, 0);
        for _ in 0..100 {
            limiter.counters.count(&frame(0x81, 10)).unwrap();
            limiter.expect_pong();
            limiter.counters.count(&frame(0x8a, 16)).unwrap();
        }
        for first in [0x89, 0x00, 0x8a] {
            limiter.counters.count(&frame(first, 0)).unwrap();
        }
        assert!(limiter.counters.count(&frame(0x01, 0)).is_err());
    }

    #[tokio::test]
    async fn held_writes_wait_until_they_are_let_through() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut limiter = FrameLimiter::new(near, 0, 0);
        limiter.hold_writes(true);
        assert!(limiter.write(b"x").now_or_never().is_none());
        limiter.inner().write_all(b"a").await.unwrap();
        limiter.hold_writes(false);
        limiter.write_all(b"b").await.unwrap();
        let mut got = [0; 2];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ab");
    }

    #[test]
    fn bytes_count_when_their_header_arrives() {
        let mut limiter = FrameLimiter::new((), 0, 1000);
        limiter.counters.count(&frame(0x82, 900)).unwrap();
        assert!(limiter.counters.count(&frame(0x82, 100)[..6]).is_err());
        assert!(FrameLimiter::new((), 0, 0).counters.count(&frame(0x82, 100_000)).is_ok());
    }
}
