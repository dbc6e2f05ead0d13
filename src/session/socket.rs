//! The stream below a session: tungstenite reads, we write.
//!
//! Reading is where RFC 6455 is hard (masks, fragments, UTF-8, control frames in between), so it is tungstenite's. Frames of
//! ours are encoded already and go to the stream directly: one system call, no copy, shared by all receivers.
//!
//! # Invariants
//! - tungstenite writes by itself only to answer pings and closes. Before we write, what it has begun is flushed, and while
//!   we write, nothing is read: frames never mix.
//! - No write waits longer than the deadline. One that was cut off leaves half a frame behind, so after it nothing more is
//!   written ([`Socket::broken`]).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Utf8Bytes};

use crate::wire::{CloseCode, Event, Frame, Timestamp};

/// tungstenite's read buffer, which every connection keeps: small, since most messages are.
const READ_BUFFER: usize = 2 * 1024;
/// How long we read on after our close frame, so that it is not lost to a reset.
const DRAIN: Duration = Duration::from_secs(2);

/// What came from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message; its content is of no interest.
    Binary,
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

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Close(code, None)
    }
}

/// A WebSocket.
pub(super) struct Socket<S> {
    stream: WebSocketStream<S>,
    write_deadline: Option<Duration>,
    /// A ping has come, so tungstenite may have a pong to write.
    owes_pong: bool,
    /// A write was cut off in the middle.
    broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes over an upgraded stream. `max_bytes` bounds a frame and a message (0: no bound), `write_seconds` a write's wait
    /// (0: no bound).
    pub(super) async fn new(stream: S, max_bytes: usize, write_seconds: u32) -> Self {
        let bound = (max_bytes > 0).then_some(max_bytes);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(4096)
            .max_message_size(bound)
            .max_frame_size(bound);
        Self {
            stream: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await,
            write_deadline: (write_seconds > 0).then(|| Duration::from_secs(write_seconds.into())),
            owes_pong: false,
            broken: false,
        }
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
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Ok(Incoming::Binary),
            Some(Ok(Message::Ping(_))) => {
                self.owes_pong = true;
                Ok(Incoming::Alive)
            }
            Some(Ok(Message::Pong(payload))) => Ok(Incoming::Pong(payload)),
            Some(Ok(Message::Close(_))) => {
                self.owes_pong = true; // the answering close frame, rather
                Err(End::Gone)
            }
            Some(Err(error)) => Err(end_of(&error)),
            None => Err(End::Gone),
        }
    }

    /// Writes whole frames.
    ///
    /// # Errors
    /// [`CloseCode::TooSlow`] when the client does not read in time, [`End::Gone`] when it has gone.
    pub(super) async fn write(&mut self, frames: &[u8]) -> Result<(), End> {
        if self.broken {
            return Err(End::Gone);
        }
        let (stream, owes_pong) = (&mut self.stream, &mut self.owes_pong);
        let job = async move {
            if *owes_pong {
                stream.flush().await.map_err(|_| End::Gone)?;
                *owes_pong = false;
            }
            stream.get_mut().write_all(frames).await.map_err(|_| End::Gone)
        };
        let outcome = within(self.write_deadline, job).await.unwrap_or(Err(CloseCode::TooSlow.into()));
        self.broken = outcome.is_err();
        outcome
    }

    /// Ends the connection as `end` says: the last words, the close frame, then reading on until the client has gone.
    pub(super) async fn finish(mut self, end: End) {
        let End::Close(code, retry_after) = end else {
            // The client's close is answered; a vanished one costs an error nobody sees.
            let _ = timeout(DRAIN, async {
                let _ = self.stream.flush().await;
                self.stream.get_mut().shutdown().await
            })
            .await;
            return;
        };
        let mut last = Vec::new();
        if code.announced()
            && let Ok(event) = Event::disconnect(code, retry_after).frame(None, Timestamp::now())
        {
            last.extend_from_slice(event.as_bytes());
        }
        last.extend_from_slice(Frame::close(code.code(), code.reason()).as_bytes());
        self.write_deadline = Some(DRAIN);
        if self.write(&last).await.is_ok() {
            let _ = timeout(DRAIN, self.drain()).await;
        }
    }

    /// Says that nothing more will come, and reads until the other side says so too.
    async fn drain(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.shutdown().await?;
        let mut rest = [0u8; 512];
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

/// Runs `job`, for at most `deadline`; `None` when that passed. A job that is ready at once sets no timer.
async fn within<T>(deadline: Option<Duration>, job: impl Future<Output = T>) -> Option<T> {
    let mut job = pin!(job);
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(job.as_mut().poll(cx))).await {
        return Some(done);
    }
    match deadline {
        Some(deadline) => timeout(deadline, job).await.ok(),
        None => Some(job.await),
    }
}

/// Which end a read error means.
fn end_of(error: &tungstenite::Error) -> End {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => End::Gone,
        Error::Protocol(_) => CloseCode::Protocol.into(),
        Error::Utf8(_) => CloseCode::InvalidData.into(),
        Error::Capacity(_) => CloseCode::TooBig.into(),
        _ => End::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_nobody_reads_ends_at_the_deadline_and_breaks_the_socket() {
        let (near, _far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, 0, 10).await;
        socket.write(&[1; 16]).await.unwrap();
        let start = tokio::time::Instant::now();
        assert_eq!(socket.write(&[1; 16]).await, Err(End::Close(CloseCode::TooSlow, None)));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        assert_eq!(socket.write(&[1]).await, Err(End::Gone), "half a frame is out: nothing may follow it");
    }

    #[tokio::test]
    async fn a_pong_goes_before_what_is_written_next() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, 0, 10).await;
        far.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert!(matches!(socket.read().await, Ok(Incoming::Alive)));
        socket.write(Frame::json(&"x").unwrap().as_bytes()).await.unwrap();
        let mut got = [0; 9];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x8a\x02hi\x81\x03\"x\"");
    }

    #[tokio::test]
    async fn the_last_words_are_event_and_close_frame() {
        let (near, mut far) = tokio::io::duplex(4096);
        let socket: Socket<_> = Socket::new(near, 0, 10).await;
        let done = tokio::spawn(socket.finish(End::Close(CloseCode::RateLimited, Some(0.5))));
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        drop(far);
        done.await.unwrap();
        let text = String::from_utf8_lossy(&got);
        assert!(text.contains(r#""type":"disconnect","code":4008"#) && text.contains(r#""retry_after":0.5"#));
        assert!(got.ends_with(Frame::close(4008, CloseCode::RateLimited.reason()).as_bytes()));
    }
}
