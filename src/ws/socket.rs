//! The socket of a connection: what the client sends and what it is sent.
//!
//! The server's frames are encoded already and are written to the stream directly: one system call, no copy, shared by all receivers.
//!
//! # Invariants
//! - Reading never writes. The pong to a ping that comes while a write waits goes between two frames, and the answer to the client's
//!   close frame last, at the end.
//! - While a write waits, frames are still read: pongs are returned at once, and a few other messages are kept for later reads.
//! - No write of `write` waits longer than the deadline. Bytes that could not be written are kept, and are
//!   written first at the end: half a frame is never followed by another one's beginning.

mod finish;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::reader::{Incoming, Reader};
use crate::config::Limits;
use crate::core::awake::timeout;
use crate::session::End;
use crate::wire::CloseCode;
use crate::wire::frame::{self, FrameHeader, PONG};

/// The number of messages read while a write waits, beyond which reading waits, too.
const MAX_EARLY_MESSAGES: usize = 16;
/// The number of bytes of these; the message that crosses it is still kept.
const MAX_EARLY_BYTES: usize = 64 * 1024;

/// A WebSocket.
pub(super) struct Socket<S> {
    stream: S,
    reader: Reader,
    write_deadline: Option<Duration>,
    /// The stream has accepted bytes that it has not written yet, as TLS does.
    needs_flush: bool,
    /// Boxed, since few writes wait.
    waiting: Option<Box<Waiting>>,
    /// The end that reading has come to; nothing more is read.
    read_end: Option<End>,
}

/// A write that waits, and what was read meanwhile.
#[derive(Default)]
struct Waiting {
    /// The frames of an interrupted write, from the first one's beginning.
    unsent: Vec<u8>,
    /// The number of bytes of `unsent` that are written already.
    written: usize,
    /// The pong that goes between two of these frames.
    pong: Option<Vec<u8>>,
    /// The messages that were read.
    early: VecDeque<Incoming<'static>>,
    early_bytes: usize,
}

impl Waiting {
    /// Returns whether nothing waits: neither to be written nor to be read.
    fn is_over(&self) -> bool {
        self.unsent.is_empty() && self.pong.is_none() && self.early.is_empty()
    }

    /// The end of the last unsent frame of which something is written: as many bytes as are written, if that is between two frames.
    fn frame_end(&self) -> usize {
        let mut end = 0;
        while end < self.written {
            let Some(header) = FrameHeader::parse(&self.unsent[end..]) else { return self.unsent.len() };
            end += usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        }
        end
    }

    /// Puts the pong between two frames where that is possible now, and returns up to where can be written.
    fn insert_pong(&mut self) -> usize {
        let Some(payload) = &self.pong else { return self.unsent.len() };
        let end = self.frame_end();
        if end == self.written {
            let mut pong = Vec::new();
            frame::append(&mut pong, PONG, payload);
            self.unsent.splice(end..end, pong);
            self.pong = None;
            return self.unsent.len();
        }
        end
    }
}

/// The evidence of a write about the client.
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
    Pong(Vec<u8>),
    /// A message has come, or the end of reading: kept for later reads.
    Received,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps an upgraded stream, of which `begun` was read already. Uses of `limits`: the bytes of a frame and of a message, frames and
    /// bytes a minute, and the write deadline.
    pub(super) fn new(stream: S, begun: &[u8], limits: &Limits) -> Self {
        let mut reader = Reader::new(limits);
        reader.begin_with(begun);
        let write_deadline = (limits.write_seconds > 0).then(|| Duration::from_secs(limits.write_seconds.into()));
        Self { stream, reader, write_deadline, needs_flush: false, waiting: None, read_end: None }
    }

    /// Notes that `count` pings are about to be written: their pongs are not counted against the client.
    pub(super) fn expect_pongs(&mut self, count: u32) {
        self.reader.expect_pongs(count);
    }

    /// The time for which a write may wait without progress; `None`: without end.
    pub(super) fn write_deadline(&self) -> Option<Duration> {
        self.write_deadline
    }

    /// The number of bytes written of the frames that wait.
    pub(super) fn unsent_written(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.written)
    }

    /// The end that reading has come to, if it has.
    pub(super) fn read_end(&self) -> Option<End> {
        self.read_end
    }

    /// Waits until [`next`](Self::next) has something. Dropping the future loses nothing.
    pub(super) async fn readable(&mut self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Polls [`readable`](Self::readable).
    #[inline]
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.as_ref().is_some_and(|waiting| !waiting.early.is_empty()) {
            return Poll::Ready(());
        }
        self.poll_found(cx)
    }

    /// Reads until there is a message that was not found before, or the end.
    #[inline]
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.read_end.is_none() {
            match self.reader.find() {
                Ok(true) => break,
                Ok(false) => match ready!(self.reader.poll_fill(&mut self.stream, cx)) {
                    Ok(0) | Err(_) => self.read_end = Some(End::Gone(None)),
                    Ok(_) => {}
                },
                Err(end) => self.read_end = Some(end),
            }
        }
        Poll::Ready(())
    }

    /// Returns the next message that has been read, or the end that reading has come to; `None` where more must be
    /// [read](Self::readable).
    #[inline]
    pub(super) fn next(&mut self) -> Option<Result<Incoming<'_>, End>> {
        if let Some(early) = self.take_early() {
            return Some(Ok(early));
        }
        if self.read_end.is_none() {
            match self.reader.find() {
                Ok(true) => {
                    let taken = self.reader.take();
                    if let Some(Err(end)) = &taken {
                        self.read_end = Some(*end);
                    }
                    return taken;
                }
                Ok(false) => return None,
                Err(end) => self.read_end = Some(end),
            }
        }
        self.read_end.map(Err)
    }

    /// Returns the next message if the client has sent it before it vanished.
    pub(super) fn read_last(&mut self) -> Option<Result<Incoming<'_>, End>> {
        // Without a waker: nobody waits for more.
        self.poll_readable(&mut Context::from_waker(std::task::Waker::noop())).is_ready().then(|| self.next())?
    }

    /// The next message that was read while a write waited.
    fn take_early(&mut self) -> Option<Incoming<'static>> {
        let waiting = self.waiting.as_mut()?;
        let next = waiting.early.pop_front()?;
        waiting.early_bytes -= next.bytes();
        if waiting.is_over() {
            self.waiting = None;
        }
        Some(next)
    }

    /// Writes whole frames, unless `stop` is ready before they are out. What comes meanwhile is kept, except for pongs.
    ///
    /// # Errors
    /// [`CloseCode::TooSlow`] when the client does not read in time, the code of `stop`, [`End::Gone`] when it has vanished.
    pub(super) async fn write(
        &mut self,
        frames: &[u8],
        stop: impl std::future::Future<Output = CloseCode>,
    ) -> Result<Progress, End> {
        if self.start_write(frames).await? {
            return Ok(Progress::Buffered);
        }
        let mut ignore = |_: Incoming<'_>| ();
        tokio::select! {
            outcome = self.write_with_deadline(&mut ignore) => outcome.map(|()| Progress::Read),
            code = stop => Err(code.into()),
        }
    }

    /// Begins to write whole frames, and returns whether all of them are out. If not, [`step`](Self::step) continues.
    ///
    /// # Errors
    /// [`End::Gone`] when the client has vanished.
    #[inline]
    pub(super) async fn start_write(&mut self, frames: &[u8]) -> Result<bool, End> {
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.unsent.is_empty() || waiting.pong.is_some()) {
            waiting.unsent.extend_from_slice(frames);
            return Ok(false);
        }
        // Nearly always the kernel accepts everything at once: no copy, no timer.
        let done = poll_fn(|cx| Poll::Ready(self.write_now(frames, cx))).await?;
        if done == frames.len() && !self.needs_flush {
            return Ok(true);
        }
        let waiting = self.waiting.get_or_insert_default();
        waiting.unsent = frames.to_vec(); // from the start, so that the end of a half-written frame can be found
        waiting.written = done;
        Ok(false)
    }

    /// Writes as much of `bytes` as the stream accepts without waiting, and returns the number of bytes. A TLS stream may have
    /// accepted more than the kernel: then it needs a flush.
    #[inline]
    fn write_now(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Result<usize, End> {
        let mut done = 0;
        while done < bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[done..]) {
                Poll::Ready(Ok(n)) if n > 0 => done += n,
                Poll::Ready(_) => return Err(End::Gone(None)),
                Poll::Pending => break,
            }
        }
        self.needs_flush = match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Err(End::Gone(None)),
            Poll::Pending => true,
        };
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
            let Some(waiting) = &self.waiting else { return Poll::Pending };
            if self.read_end.is_some() || waiting.early.len() >= MAX_EARLY_MESSAGES || waiting.early_bytes >= MAX_EARLY_BYTES {
                return Poll::Pending;
            }
            ready!(self.poll_found(cx));
            Poll::Ready(Ok(self.keep_found()))
        })
        .await
    }

    /// Keeps the message that was found for later, save for a pong.
    fn keep_found(&mut self) -> Step {
        let waiting = self.waiting.get_or_insert_default();
        match self.reader.take() {
            Some(Ok(Incoming::Pong(payload))) => return Step::Pong(payload.into_owned()),
            // Only the newest is answered, as section 5.5.3 allows.
            Some(Ok(Incoming::Ping(payload))) => waiting.pong = Some(payload.into_owned()),
            Some(Ok(message)) => {
                waiting.early_bytes += message.bytes();
                waiting.early.push_back(message.into_owned());
            }
            Some(Err(end)) => self.read_end = Some(end),
            None => {}
        }
        Step::Received
    }

    /// Writes the unsent frames and, between two of them, the pong.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let gone = |_| End::Gone(None);
        if let Some(waiting) = &mut self.waiting {
            loop {
                let until = waiting.insert_pong();
                if waiting.written == until {
                    break;
                }
                let left = &waiting.unsent[waiting.written..until];
                match ready!(Pin::new(&mut self.stream).poll_write(cx, left)).map_err(gone)? {
                    0 => return Poll::Ready(Err(End::Gone(None))),
                    n => waiting.written += n,
                }
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(gone)?;
        self.needs_flush = false;
        if let Some(waiting) = &mut self.waiting {
            (waiting.unsent, waiting.written) = (Vec::new(), 0);
            if waiting.is_over() {
                self.waiting = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the unsent frames, as long as the client reads some of them within each deadline: slow is not silent. Pongs that come
    /// meanwhile are passed to `late`.
    async fn write_with_deadline(&mut self, late: &mut impl FnMut(Incoming<'_>)) -> Result<(), End> {
        let deadline = self.write_deadline.unwrap_or(Duration::MAX);
        loop {
            let before = self.unsent_written();
            let writing = async {
                loop {
                    match self.step().await? {
                        Step::Written => return Ok(()),
                        Step::Pong(payload) => late(Incoming::Pong(payload.into())),
                        Step::Received => {}
                    }
                }
            };
            match timeout(deadline, writing).await {
                Ok(outcome) => return outcome,
                Err(_) if self.unsent_written() > before => {}
                Err(_) => return Err(CloseCode::TooSlow.into()),
            }
        }
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
        let mut socket = Socket::new(near, &[], &limits(10));
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
            let mut socket = Socket::new(near, &[], &limits(0));
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
        let mut socket = Socket::new(near, &[], &limits(10));
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
        let mut socket = Socket::new(near, &[], &limits(0));
        let close = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            CloseCode::Unauthorized
        };
        assert_eq!(socket.write(&[1; 20], close).await, Err(End::Close(CloseCode::Unauthorized, None)));
    }

    #[tokio::test]
    async fn write_that_waited_shows_that_the_client_reads() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = Socket::new(near, &[], &limits(10));
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
        let mut socket = Socket::new(near, &[], &limits(10));
        far.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
        socket.readable().await;
        assert!(matches!(socket.next(), Some(Err(End::Gone(Some(1000))))));
        socket.write(&text(b"\"x\""), never()).await.unwrap();
        socket.finish(End::Gone(Some(1000)), |_| ()).await;
        drop(socket);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x81\x03\"x\"\x88\x02\x03\xe8");
    }

    #[tokio::test]
    async fn finish_writes_the_disconnect_event_and_the_close_frame() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket: Socket<_> = Socket::new(near, &[], &limits(10));
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
        let mut socket = Socket::new(near, &[], &limits(10));
        assert_eq!(socket.start_write(&text(&[b'x'; 40])).await, Ok(false));
        far.write_all(&pong(b"42.a")).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Pong(payload)) if payload == b"42.a"));
        far.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Received)));
        far.write_all(&pong(b"43.a")).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Pong(payload)) if payload == b"43.a"));
        let mut got = [0; 42];
        let both = async { tokio::join!(far.read_exact(&mut got), socket.step()) };
        let (read, step) = both.await;
        read.unwrap();
        assert!(matches!(step, Ok(Step::Written)));
        assert_eq!(got[..], text(&[b'x'; 40]));
        assert!(matches!(socket.next(), Some(Ok(Incoming::Text(text))) if text == "hi"), "kept for later");
    }

    #[tokio::test]
    async fn pong_of_a_waiting_write_goes_between_two_frames() {
        for room in 1..60 {
            let (near, mut far) = tokio::io::duplex(room);
            let mut socket = Socket::new(near, &[], &limits(10));
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
        let mut socket = Socket::new(near, &[], &limits(10));
        assert_eq!(socket.start_write(&[1; 40]).await, Ok(false));
        let flood = tokio::spawn(async move { while far.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.is_ok() {} });
        while timeout(Duration::from_secs(1), socket.step()).await.is_ok() {}
        assert_eq!(socket.waiting.as_ref().unwrap().early.len(), MAX_EARLY_MESSAGES);
        drop(socket);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn close_code_of_a_client_is_read_while_a_write_waits() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = Socket::new(near, &[], &limits(10));
        assert_eq!(socket.start_write(&text(&[b'x'; 100])).await, Ok(false));
        far.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf1]).await.unwrap();
        assert!(matches!(socket.step().await, Ok(Step::Received)));
        drop(far);
        assert!(matches!(socket.step().await, Err(End::Gone(Some(1009)))));
    }

    #[tokio::test]
    async fn pong_after_the_close_frame_is_passed_on() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut socket = Socket::new(near, &[], &limits(10));
        let draining = tokio::spawn(async move {
            let mut late = Vec::new();
            let mut keep = |incoming: Incoming<'_>| {
                late.extend(if let Incoming::Pong(payload) = incoming { Some(payload.into_owned()) } else { None })
            };
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
