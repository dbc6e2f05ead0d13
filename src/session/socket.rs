//! The stream below a session: tungstenite reads, we write.
//!
//! Reading is where RFC 6455 is hard (masks, fragments, UTF-8, control frames in between), so it is tungstenite's. Frames of
//! ours are encoded already and go to the stream directly: one system call, no copy, shared by all receivers.
//!
//! # Invariants
//! - tungstenite writes by itself only to answer pings and closes. Before we write, the pong that it owes is flushed, and
//!   while we write, nothing is read: frames never mix. The answer to the client's close frame goes out last, when we end.
//! - No write waits longer than the deadline, nor when the session is told to end. What could not be written is kept, and goes
//!   first when the last words are said: half a frame is never followed by another one's beginning.

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

use super::meter::{Flooded, Metered};
use crate::config::Limits;
use crate::core::time::Timestamp;
use crate::wire::frame::{FrameHeader, append_close, append_json};
use crate::wire::{CloseCode, Event};

/// tungstenite's read buffer, which every connection keeps: small, since most messages are.
const READ_BUFFER: usize = 2 * 1024;
/// How long we read on after our close frame, so that it is not lost to a reset.
const DRAIN: Duration = Duration::from_secs(2);
/// How much of it: who floods us even then gets the reset.
const DRAIN_BYTES: usize = 1 << 20;

/// What came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(#[cfg_attr(not(feature = "echo"), expect(dead_code, reason = "only an echo has a use for it"))] Bytes),
    /// A ping, answered below: a sign of life.
    Alive,
    /// A pong, with what our ping held.
    Pong(Bytes),
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    /// The client closed or vanished: nothing to be said any more.
    Gone,
    /// We close, with this code; come back after so many seconds.
    Close(CloseCode, Option<f64>),
}

impl End {
    /// Too many messages, frames or bytes; come back after `wait`.
    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
        Self::Close(CloseCode::RateLimited, Some(seconds))
    }
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Close(code, None)
    }
}

/// A WebSocket.
pub(super) struct Socket<S> {
    stream: WebSocketStream<Metered<S>>,
    write_deadline: Option<Duration>,
    /// tungstenite may have a pong to write, or a TLS stream below what it has taken.
    owes_flush: bool,
    /// The client has said goodbye, so tungstenite's next flush writes a close frame, and nothing may follow it.
    closed_by_peer: bool,
    /// The frames of a write that was cut off, from the first one's beginning, and how much of them is out.
    rest: Vec<u8>,
    rest_written: usize,
}

/// What a write has shown of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It went into the kernel's buffer: that shows nothing.
    Buffered,
    /// It had to wait until the client had read something: a sign of life.
    Read,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes over an upgraded stream. Of `limits` count here: the bytes of a frame and of a message, frames and bytes a minute,
    /// and a write's wait.
    pub(super) async fn new(stream: S, limits: &Limits) -> Self {
        let bound = (limits.max_frame_bytes > 0).then_some(limits.max_frame_bytes);
        let stream = Metered::new(stream, limits.frames_per_minute, limits.bytes_per_minute());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(4096)
            .max_message_size(bound)
            .max_frame_size(bound);
        Self {
            stream: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
            write_deadline: (limits.write_seconds > 0).then(|| Duration::from_secs(limits.write_seconds.into())),
            owes_flush: false,
            closed_by_peer: false,
            rest: Vec::new(),
            rest_written: 0,
        }
    }

    /// A ping is about to be written: its pong is not the client's doing.
    pub(super) fn pinged(&mut self) {
        self.stream.get_mut().pinged();
    }

    /// The next message. Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Incoming, End> {
        let next = self.stream.next().await;
        self.judge(next)
    }

    /// A message that is there already.
    pub(super) fn try_read(&mut self) -> Option<Result<Incoming, End>> {
        let next = self.stream.next().now_or_never()?;
        Some(self.judge(next))
    }

    fn judge(&mut self, next: Option<Result<Message, Error>>) -> Result<Incoming, End> {
        match next {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Binary(bytes)),
            Some(Ok(Message::Frame(_))) => Err(CloseCode::Internal.into()), // only ever written, never read
            Some(Ok(Message::Ping(_))) => {
                self.owes_flush = true;
                Ok(Incoming::Alive)
            }
            Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
            Some(Ok(Message::Close(_))) => {
                self.closed_by_peer = true; // tungstenite has a close frame to write now: after our answers
                Err(End::Gone)
            }
            Some(Err(error)) => Err(end_of(&error)),
            None => Err(End::Gone),
        }
    }

    /// Writes whole frames, unless `stop` is ready before they are out.
    ///
    /// # Errors
    /// [`CloseCode::TooSlow`] when the client does not read in time, what `stop` says, [`End::Gone`] when it has gone.
    pub(super) async fn write(&mut self, frames: &[u8], stop: impl Future<Output = CloseCode>) -> Result<Progress, End> {
        if self.closed_by_peer && self.owes_flush {
            return Err(End::Gone); // the pong, perhaps half out, can't be flushed without the close frame behind it
        }
        if self.rest.is_empty() && !self.owes_flush {
            // Nearly always the kernel takes it all at once: no copy, no timer.
            let done = self.write_now(frames).await?;
            if done == frames.len() && !self.owes_flush {
                return Ok(Progress::Buffered);
            }
            self.rest.extend_from_slice(frames); // whole, so that it is known where a frame that is half out ends
            self.rest_written = done;
        } else {
            self.rest.extend_from_slice(frames);
        }
        tokio::select! {
            outcome = self.write_patiently() => outcome.map(|()| Progress::Read),
            code = stop => Err(code.into()),
        }
    }

    /// Hands the stream as much of `bytes` as it takes without waiting, and says how much that was. A TLS stream may have taken
    /// more than the kernel has: then a flush is owed.
    async fn write_now(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let mut done = 0;
        self.owes_flush = poll_fn(|cx| {
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

    /// Writes what is left, as long as the client takes some of it within each deadline: slow is not silent.
    async fn write_patiently(&mut self) -> Result<(), End> {
        let Some(deadline) = self.write_deadline else { return self.write_rest().await };
        loop {
            let before = self.rest_written;
            match timeout(deadline, self.write_rest()).await {
                Ok(outcome) => return outcome,
                Err(_) if self.rest_written > before => {}
                Err(_) => return Err(CloseCode::TooSlow.into()),
            }
        }
    }

    /// Writes what tungstenite owes and what an earlier write has left. Dropping the future loses nothing.
    async fn write_rest(&mut self) -> Result<(), End> {
        // A frame of ours that is half out is finished first; a pong that is half out was begun between two of ours.
        if self.owes_flush && self.rest_written == 0 {
            self.stream.flush().await.map_err(|_| End::Gone)?;
            self.owes_flush = false;
        }
        while self.rest_written < self.rest.len() {
            let left = &self.rest[self.rest_written..];
            match self.stream.get_mut().write(left).await {
                Ok(n) if n > 0 => self.rest_written += n,
                _ => return Err(End::Gone),
            }
        }
        if self.rest_written > 0 {
            self.stream.get_mut().flush().await.map_err(|_| End::Gone)?;
        }
        (self.rest, self.rest_written) = (Vec::new(), 0);
        Ok(())
    }

    /// Ends the connection as `end` says: what is left to be said, the close frame, then reading on until the client has gone.
    pub(super) async fn finish(mut self, end: End) {
        let End::Close(code, retry_after) = end else {
            // The client's close is answered; a vanished one costs an error nobody sees.
            let _ = timeout(DRAIN, async {
                self.write_rest().await.ok()?;
                let _ = self.stream.flush().await;
                self.stream.get_mut().shutdown().await.ok()
            })
            .await;
            return;
        };
        if code == CloseCode::Unauthorized {
            self.forget_unsent();
        }
        let mut last = Vec::new();
        if code.announced() {
            // An event that can't be encoded costs the client the event, not the close frame.
            let _ = append_json(&mut last, &Event::disconnect(code, retry_after).stamped(None, Timestamp::now()));
        }
        append_close(&mut last, code.code(), code.reason());
        self.write_deadline = Some(DRAIN);
        if self.write(&last, std::future::pending()).await.is_ok() {
            let _ = timeout(DRAIN, self.drain()).await;
        }
    }

    /// Gives up the frames of which nothing is out yet: whose right has been taken away gets no more of them.
    fn forget_unsent(&mut self) {
        let mut end = 0;
        while end < self.rest_written {
            let Some(header) = FrameHeader::parse(&self.rest[end..]) else { return };
            end += usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        }
        self.rest.truncate(end);
    }

    /// Says that nothing more will come, and reads until the other side says so too.
    async fn drain(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut().inner();
        stream.shutdown().await?;
        let (mut rest, mut left) = ([0u8; 512], DRAIN_BYTES);
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}

/// Which end a read error means.
fn end_of(error: &tungstenite::Error) -> End {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => End::Gone,
        Error::Protocol(_) => CloseCode::Protocol.into(),
        Error::Utf8(_) => CloseCode::InvalidData.into(),
        Error::Capacity(_) => CloseCode::TooBig.into(),
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Flooded>()) {
            Some(Flooded(wait)) => End::too_many(*wait),
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

    /// Nobody asks for the end.
    fn never() -> std::future::Pending<CloseCode> {
        std::future::pending()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_nobody_reads_ends_at_the_deadline_and_what_is_left_goes_first() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(10)).await;
        assert_eq!(socket.write(&[1; 10], never()).await, Ok(Progress::Buffered));
        let start = tokio::time::Instant::now();
        assert_eq!(socket.write(&[2; 10], never()).await, Err(End::Close(CloseCode::TooSlow, None)));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        // The client wakes up in time for the last words.
        let ending = tokio::spawn(socket.finish(CloseCode::TooSlow.into()));
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        ending.await.unwrap();
        assert_eq!(&got[..20], [[1; 10], [2; 10]].concat());
        assert!(got.ends_with(&close_frame(CloseCode::TooSlow)));
    }

    #[tokio::test(start_paused = true)]
    async fn whose_right_is_gone_gets_the_frame_that_is_half_out_and_no_other() {
        for (length, room) in [(10, 16), (300, 350), (70_000, 70_100)] {
            let frame = text(format!("\"{}\"", "x".repeat(length)).as_bytes());
            let (near, mut far) = tokio::io::duplex(room); // one and a bit
            let mut socket = Socket::new(near, &limits(0)).await;
            let frames = frame.repeat(5);
            let told = async { CloseCode::Unauthorized };
            assert_eq!(socket.write(&frames, told).await, Err(End::Close(CloseCode::Unauthorized, None)));
            let ending = tokio::spawn(socket.finish(CloseCode::Unauthorized.into()));
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
    async fn who_reads_slowly_is_not_cut_off() {
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
    async fn a_write_that_waits_hears_the_end() {
        let (near, _far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &limits(0)).await;
        let told = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            CloseCode::Unauthorized
        };
        assert_eq!(socket.write(&[1; 20], told).await, Err(End::Close(CloseCode::Unauthorized, None)));
    }

    #[tokio::test]
    async fn a_write_that_had_to_wait_shows_that_the_client_reads() {
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
    async fn answers_go_before_the_answer_to_a_close() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &limits(10)).await;
        far.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        assert!(matches!(socket.read().await, Err(End::Gone)));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        socket.finish(End::Gone).await;
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x81\x03\"x\"\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn a_pong_goes_before_what_is_written_next() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &limits(10)).await;
        far.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert!(matches!(socket.read().await, Ok(Incoming::Alive)));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        let mut got = [0; 9];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x8a\x02hi\x81\x03\"x\"");
    }

    #[tokio::test]
    async fn the_last_words_are_event_and_close_frame() {
        let (near, mut far) = tokio::io::duplex(4096);
        let socket: Socket<_> = Socket::new(near, &limits(10)).await;
        let done = tokio::spawn(socket.finish(End::Close(CloseCode::RateLimited, Some(0.5))));
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        done.await.unwrap();
        let text = String::from_utf8_lossy(&got);
        assert!(text.contains(r#""type":"disconnect","code":4008"#) && text.contains(r#""retry_after":0.5"#));
        assert!(got.ends_with(&close_frame(CloseCode::RateLimited)));
    }
}
