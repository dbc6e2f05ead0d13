//! The listener of plain TCP connections.
//!
//! Salvo's own wraps each connection in deadlines, which `stall` replaces, and keeps the wrapper to itself. With this one a WebSocket gets
//! the bare socket back.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use salvo::conn::tcp::TcpCoupler;
use salvo::conn::{Accepted, Acceptor, ConnCtrl, Holding};
use salvo::fuse::{ArcConnObserver, ArcFusePolicy, FuseAction, FuseInfo, TransProto};
use salvo::http::Version;
use salvo::http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Accepts plain TCP connections.
pub struct PlainAcceptor {
    listener: TcpListener,
    holdings: [Holding; 1],
    /// Accepted, and not admitted yet: kept here, since a dropped `accept` must not end it.
    pending: Option<(TcpStream, SocketAddr)>,
}

impl PlainAcceptor {
    /// Accepts on `listener`.
    ///
    /// # Errors
    /// If its address can't be told.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let local_addr = listener.local_addr()?.into();
        let holding = Holding { local_addr, http_versions: vec![Version::HTTP_11], http_scheme: Scheme::HTTP };
        Ok(Self { listener, holdings: [holding], pending: None })
    }
}

impl Acceptor for PlainAcceptor {
    type Coupler = TcpCoupler<Self::Stream>;
    type Stream = PlainStream;

    fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    async fn accept(&mut self, policy: Option<ArcFusePolicy>) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        loop {
            let remote_addr = match &self.pending {
                Some((_, remote)) => *remote,
                None => self.pending.insert(self.listener.accept().await?).1,
            };
            let (local_addr, conn_ctrl) = (self.holdings[0].local_addr.clone(), ConnCtrl::new());
            let (mut fuse_config, mut observer) = (None, None);
            if let Some(policy) = &policy {
                let info =
                    FuseInfo { trans_proto: TransProto::Tcp, remote_addr: remote_addr.into(), local_addr: local_addr.clone() };
                match policy.decide(&info).await {
                    FuseAction::Accept(config) => (fuse_config, observer) = (Some(config), policy.observe(&info, &conn_ctrl)),
                    FuseAction::Reject => {
                        self.pending = None;
                        continue;
                    }
                }
            }
            let Some((socket, _)) = self.pending.take() else { continue };
            return Ok(Accepted {
                coupler: TcpCoupler::new(),
                stream: PlainStream { socket, observer },
                fuse_config,
                conn_ctrl,
                remote_addr: remote_addr.into(),
                local_addr,
                http_scheme: Scheme::HTTP,
            });
        }
    }
}

/// A plain TCP connection.
pub struct PlainStream {
    socket: TcpStream,
    /// Notified of what is written, and dropped with the connection.
    observer: Option<ArcConnObserver>,
}

impl PlainStream {
    /// Returns the socket.
    pub fn into_inner(self) -> TcpStream {
        self.socket
    }

    fn observe(&self, written: usize) {
        if written > 0
            && let Some(observer) = &self.observer
        {
            observer.on_write(written);
        }
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.observe(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bytes))?;
        self.observe(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // a socket has no buffer of its own
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
