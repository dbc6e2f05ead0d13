//! The stream of a connection: tungstenite reads, this module writes.
//!
//! Reading is the hard part of RFC 6455 (masks, fragments, UTF-8, control frames in between), so it is tungstenite's. The server's
//! frames are encoded already and are written to the stream directly: one system call, no copy, shared by all receivers.
//!
//! # Invariants
//! - tungstenite writes by itself only to answer pings and closes. While a frame of this module is half written, the frame limiter
//!   holds tungstenite's writes; its pong goes between two frames, and the answer to the client's close frame last, at the end.
//! - While a write waits, frames are still read: pongs are returned at once, and a few other messages are kept for later reads.
//! - No write of `write` waits longer than the deadline. Bytes that could not be written are kept, and are
//!   written first at the end: half a frame is never followed by another one's beginning.

mod finish;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Utf8Bytes};

use super::frame_limiter::{FrameLimiter, LimitExceeded};
use crate::config::Limits;
use crate::core::awake::timeout;
use crate::session::End;
use crate::wire::CloseCode;
use crate::wire::frame::FrameHeader;

/// The size of tungstenite's read buffer in bytes, which every connection keeps: small, since most messages are.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// The number of messages read while a write waits, beyond which reading waits, too.
const MAX_EARLY_MESSAGES: usize = 16;
/// The number of bytes of these; the message that crosses it is still kept.
const MAX_EARLY_BYTES: usize = 64 * 1024;

/// A message or a control frame from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, which is answered by tungstenite: activity.
    Ping,
    /// A pong, with the payload of the server's ping.
    Pong(Bytes),
}

impl Incoming {
    /// The length of the payload.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Ping => 0,
        }
    }
}

/// A WebSocket.
pub(super) struct Socket<S> {
    stream: WebSocketStream<FrameLimiter<S>>,
    write_deadline: Option<Duration>,
    /// tungstenite may have a pong to write, or a TLS stream bytes that it has accepted.
    needs_flush: bool,
    /// tungstenite has begun to write its pong.
    flushing: bool,
    /// The client has sent a close frame, so tungstenite's next flush writes one, too, and nothing may follow it.
    closed_by_peer: bool,
    /// The frames of an interrupted write, from the first one's beginning.
    unsent: Vec<u8>,
    /// The number of bytes of `unsent` that are written already.
    unsent_written: usize,
    /// The messages that were read while a write waited.
    early: VecDeque<Incoming>,
    early_bytes: usize,
    /// The end that reading has come to; nothing more is read.
    read_end: Option<End>,
}

/// The evidence of a write about the client.
#[cfg(any(test, feature = "echo"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel's buffer had room: none.
    Buffered,
    /// The write waited until the client had read something: activity.
    Read,
}

/// An event during a write that waits.
#[derive(Debug)]
pub(super) enum Step {
    /// Everything is written.
    Written,
    /// A pong has come.
    Pong(Bytes),
    /// A message has come, or the end of reading: kept for later reads.
    Received,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps an upgraded stream. Uses of `limits`: the bytes of a frame and of a message, frames and bytes a minute, and the write
    /// deadline.
    pub(super) async fn new(stream: S, limits: &Limits) -> Self {
        let bound = (limits.max_frame_bytes > 0).then_some(limits.max_frame_bytes);
        let stream = FrameLimiter::new(stream, limits.frames_per_minute, limits.bytes_per_minute());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(4096)
            .max_message_size(bound)
            .max_frame_size(bound);
        Self {
            stream: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
            write_deadline: (limits.write_seconds > 0).then(|| Duration::from_secs(limits.write_seconds.into())),
            needs_flush: false,
            flushing: false,
            closed_by_peer: false,
            unsent: Vec::new(),
            unsent_written: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            read_end: None,
        }
    }

    /// Notes that a ping is about to be written: its pong is not counted against the client.
    pub(super) fn expect_pong(&mut self) {
        self.stream.get_mut().expect_pong();
    }

    /// The time for which a write may wait without progress; `None`: without end.
    pub(super) fn write_deadline(&self) -> Option<Duration> {
        self.write_deadline
    }

    /// The number of bytes written of the frames that wait.
    pub(super) fn unsent_written(&self) -> usize {
        self.unsent_written
    }

    /// The end that reading has come to, if it has.
    pub(super) fn read_end(&self) -> Option<End> {
        self.read_end
    }

    /// Waits for the next message. Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Incoming, End> {
        if let Some(kept) = self.take_early() {
            return kept;
        }
        let next = self.stream.next().await;
        self.incoming(next)
    }

    /// Returns the next message if it is there already.
    pub(super) fn try_read(&mut self) -> Option<Result<Incoming, End>> {
        if let Some(kept) = self.take_early() {
            return Some(kept);
        }
        let next = self.stream.next().now_or_never()?;
        Some(self.incoming(next))
    }

    /// Returns the next message if the client has sent it before it vanished. Nothing is written any more.
    pub(super) fn read_last(&mut self) -> Option<Result<Incoming, End>> {
        self.stream.get_mut().hold_writes(true);
        self.try_read()
    }

    /// The next message that was read while a write waited, or the end that reading has come to.
    fn take_early(&mut self) -> Option<Result<Incoming, End>> {
        let Some(next) = self.early.pop_front() else { return self.read_end.map(Err) };
        self.early_bytes -= next.bytes();
        if self.early.is_empty() {
            self.early = VecDeque::new();
        }
        Some(Ok(next))
    }

    fn incoming(&mut self, next: Option<Result<Message, Error>>) -> Result<Incoming, End> {
        let end = match next {
            Some(Ok(Message::Text(text))) => return Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => return Ok(Incoming::Binary(bytes)),
            Some(Ok(Message::Pong(payload))) => return Ok(Incoming::Pong(payload)),
            Some(Ok(Message::Ping(_))) => {
                self.needs_flush = true;
                return Ok(Incoming::Ping);
            }
            Some(Ok(Message::Frame(_))) => CloseCode::Internal.into(), // only ever written, never read
            Some(Ok(Message::Close(frame))) => {
                self.closed_by_peer = true; // tungstenite has a close frame to write now: after the session's answers
                End::Gone(frame.map(|frame| frame.code.into()))
            }
            Some(Err(error)) => end_of(&error),
            None => End::Gone(None),
        };
        self.read_end = Some(end);
        Err(end)
    }

    /// Writes whole frames, unless `stop` is ready before they are out. What comes meanwhile is kept, except for pongs.
    ///
    /// # Errors
    /// [`CloseCode::TooSlow`] when the client does not read in time, the code of `stop`, [`End::Gone`] when it has vanished.
    #[cfg(any(test, feature = "echo"))]
    pub(super) async fn write(
        &mut self,
        frames: &[u8],
        stop: impl std::future::Future<Output = CloseCode>,
    ) -> Result<Progress, End> {
        if self.start_write(frames).await? {
            return Ok(Progress::Buffered);
        }
        let mut ignore = |_| ();
        tokio::select! {
            outcome = self.write_with_deadline(&mut ignore) => outcome.map(|()| Progress::Read),
            code = stop => Err(code.into()),
        }
    }

    /// Begins to write whole frames, and returns whether all of them are out. If not, [`step`](Self::step) continues.
    ///
    /// # Errors
    /// [`End::Gone`] when the client has vanished.
    pub(super) async fn start_write(&mut self, frames: &[u8]) -> Result<bool, End> {
        if self.closed_by_peer && self.needs_flush {
            // The pong, perhaps half written, can't be flushed without the close frame behind it.
            return Err(self.read_end.unwrap_or(End::Gone(None)));
        }
        if self.unsent.is_empty() && !self.needs_flush {
            // Nearly always the kernel accepts everything at once: no copy, no timer.
            let done = self.write_now(frames).await?;
            if done == frames.len() && !self.needs_flush {
                return Ok(true);
            }
            self.unsent.extend_from_slice(frames); // from the start, so that the end of a half-written frame can be found
            self.unsent_written = done;
        } else {
            self.unsent.extend_from_slice(frames);
        }
        Ok(false)
    }

    /// Writes as much of `bytes` as the stream accepts without waiting, and returns the number of bytes. A TLS stream may have
    /// accepted more than the kernel: then it needs a flush.
    async fn write_now(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let mut done = 0;
        let stream = self.stream.get_mut().inner();
        let flushed = poll_fn(|cx| {
            while done < bytes.len() {
                match Pin::new(&mut *stream).poll_write(cx, &bytes[done..]) {
                    Poll::Ready(Ok(n)) if n > 0 => done += n,
                    Poll::Ready(_) => return Poll::Ready(Err(())),
                    Poll::Pending => break,
                }
            }
            Poll::Ready(match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => Ok(true),
                Poll::Ready(Err(_)) => Err(()),
                Poll::Pending => Ok(false),
            })
        });
        self.needs_flush = !flushed.await.map_err(|()| End::Gone(None))?;
        Ok(done)
    }

    /// Continues with the frames that wait until they are written or something has come. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The end that reading has come to, or [`End::Gone`], when the client has vanished.
    pub(super) async fn step(&mut self) -> Result<Step, End> {
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.poll_unsent(cx) {
                return Poll::Ready(outcome.map(|()| Step::Written).map_err(|end| self.read_end.unwrap_or(end)));
            }
            if self.read_end.is_some() || self.early.len() >= MAX_EARLY_MESSAGES || self.early_bytes >= MAX_EARLY_BYTES {
                return Poll::Pending;
            }
            let next = ready!(self.stream.poll_next_unpin(cx));
            match self.incoming(next) {
                Ok(Incoming::Pong(payload)) => return Poll::Ready(Ok(Step::Pong(payload))),
                Ok(Incoming::Ping) | Err(_) => {}
                Ok(message) => {
                    self.early_bytes += message.bytes();
                    self.early.push_back(message);
                }
            }
            Poll::Ready(Ok(Step::Received))
        })
        .await
    }

    /// Writes the unsent frames and, between two of them, tungstenite's pending pong.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let gone = |_| End::Gone(None);
        loop {
            // With the client's close frame read, a flush writes the answer to it, which comes last.
            if self.needs_flush && !self.closed_by_peer && self.unsent_frame_end() == self.unsent_written {
                self.flushing = true;
                self.stream.get_mut().hold_writes(false);
                ready!(self.stream.poll_flush_unpin(cx)).map_err(|_| End::Gone(None))?;
                (self.flushing, self.needs_flush) = (false, false);
            }
            self.stream.get_mut().hold_writes(true);
            if self.unsent_written == self.unsent.len() {
                break;
            }
            if self.flushing {
                return Poll::Ready(Err(End::Gone(None))); // the rest of the pong comes with the close frame
            }
            let until = if self.needs_flush && !self.closed_by_peer { self.unsent_frame_end() } else { self.unsent.len() };
            let left = &self.unsent[self.unsent_written..until];
            match ready!(Pin::new(self.stream.get_mut().inner()).poll_write(cx, left)).map_err(gone)? {
                0 => return Poll::Ready(Err(End::Gone(None))),
                n => self.unsent_written += n,
            }
        }
        ready!(Pin::new(self.stream.get_mut().inner()).poll_flush(cx)).map_err(gone)?;
        (self.unsent, self.unsent_written) = (Vec::new(), 0);
        self.stream.get_mut().hold_writes(false);
        Poll::Ready(Ok(()))
    }

    /// The end of the last unsent frame of which something is written: as many bytes as are written, if that is between two frames.
    fn unsent_frame_end(&self) -> usize {
        let mut end = 0;
        while end < self.unsent_written {
            let Some(header) = FrameHeader::parse(&self.unsent[end..]) else { return self.unsent.len() };
            end += usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        }
        end
    }

    /// Writes the unsent frames, as long as the client reads some of them within each deadline: slow is not silent. Pongs that come
    /// meanwhile are passed to `late`.
    async fn write_with_deadline(&mut self, late: &mut impl FnMut(Incoming)) -> Result<(), End> {
        let deadline = self.write_deadline.unwrap_or(Duration::MAX);
        loop {
            let before = self.unsent_written;
            let writing = async {
                loop {
                    match self.step().await? {
                        Step::Written => return Ok(()),
                        Step::Pong(payload) => late(Incoming::Pong(payload)),
                        Step::Received => {}
                    }
                }
            };
            match timeout(deadline, writing).await {
                Ok(outcome) => return outcome,
                Err(_) if self.unsent_written > before => {}
                Err(_) => return Err(CloseCode::TooSlow.into()),
            }
        }
    }
}

/// Returns the end of the connection that a read error causes.
fn end_of(error: &tungstenite::Error) -> End {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => End::Gone(None),
        Error::Protocol(_) => CloseCode::Protocol.into(),
        Error::Utf8(_) => CloseCode::InvalidData.into(),
        Error::Capacity(_) => CloseCode::TooBig.into(),
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()) {
            Some(LimitExceeded(wait)) => End::too_many(*wait),
            None => End::Gone(None),
        },
        _ => End::Gone(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{append_close, text};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn close_frame(code: CloseCode) -> Vec<u8> {
        let mut out = Vec::new();
        append_close(&mut out, code.code(), code.reason());
        out
    }

    fn limits(write_seconds: u32) -> Limits {
        Limits { max_frame_bytes: 0, write_seconds, ..Limits::default() }
    }

    /// A session that is never closed.
    fn never() -> std::future::Pending<CloseCode> {
        std::future::pending()
    }

    #[tokio::test(start_paused = true)]
    async fn write_without_reader_ends_at_the_deadline_and_unsent_bytes_go_first() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(10)).await;
        assert_eq!(socket.write(&[1; 10], never()).await, Ok(Progress::Buffered));
        let start = tokio::time::Instant::now();
        assert_eq!(socket.write(&[2; 10], never()).await, Err(End::Close(CloseCode::TooSlow, None)));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        // The client reads again in time for the end.
        let ending = tokio::spawn(async move { socket.finish(CloseCode::TooSlow.into(), |_| ()).await });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        ending.await.unwrap();
        assert_eq!(&got[..20], [[1; 10], [2; 10]].concat());
        assert!(got.ends_with(&close_frame(CloseCode::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn revoked_credential_receives_the_half_written_frame_and_no_other() {
        for (length, room) in [(10, 16), (300, 350), (70_000, 70_100)] {
            let frame = text(format!("\"{}\"", "x".repeat(length)).as_bytes());
            let (near, mut far) = tokio::io::duplex(room); // one and a bit
            let mut socket = Socket::new(near, &limits(0)).await;
            let frames = frame.repeat(5);
            let close = async { CloseCode::Unauthorized };
            assert_eq!(socket.write(&frames, close).await, Err(End::Close(CloseCode::Unauthorized, None)));
            let ending = tokio::spawn(async move { socket.finish(CloseCode::Unauthorized.into(), |_| ()).await });
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            drop(far);
            ending.await.unwrap();
            assert_eq!(&got[..frame.len() * 2], frame.repeat(2));
            let rest = &got[frame.len() * 2..];
            assert!(rest.ends_with(&close_frame(CloseCode::Unauthorized)));
            assert!(String::from_utf8_lossy(&rest[4..]).starts_with(r#"{"type":"disconnect""#), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reader_is_not_cut_off() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut socket = Socket::new(near, &limits(10)).await;
        let reading = tokio::spawn(async move {
            let mut got = [0; 8];
            for _ in 0..25 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                far.read_exact(&mut got).await.unwrap();
            }
        });
        assert_eq!(socket.write(&[1; 200], never()).await, Ok(Progress::Read));
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_write_ends_when_the_session_is_closed() {
        let (near, _far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(0)).await;
        let close = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            CloseCode::Unauthorized
        };
        assert_eq!(socket.write(&[1; 20], close).await, Err(End::Close(CloseCode::Unauthorized, None)));
    }

    #[tokio::test]
    async fn write_that_waited_shows_that_the_client_reads() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(10)).await;
        let reading = tokio::spawn(async move {
            let mut got = vec![0; 40];
            far.read_exact(&mut got).await.unwrap();
            got
        });
        assert_eq!(socket.write(&[7; 40], never()).await, Ok(Progress::Read));
        assert_eq!(reading.await.unwrap(), [7; 40]);
    }

    #[tokio::test]
    async fn answers_go_before_the_answer_to_a_close_frame() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &limits(10)).await;
        far.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        assert!(matches!(socket.read().await, Err(End::Gone(Some(1000)))));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        socket.finish(End::Gone(Some(1000)), |_| ()).await;
        drop(socket);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x81\x03\"x\"\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn pong_goes_before_the_next_write() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &limits(10)).await;
        far.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert!(matches!(socket.read().await, Ok(Incoming::Ping)));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        let mut got = [0; 9];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x8a\x02hi\x81\x03\"x\"");
    }

    #[tokio::test]
    async fn finish_writes_the_disconnect_event_and_the_close_frame() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket: Socket<_> = Socket::new(near, &limits(10)).await;
        let done = tokio::spawn(async move { socket.finish(End::Close(CloseCode::RateLimited, Some(0.5)), |_| ()).await });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        done.await.unwrap();
        let text = String::from_utf8_lossy(&got);
        assert!(text.contains(r#""type":"disconnect","code":4008"#) && text.contains(r#""retry_after":0.5"#));
        assert!(got.ends_with(&close_frame(CloseCode::RateLimited)));
    }

    /// A client's pong, with a mask of zeros.
    fn pong(payload: &[u8]) -> Vec<u8> {
        [&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    #[tokio::test]
    async fn frames_are_read_while_a_write_waits() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(10)).await;
        assert_eq!(socket.start_write(&text(&[b'x'; 40])).await, Ok(false));
        far.write_all(&pong(b"42.a")).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Pong(payload)) if *payload == *b"42.a"));
        far.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Received)));
        far.write_all(&pong(b"43.a")).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Pong(payload)) if *payload == *b"43.a"));
        let mut got = [0; 42];
        let both = async { tokio::join!(far.read_exact(&mut got), socket.step()) };
        let (read, step) = both.await;
        read.unwrap();
        assert!(matches!(step, Ok(Step::Written)));
        assert_eq!(got[..], text(&[b'x'; 40]));
        assert!(matches!(socket.read().await, Ok(Incoming::Text(text)) if text == "hi"), "kept for later");
    }

    #[tokio::test]
    async fn pong_of_a_waiting_write_goes_between_two_frames() {
        for room in 1..60 {
            let (near, mut far) = tokio::io::duplex(room);
            let mut socket = Socket::new(near, &limits(10)).await;
            let frames = [text(&[b'x'; 20]), text(&[b'y'; 30]), text(&[b'z'; 10])];
            assert!(!socket.start_write(&frames.concat()).await.unwrap());
            let (mut reader, mut writer) = tokio::io::split(&mut far);
            let pinging = async {
                writer.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
                let mut got = vec![0; frames.concat().len() + 4];
                tokio::task::yield_now().await;
                reader.read_exact(&mut got).await.unwrap();
                got
            };
            let writing = async {
                while !matches!(socket.step().await.unwrap(), Step::Written) {}
                socket.write(&[], never()).await.unwrap();
            };
            let (got, ()) = tokio::join!(pinging, writing);
            let pong = b"\x8a\x02hi";
            let at = got.windows(4).position(|window| window == pong).unwrap_or_else(|| panic!("{room}: {got:?}"));
            let without = [&got[..at], &got[at + 4..]].concat();
            assert_eq!(without, frames.concat(), "{room}");
            assert!([0, 22, 54, 66].contains(&at), "{room}: at {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_kept_during_a_waiting_write_are_bounded() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(10)).await;
        assert_eq!(socket.start_write(&[1; 40]).await, Ok(false));
        let flood = tokio::spawn(async move { while far.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.is_ok() {} });
        while timeout(Duration::from_secs(1), socket.step()).await.is_ok() {}
        assert_eq!(socket.early.len(), MAX_EARLY_MESSAGES);
        drop(socket);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn close_code_of_a_client_is_read_while_a_write_waits() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = Socket::new(near, &limits(10)).await;
        assert_eq!(socket.start_write(&text(&[b'x'; 100])).await, Ok(false));
        far.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf1]).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Received)));
        drop(far);
        assert!(matches!(socket.step().await, Err(End::Gone(Some(1009)))));
    }

    #[tokio::test]
    async fn pong_after_the_close_frame_is_passed_on() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &limits(10)).await;
        let draining = tokio::spawn(async move {
            let mut late = Vec::new();
            let mut keep = |incoming| late.extend(if let Incoming::Pong(payload) = incoming { Some(payload) } else { None });
            socket.finish(CloseCode::GoingAway.into(), &mut keep).await;
            late
        });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, close_frame(CloseCode::GoingAway));
        far.write_all(&pong(b"42.a")).await.unwrap();
        drop(far);
        assert_eq!(draining.await.unwrap(), [&b"42.a"[..]]);
    }
}
