//! The deadline of a connection on which nothing moves.
//!
//! Salvo has such deadlines, too, but it looks at them before it reads what has arrived, and they run while the process does not. Those
//! here do neither. A WebSocket has its own; the stream passes everything through once its connection has become one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use salvo::conn::tcp::TcpCoupler;
use salvo::conn::{Accepted, Acceptor, ConnCtrl, Holding};
use salvo::fuse::ArcFusePolicy;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::awake::{AwakeInstant, Deadline, Sleep};

/// The time in which an HTTP connection may transfer nothing, in either direction, and for which a write may wait. It is looked at in
/// these intervals, not with each transfer, and so can be twice as long.
const STALL_TIMEOUT: Duration = Duration::from_secs(75);

/// An acceptor whose connections have the deadline.
pub struct StallAcceptor<A>(A);

impl<A> StallAcceptor<A> {
    /// Wraps an acceptor.
    pub const fn new(inner: A) -> Self {
        Self(inner)
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
        self.0.holdings()
    }

    async fn accept(&mut self, policy: Option<ArcFusePolicy>) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        let accepted = self.0.accept(policy).await?;
        let control = accepted.conn_ctrl.clone();
        Ok(accepted.map_into(|_| TcpCoupler::new(), |stream| StallStream::new(stream, control)))
    }
}

/// A stream with the deadline.
pub struct StallStream<S> {
    inner: S,
    control: ConnCtrl,
    /// No longer HTTP: the deadline does not apply.
    relaxed: bool,
    /// Something was transferred since the timer was set.
    moved: bool,
    /// The beginning of the write that waits.
    write_waits: Option<AwakeInstant>,
    timer: Sleep,
}

impl<S> StallStream<S> {
    fn new(inner: S, control: ConnCtrl) -> Self {
        let timer = Sleep::until(Deadline::after(STALL_TIMEOUT));
        Self { inner, control, relaxed: false, moved: false, write_waits: None, timer }
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
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            let has_moved = std::mem::take(&mut self.moved);
            let left = match self.write_waits {
                Some(waits) => STALL_TIMEOUT.saturating_sub(waits.elapsed()),
                None if has_moved => STALL_TIMEOUT,
                None => Duration::ZERO,
            };
            if left.is_zero() {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing was transferred for too long"));
            }
            self.timer.reset(Deadline::after(left));
        }
        Poll::Pending
    }

    /// Notes the outcome of a write.
    fn wrote(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_relaxed() {
            return outcome;
        }
        match outcome {
            Poll::Ready(Ok(_)) => {
                (self.moved, self.write_waits) = (true, None);
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

impl<S: AsyncRead + Unpin> AsyncRead for StallStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_stalled(cx).map(Err),
            ready => {
                self.moved = true;
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallStream<S> {
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
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance, sleep};

    fn kind<T>(outcome: io::Result<T>) -> Option<io::ErrorKind> {
        outcome.err().map(|error| error.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connection_ends_after_its_last_transfer() {
        let (near, mut far) = duplex(16);
        let (mut stream, start) = (StallStream::new(near, ConnCtrl::new()), Instant::now());
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
        let mut stream = StallStream::new(near, ConnCtrl::new());
        far.write_all(b"x").await.unwrap();
        advance(STALL_TIMEOUT * 2).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        far.write_all(b"y").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test(start_paused = true)]
    async fn write_that_waits_ends_although_the_client_sends() {
        let (near, far) = duplex(16);
        let (mut reader, mut writer) = tokio::io::split(StallStream::new(near, ConnCtrl::new()));
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
        let mut stream = StallStream::new(near, control.clone());
        control.relax_timeouts();
        tokio::spawn(async move {
            sleep(STALL_TIMEOUT * 3).await;
            far.write_all(b"x").await.unwrap();
        });
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
}
