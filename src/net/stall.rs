//! The deadlines of HTTP connections, and how they end.
//!
//! Salvo has such deadlines, too, but it looks at them before it reads what has arrived, and they run while the process does not; hyper's
//! deadline of heads also runs while a connection is idle. Those here do neither. A WebSocket has its own; the stream passes everything
//! through once its connection has become one.
//!
//! A socket that is closed while something that it has received is unread is reset, and the reset takes the answer away that the client has
//! not read yet (RFC 9112 section 9.6). So a connection that ends like this first closes its sending side only, and what still comes is
//! thrown away until the client has closed, too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use salvo::conn::tcp::TcpCoupler;
use salvo::conn::{Accepted, Acceptor, ConnCtrl, Holding};
use salvo::fuse::ArcFusePolicy;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::awake::{AwakeInstant, Deadline, Sleep};

/// The time in which a connection whose request is being answered may transfer nothing, in either direction, and for which a write may
/// wait. It is looked at in these intervals, not with each transfer, and so can be twice as long.
const STALL_TIMEOUT: Duration = Duration::from_secs(75);
/// The time for which what comes after the last answer is thrown away, and of silence after which no more is expected.
const LINGER_TIMEOUT: Duration = Duration::from_secs(15);
const LINGER_SILENCE: Duration = Duration::from_secs(2);

/// The deadlines of a connection, as they are configured.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a whole head, from its first byte on; for the first one from the beginning of the connection on.
    pub head: Duration,
    /// For the first byte of the next head, from the last byte of the answer before on.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(75) }
    }
}

/// A head is on its way.
const HEAD: u8 = 0;
/// A request is received or answered.
const REQUEST: u8 = 1;
/// The next head is awaited.
const IDLE: u8 = 2;

/// What a connection is at. The stream knows when bytes come and go, and whoever answers requests, where one begins and ends.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    /// Of what was sent to the server nothing is unread.
    read_all: AtomicBool,
}

impl Progress {
    /// Notes that a whole head has arrived.
    pub fn head_arrived(&self) {
        self.phase.store(REQUEST, Ordering::Relaxed);
    }

    /// Notes that the answer is ready; `read_all`: its request was read to the end. What is still to be written of it moves the end of the
    /// idle time.
    pub fn answered(&self, read_all: bool) {
        self.read_all.store(read_all, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Notes that bytes have arrived.
    fn received(&self) -> bool {
        let begins = self.phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if begins {
            self.read_all.store(false, Ordering::Relaxed);
        }
        begins
    }

    /// Notes that bytes were sent; returns whether the connection is idle. Where nobody notes the heads, whatever is sent is an answer.
    fn sent(&self) -> bool {
        self.phase.compare_exchange(HEAD, IDLE, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|phase| phase) != REQUEST
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }
}

/// The way from the policy of a listener, which accepts a connection, to the acceptor that makes its stream. A listener accepts in one
/// loop, so that the last one put is the one for the stream.
#[derive(Default)]
pub struct Handover(Mutex<Option<(Arc<Progress>, Deadlines)>>);

impl Handover {
    /// Leaves what the stream of the connection that has been accepted needs.
    pub fn put(&self, progress: Arc<Progress>, deadlines: Deadlines) {
        *self.0.lock() = Some((progress, deadlines));
    }

    fn take(&self) -> (Arc<Progress>, Deadlines) {
        self.0.lock().take().unwrap_or_default()
    }
}

/// An acceptor whose connections have the deadlines.
pub struct StallAcceptor<A> {
    inner: A,
    handover: Arc<Handover>,
}

impl<A> StallAcceptor<A> {
    /// Wraps an acceptor, whose listener has the policy that puts into `handover`.
    pub const fn new(inner: A, handover: Arc<Handover>) -> Self {
        Self { inner, handover }
    }
}

impl<A> Acceptor for StallAcceptor<A>
where
    A: Acceptor,
    A::Stream: AsyncRead + AsyncWrite,
{
    type Coupler = TcpCoupler<Self::Stream>;
    type Stream = StallStream<A::Stream>;

    fn holdings(&self) -> &[Holding] {
        self.inner.holdings()
    }

    async fn accept(&mut self, policy: Option<ArcFusePolicy>) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        let accepted = self.inner.accept(policy).await?;
        let (progress, deadlines) = self.handover.take();
        let control = accepted.conn_ctrl.clone();
        Ok(accepted.map_into(|_| TcpCoupler::new(), |stream| StallStream::new(stream, control, progress, deadlines)))
    }
}

/// A stream with the deadlines.
pub struct StallStream<S> {
    inner: S,
    control: ConnCtrl,
    progress: Arc<Progress>,
    deadlines: Deadlines,
    /// No longer HTTP: the deadlines do not apply.
    relaxed: bool,
    /// A deadline was missed.
    expired: bool,
    /// Something has been read.
    begun: bool,
    /// Something was transferred since the timer was set.
    moved: bool,
    /// The beginning of the write that waits.
    write_waits: Option<AwakeInstant>,
    /// The phase that the timer is set for, with the end of its time; `None` where a new one has begun since.
    watched: Option<(u8, Deadline)>,
    timer: Sleep,
    /// The sending side is closed, and what comes is thrown away until then.
    lingers: Option<Deadline>,
}

impl<S> StallStream<S> {
    fn new(inner: S, control: ConnCtrl, progress: Arc<Progress>, deadlines: Deadlines) -> Self {
        let first = Deadline::after(deadlines.head);
        let (timer, watched) = (Sleep::until(first), Some((HEAD, first)));
        let (relaxed, expired, begun, moved) = (false, false, false, false);
        Self {
            inner,
            control,
            progress,
            deadlines,
            relaxed,
            expired,
            begun,
            moved,
            write_waits: None,
            watched,
            timer,
            lingers: None,
        }
    }

    /// Returns the stream without the deadlines.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn is_relaxed(&mut self) -> bool {
        self.relaxed = self.relaxed || self.control.is_relaxed();
        self.relaxed
    }

    /// Looks at the deadline where nothing could be transferred.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.is_relaxed() {
            return Poll::Pending;
        }
        let phase = self.progress.phase();
        let deadline = match self.watched {
            Some((watched, deadline)) if watched == phase => deadline,
            _ => self.begin(phase),
        };
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            let has_moved = std::mem::take(&mut self.moved);
            let left = match self.write_waits {
                Some(waits) => STALL_TIMEOUT.saturating_sub(waits.elapsed()),
                None if phase != REQUEST => deadline.left(),
                None if has_moved => STALL_TIMEOUT,
                None => Duration::ZERO,
            };
            if left.is_zero() {
                self.expired = true;
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing was transferred for too long"));
            }
            self.timer.reset(Deadline::after(left));
        }
        Poll::Pending
    }

    /// Sets the timer for a phase that begins.
    fn begin(&mut self, phase: u8) -> Deadline {
        let deadline = Deadline::after(match phase {
            HEAD => self.deadlines.head,
            IDLE => self.deadlines.idle,
            _ => STALL_TIMEOUT,
        });
        self.watched = Some((phase, deadline));
        self.timer.reset(deadline);
        deadline
    }

    /// Notes the outcome of a write.
    fn wrote(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_relaxed() {
            return outcome;
        }
        match outcome {
            Poll::Ready(Ok(_)) => {
                (self.moved, self.write_waits) = (true, None);
                if self.progress.sent() {
                    // Idle from here on. hyper does not read again where it is waiting to be told that it can.
                    self.begin(IDLE);
                    let _ = Pin::new(&mut self.timer).poll(cx);
                }
                outcome
            }
            Poll::Ready(Err(_)) => outcome,
            Poll::Pending => {
                if self.write_waits.is_none() {
                    let now = AwakeInstant::now();
                    self.write_waits = Some(now);
                }
                self.poll_stalled(cx).map(Err)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> StallStream<S> {
    /// Throws away what comes, until the client closes, or for as long as is reasonable.
    fn poll_linger(&mut self, until: Deadline, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && !until.is_over() => {
                    self.timer.reset(until.or_after(LINGER_SILENCE));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Pin::new(&mut self.timer).poll(cx),
            }
        }
    }

    /// Returns whether something that was sent to the server is unread, or may still come.
    fn leaves_unread(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_relaxed() || self.expired || !self.begun {
            return false;
        }
        let mut space = [0; 1];
        let mut buf = ReadBuf::new(&mut space);
        !self.progress.read_all.load(Ordering::Relaxed)
            || (Pin::new(&mut self.inner).poll_read(cx, &mut buf).is_ready() && !buf.filled().is_empty())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_stalled(cx).map(Err),
            ready => {
                self.moved = true;
                if !self.relaxed && buf.filled().len() > before {
                    self.begun = true;
                    // Some clients send an empty line after a body (RFC 9112 section 2.2); it begins no head.
                    let blank = buf.filled()[before..].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                    if !blank && self.progress.received() {
                        self.watched = None;
                    }
                }
                ready
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StallStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = match self.lingers {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
                if !self.leaves_unread(cx) {
                    return Poll::Ready(Ok(()));
                }
                let until = Deadline::after(LINGER_TIMEOUT);
                self.timer.reset(Deadline::after(LINGER_SILENCE));
                self.lingers = Some(until);
                until
            }
        };
        self.poll_linger(until, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, advance, sleep};

    fn kind<T>(outcome: io::Result<T>) -> Option<io::ErrorKind> {
        outcome.err().map(|error| error.kind())
    }

    const DEADLINES: Deadlines = Deadlines { head: Duration::from_secs(10), idle: Duration::from_secs(30) };

    /// A stream whose first request is being answered.
    fn stream(near: DuplexStream, control: ConnCtrl) -> (StallStream<DuplexStream>, Arc<Progress>) {
        let progress = Arc::<Progress>::default();
        progress.head_arrived();
        (StallStream::new(near, control, progress.clone(), DEADLINES), progress)
    }

    /// Reads until an error, and returns the seconds that have passed until then.
    async fn expiry(stream: &mut StallStream<DuplexStream>) -> u64 {
        let start = Instant::now();
        loop {
            match stream.read_u8().await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return start.elapsed().as_secs(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Writes a byte every five seconds.
    fn trickle(mut far: DuplexStream) {
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(5)).await;
                if far.write_all(b"x").await.is_err() {
                    return;
                }
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn first_head_has_its_time_from_the_beginning_on() {
        for trickles in [false, true] {
            let (near, far) = duplex(16);
            let mut stream = StallStream::new(near, ConnCtrl::new(), Arc::default(), DEADLINES);
            let _far = if trickles {
                trickle(far);
                None
            } else {
                Some(far)
            };
            assert_eq!(expiry(&mut stream).await, 10, "{trickles}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_has_more_time_and_the_next_head_its_own() {
        let (near, mut far) = duplex(16);
        let (mut stream, progress) = stream(near, ConnCtrl::new());
        for _ in 0..3 {
            progress.answered(true);
            stream.write_all(b"answer").await.unwrap();
            far.read_exact(&mut [0; 6]).await.unwrap();
            sleep(Duration::from_secs(29)).await;
            assert!(futures_util::poll!(std::pin::pin!(stream.read_u8())).is_pending());
            far.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            progress.head_arrived();
        }
        progress.answered(true);
        stream.write_all(b"answer").await.unwrap();
        sleep(Duration::from_secs(20)).await;
        far.write_all(b"x").await.unwrap();
        trickle(far);
        stream.read_u8().await.unwrap();
        assert_eq!(expiry(&mut stream).await, 10, "a head that comes too slowly");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_ends() {
        for answered_before in [true, false] {
            let (near, _far) = duplex(16);
            let (mut stream, progress) = stream(near, ConnCtrl::new());
            if !answered_before {
                // As hyper does it: while an answer is made, it waits for the end of the connection.
                assert!(futures_util::poll!(std::pin::pin!(stream.read_u8())).is_pending());
            }
            progress.answered(true);
            stream.write_all(b"answer").await.unwrap();
            assert_eq!(expiry(&mut stream).await, 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_is_still_written_is_not_idle() {
        for read_slowly in [true, false] {
            let (near, mut far) = duplex(16);
            let (stream, progress) = stream(near, ConnCtrl::new());
            progress.answered(true);
            let client = tokio::spawn(async move {
                for _ in 0..7 {
                    // For longer than it may be idle, in all, and where it reads slowly, each time.
                    sleep(Duration::from_secs(if read_slowly { 50 } else { 20 })).await;
                    far.read_exact(&mut [0; 16]).await.unwrap();
                }
                far
            });
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writing = async {
                for _ in 0..8 {
                    writer.write_all(&[0; 16]).await.unwrap();
                }
            };
            // In one task, as hyper does it.
            tokio::select! {
                () = writing => {}
                end = reader.read_u8() => panic!("{end:?}"),
            }
            let start = Instant::now();
            assert_eq!(kind(reader.read_u8().await), Some(io::ErrorKind::TimedOut));
            assert!(start.elapsed() <= STALL_TIMEOUT, "{:?}", start.elapsed());
            drop(client.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn end_with_an_unread_body_waits_for_the_client() {
        for (read_all, client_closes) in [(false, true), (false, false), (true, false)] {
            let (near, mut far) = duplex(16);
            let (mut stream, progress) = stream(near, ConnCtrl::new());
            far.write_all(b"head").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            progress.answered(read_all);
            stream.write_all(b"answer").await.unwrap();
            let start = Instant::now();
            let client = tokio::spawn(async move {
                if !read_all {
                    // More than the buffer holds: it goes on only while the server reads.
                    far.write_all(&[b'x'; 100]).await.unwrap();
                }
                let mut answer = vec![0; 6];
                far.read_exact(&mut answer).await.unwrap();
                assert_eq!((answer.as_slice(), far.read(&mut [0]).await.unwrap()), (&b"answer"[..], 0));
                if !client_closes {
                    std::future::pending::<()>().await;
                }
            });
            stream.shutdown().await.unwrap();
            let expected = if read_all || client_closes { Duration::ZERO } else { LINGER_SILENCE };
            assert_eq!(start.elapsed().as_secs(), expected.as_secs(), "{read_all} {client_closes}");
            client.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connection_ends_after_its_last_transfer() {
        let (near, mut far) = duplex(16);
        let (mut stream, start) = (stream(near, ConnCtrl::new()).0, Instant::now());
        tokio::spawn(async move {
            sleep(Duration::from_secs(60)).await;
            far.write_all(b"x").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(kind(stream.read_u8().await), Some(io::ErrorKind::TimedOut));
        assert!(start.elapsed() >= Duration::from_secs(60) + STALL_TIMEOUT && start.elapsed() <= STALL_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_arrived_is_read_however_late() {
        let (near, mut far) = duplex(16);
        let mut stream = stream(near, ConnCtrl::new()).0;
        far.write_all(b"x").await.unwrap();
        advance(STALL_TIMEOUT * 2).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        far.write_all(b"y").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test(start_paused = true)]
    async fn write_that_waits_ends_although_the_client_sends() {
        let (near, far) = duplex(16);
        let (mut reader, mut writer) = tokio::io::split(stream(near, ConnCtrl::new()).0);
        let (from_far, mut to_near) = tokio::io::split(far);
        tokio::spawn(async move {
            while to_near.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(10)).await;
            }
            drop(from_far); // reads nothing
        });
        let start = Instant::now();
        // In one task, as hyper does it.
        let outcome = tokio::select! {
            outcome = writer.write_all(&[0; 64]) => outcome,
            error = async { loop { if let Err(error) = reader.read_u8().await { break error; } } } => Err(error),
        };
        assert_eq!(kind(outcome), Some(io::ErrorKind::TimedOut));
        assert!(start.elapsed() >= STALL_TIMEOUT && start.elapsed() < STALL_TIMEOUT + Duration::from_secs(11));
    }

    #[tokio::test(start_paused = true)]
    async fn websocket_may_be_silent() {
        let (near, mut far) = duplex(16);
        let control = ConnCtrl::new();
        let mut stream = stream(near, control.clone()).0;
        control.relax_timeouts();
        tokio::spawn(async move {
            sleep(STALL_TIMEOUT * 3).await;
            far.write_all(b"x").await.unwrap();
        });
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
}
