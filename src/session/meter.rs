//! What a client may send below the level of messages: frames that are no whole message (control frames, fragments), and bytes.
//!
//! The parser hands on neither fragments nor empty continuations, so a flood of them would reach no message limit. The meter
//! stands between the parser and the stream and only follows the frames' heads (RFC 6455 section 5.2). Pongs that answer the
//! server's own pings are free: how many come is our doing, not the client's.

use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::admission::rates::SingleRate;
use crate::wire::frame::{BINARY, FrameHeader, MAX_HEADER_BYTES, PONG, TEXT};

/// How many pongs a client can be owing us; who answers only the newest ping (section 5.5.3) never catches up.
const MOST_OWED: u32 = 4096;

/// The position in the stream of frames.
#[derive(Debug, Default)]
struct Walker {
    /// The first bytes of a header of which the rest has not come yet.
    partial: [u8; MAX_HEADER_BYTES],
    partial_bytes: usize,
    /// Of the payload, still to come.
    left: u64,
}

impl Walker {
    /// Follows `bytes` and hands each frame's header to `each`, until it refuses one.
    fn walk<E>(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHeader) -> Result<(), E>) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skip = self.left.min(bytes.len() as u64);
                self.left -= skip;
                bytes = &bytes[usize::try_from(skip).unwrap_or(bytes.len())..];
                continue;
            }
            // A header comes nearly always whole; only one that is cut is gathered byte by byte.
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

/// Why reading ended: too much of it, for so long.
#[derive(Debug, thiserror::Error)]
#[error("too many frames or bytes")]
pub(super) struct Flooded(pub(super) Duration);

/// A stream whose reads are metered.
pub(super) struct Metered<S> {
    inner: S,
    /// Beside the stream, which moves through several futures that each have room for it.
    meter: Box<Meter>,
}

struct Meter {
    walker: Walker,
    frames: SingleRate,
    bytes: SingleRate,
    /// Pings of ours that no pong has answered yet.
    owed: u32,
}

impl<S> Metered<S> {
    /// Both a minute; 0: any number.
    pub(super) fn new(inner: S, frames: u32, bytes: u32) -> Self {
        let (frames, bytes) = (SingleRate::per_minute(frames), SingleRate::per_minute(bytes));
        Self { inner, meter: Box::new(Meter { walker: Walker::default(), frames, bytes, owed: 0 }) }
    }

    /// A ping of ours goes out.
    pub(super) fn pinged(&mut self) {
        self.meter.owed = (self.meter.owed + 1).min(MOST_OWED);
    }

    /// The stream below, where nothing is counted.
    pub(super) fn inner(&mut self) -> &mut S {
        &mut self.inner
    }
}

impl Meter {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Flooded> {
        let Self { walker, frames, bytes: rate, owed } = self;
        walker.walk(bytes, |header| {
            if header.opcode == PONG && *owed > 0 {
                *owed -= 1;
                return Ok(());
            }
            let message = header.fin && matches!(header.opcode, TEXT | BINARY); // counted where messages are
            if !message {
                frames.check().map_err(Flooded)?;
            }
            let bytes = u32::try_from(header.frame_bytes()).unwrap_or(u32::MAX);
            NonZeroU32::new(bytes).map_or(Ok(()), |n| rate.check_many(n)).map_err(Flooded)
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.meter.read(&buf.filled()[before..]).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
    use proptest::collection::vec;
    use proptest::prelude::*;

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
        fn however_it_is_cut_the_heads_are_the_same(
            frames in vec((any::<u8>(), prop_oneof![0usize..200, 60_000usize..70_000]), 1..8),
            cuts in vec(1usize..5000, 1..40),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|&(first, payload)| frame(first, payload)).collect();
            let (mut walker, mut heads, mut rest) = (Walker::default(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                walker.walk(now, |header| { heads.push((header.fin, header.opcode, header.frame_bytes())); Ok::<(), ()>(()) }).unwrap();
                rest = later;
            }
            let expected = frames
                .iter()
                .map(|&(first, payload)| (first & 0x80 != 0, first & 0x0f, frame(first, payload).len() as u64));
            prop_assert_eq!(heads, expected.collect::<Vec<_>>());
        }

        #[test]
        fn rubbish_is_walked_through(bytes in vec(any::<u8>(), 0..300)) {
            let _ = Walker::default().walk(&bytes, |_| Ok::<(), ()>(()));
        }
    }

    #[test]
    fn whole_messages_and_our_own_pongs_are_free() {
        let mut meter = Metered::new((), 3, 0);
        for _ in 0..100 {
            meter.meter.read(&frame(0x81, 10)).unwrap();
            meter.pinged();
            meter.meter.read(&frame(0x8a, 16)).unwrap();
        }
        for first in [0x89, 0x00, 0x8a] {
            meter.meter.read(&frame(first, 0)).unwrap();
        }
        assert!(meter.meter.read(&frame(0x01, 0)).is_err());
    }

    #[test]
    fn bytes_count_when_they_are_announced() {
        let mut meter = Metered::new((), 0, 1000);
        meter.meter.read(&frame(0x82, 900)).unwrap();
        assert!(meter.meter.read(&frame(0x82, 100)[..6]).is_err());
        assert!(Metered::new((), 0, 0).meter.read(&frame(0x82, 100_000)).is_ok());
    }
}
