//! The stream of a connection: tungstenite reads, this module writes.
//!
//! Reading is the hard part of RFC 6455 (masks, fragments, UTF-8, control frames in between), so it is tungstenite's. The server's
//! frames are encoded already and are written to the stream directly: one system call, no copy, shared by all receivers.
//!
//! # Invariants
//! - tungstenite writes by itself only to answer pings and closes. Before this module writes, the pong that tungstenite has
//!   pending is flushed, and while it writes, nothing is read: frames never mix. The answer to the client's close frame is
//!   written last, at the end.
//! - No write waits longer than the deadline, nor after the session has been closed. Bytes that could not be written are kept,
//!   and are written first at the end: half a frame is never followed by another one's beginning.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Utf8Bytes};

use super::frame_limiter::{FrameLimiter, LimitExceeded};
use crate::config::Limits;
use crate::core::time::Timestamp;
use crate::session::End;
use crate::wire::frame::{FrameHeader, append_close, append_json};
use crate::wire::{CloseCode, Event};

/// The size of tungstenite's read buffer in bytes, which every connection keeps: small, since most messages are.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// The time for reading on after the server's close frame, so that it is not lost to a reset.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The number of bytes read on; a client that sends more gets the reset.
const MAX_DRAIN_BYTES: usize = 1 << 20;

/// A message or a control frame from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(#[cfg_attr(not(feature = "echo"), expect(dead_code, reason = "only an echo uses it"))] Bytes),
    /// A ping, which is answered by tungstenite: activity.
    Ping,
    /// A pong, with the payload of the server's ping.
    Pong(Bytes),
}

/// A WebSocket.
pub(super) struct Socket<S> {
    stream: WebSocketStream<FrameLimiter<S>>,
    write_deadline: Option<Duration>,
    /// tungstenite may have a pong to write, or a TLS stream bytes that it has accepted.
    needs_flush: bool,
    /// The client has sent a close frame, so tungstenite's next flush writes one, too, and nothing may follow it.
    closed_by_peer: bool,
    /// The frames of an interrupted write, from the first one's beginning.
    unsent: Vec<u8>,
    /// The number of bytes of `unsent` that are written already.
    unsent_written: usize,
}

/// The evidence of a write about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel's buffer had room: none.
    Buffered,
    /// The write waited until the client had read something: activity.
    Read,
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
            closed_by_peer: false,
            unsent: Vec::new(),
            unsent_written: 0,
        }
    }

    /// Notes that a ping is about to be written: its pong is not counted against the client.
    pub(super) fn expect_pong(&mut self) {
        self.stream.get_mut().expect_pong();
    }

    /// Waits for the next message. Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Incoming, End> {
        let next = self.stream.next().await;
        self.incoming(next)
    }

    /// Returns the next message if it is there already.
    pub(super) fn try_read(&mut self) -> Option<Result<Incoming, End>> {
        let next = self.stream.next().now_or_never()?;
        Some(self.incoming(next))
    }

    fn incoming(&mut self, next: Option<Result<Message, Error>>) -> Result<Incoming, End> {
        match next {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Binary(bytes)),
            Some(Ok(Message::Frame(_))) => Err(CloseCode::Internal.into()), // only ever written, never read
            Some(Ok(Message::Ping(_))) => {
                self.needs_flush = true;
                Ok(Incoming::Ping)
            }
            Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
            Some(Ok(Message::Close(_))) => {
                self.closed_by_peer = true; // tungstenite has a close frame to write now: after the session's answers
                Err(End::Gone)
            }
            Some(Err(error)) => Err(end_of(&error)),
            None => Err(End::Gone),
        }
    }

    /// Writes whole frames, unless `stop` is ready before they are out.
    ///
    /// # Errors
    /// [`CloseCode::TooSlow`] when the client does not read in time, the code of `stop`, [`End::Gone`] when it has vanished.
    pub(super) async fn write(&mut self, frames: &[u8], stop: impl Future<Output = CloseCode>) -> Result<Progress, End> {
        if self.closed_by_peer && self.needs_flush {
            return Err(End::Gone); // the pong, perhaps half written, can't be flushed without the close frame behind it
        }
        if self.unsent.is_empty() && !self.needs_flush {
            // Nearly always the kernel accepts everything at once: no copy, no timer.
            let done = self.write_now(frames).await?;
            if done == frames.len() && !self.needs_flush {
                return Ok(Progress::Buffered);
            }
            self.unsent.extend_from_slice(frames); // from the start, so that the end of a half-written frame can be found
            self.unsent_written = done;
        } else {
            self.unsent.extend_from_slice(frames);
        }
        tokio::select! {
            outcome = self.write_with_deadline() => outcome.map(|()| Progress::Read),
            code = stop => Err(code.into()),
        }
    }

    /// Writes as much of `bytes` as the stream accepts without waiting, and returns the number of bytes. A TLS stream may have
    /// accepted more than the kernel: then it needs a flush.
    async fn write_now(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let mut done = 0;
        self.needs_flush = poll_fn(|cx| {
            while done < bytes.len() {
                match Pin::new(self.stream.get_mut()).poll_write(cx, &bytes[done..]) {
                    Poll::Ready(Ok(n)) if n > 0 => done += n,
                    Poll::Ready(_) => return Poll::Ready(Err(End::Gone)),
                    Poll::Pending => break,
                }
            }
            match Pin::new(self.stream.get_mut()).poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(false)),
                Poll::Ready(Err(_)) => Poll::Ready(Err(End::Gone)),
                Poll::Pending => Poll::Ready(Ok(true)),
            }
        })
        .await?;
        Ok(done)
    }

    /// Writes the unsent frames, as long as the client reads some of them within each deadline: slow is not silent.
    async fn write_with_deadline(&mut self) -> Result<(), End> {
        let Some(deadline) = self.write_deadline else { return self.write_unsent().await };
        loop {
            let before = self.unsent_written;
            match timeout(deadline, self.write_unsent()).await {
                Ok(outcome) => return outcome,
                Err(_) if self.unsent_written > before => {}
                Err(_) => return Err(CloseCode::TooSlow.into()),
            }
        }
    }

    /// Writes tungstenite's pending pong and the unsent frames. Dropping the future loses nothing.
    async fn write_unsent(&mut self) -> Result<(), End> {
        // A half-written frame is finished first; a half-written pong was begun between two frames.
        if self.needs_flush && self.unsent_written == 0 {
            self.stream.flush().await.map_err(|_| End::Gone)?;
            self.needs_flush = false;
        }
        while self.unsent_written < self.unsent.len() {
            let left = &self.unsent[self.unsent_written..];
            match self.stream.get_mut().write(left).await {
                Ok(n) if n > 0 => self.unsent_written += n,
                _ => return Err(End::Gone),
            }
        }
        if self.unsent_written > 0 {
            self.stream.get_mut().flush().await.map_err(|_| End::Gone)?;
        }
        (self.unsent, self.unsent_written) = (Vec::new(), 0);
        Ok(())
    }

    /// Ends the connection: writes what is unsent, the `disconnect` event where there is one, and the close frame, then reads on
    /// until the client has closed.
    pub(super) async fn finish(&mut self, end: End) {
        let End::Close(code, retry_after) = end else {
            // The client's close frame is answered; where it has vanished, errors are of no interest.
            let _ = timeout(DRAIN_TIMEOUT, async {
                self.write_unsent().await.ok()?;
                let _ = self.stream.flush().await;
                self.stream.get_mut().shutdown().await.ok()
            })
            .await;
            return;
        };
        if code == CloseCode::Unauthorized {
            self.discard_unsent();
        }
        let mut last = Vec::new();
        if code.announced() {
            // An event that can't be encoded costs the client the event, not the close frame.
            let _ = append_json(&mut last, &Event::disconnect(code, retry_after).stamped(None, Timestamp::now()));
        }
        append_close(&mut last, code.code(), code.reason());
        self.write_deadline = Some(DRAIN_TIMEOUT);
        if self.write(&last, std::future::pending()).await.is_ok() {
            let _ = timeout(DRAIN_TIMEOUT, self.drain()).await;
        }
    }

    /// Discards the frames of which nothing is written yet: a revoked credential receives no more of them.
    fn discard_unsent(&mut self) {
        let mut end = 0;
        while end < self.unsent_written {
            let Some(header) = FrameHeader::parse(&self.unsent[end..]) else { return };
            end += usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        }
        self.unsent.truncate(end);
    }

    /// Shuts down the writing side, and reads until the client has shut down its own.
    async fn drain(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut().inner();
        stream.shutdown().await?;
        let (mut rest, mut left) = ([0u8; 512], MAX_DRAIN_BYTES);
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}

/// Returns the end of the connection that a read error causes.
fn end_of(error: &tungstenite::Error) -> End {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => End::Gone,
        Error::Protocol(_) => CloseCode::Protocol.into(),
        Error::Utf8(_) => CloseCode::InvalidData.into(),
        Error::Capacity(_) => CloseCode::TooBig.into(),
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()) {
            Some(LimitExceeded(wait)) => End::too_many(*wait),
            None => End::Gone,
        },
        _ => End::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::text;

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
        let ending = tokio::spawn(async move { socket.finish(CloseCode::TooSlow.into()).await });
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
            let ending = tokio::spawn(async move { socket.finish(CloseCode::Unauthorized.into()).await });
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
        assert!(matches!(socket.read().await, Err(End::Gone)));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        socket.finish(End::Gone).await;
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
        let done = tokio::spawn(async move { socket.finish(End::Close(CloseCode::RateLimited, Some(0.5))).await });
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        done.await.unwrap();
        let text = String::from_utf8_lossy(&got);
        assert!(text.contains(r#""type":"disconnect","code":4008"#) && text.contains(r#""retry_after":0.5"#));
        assert!(got.ends_with(&close_frame(CloseCode::RateLimited)));
    }
}
