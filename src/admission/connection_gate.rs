//! Limits for plain HTTP connections: permits, acquired before the first byte is read, and timeouts for everything that an
//! unauthenticated client could delay. Where there is no permit left, a connection that waits for its client is ended: see
//! [`sockets`]. A connection that becomes a WebSocket returns its permits: from then on the session's own permits and timeouts apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use arc_swap::ArcSwap;
use salvo::async_trait;
use salvo::conn::ConnCtrl;
use salvo::fuse::{ArcConnObserver, ConnObserver, FuseAction, FuseConfig, FuseInfo, FusePolicy};
use salvo::http::Request;
use tokio::time::timeout;

use super::net_key::NetKey;
use super::permits::{Permits, SharedPermit, SharedPermits};
use super::sockets::{self, Answering, Ended, Receiving, Socket, SocketKey, SocketPermit, Sockets};
use crate::config::{Config, Limits};
use crate::net::client_addr::{ClientAddr, Proxies};
use crate::net::stall::{Deadlines, Handover};
use crate::telemetry::metrics::{Metrics, Refused};

/// The time after which a listener that waits for room looks again for a connection that can make some.
const ANOTHER_LOOK: Duration = Duration::from_millis(100);

/// The permits and timeouts of plain HTTP connections, shared by all listeners.
pub struct ConnectionGate {
    total: Arc<SharedPermits>,
    /// By address only: where addresses are free, whoever takes many makes room for others.
    by_address: Permits<NetKey>,
    sockets: Sockets,
    proxies: Arc<ArcSwap<Proxies>>,
    deadlines: ArcSwap<Deadlines>,
    metrics: Arc<Metrics>,
}

impl ConnectionGate {
    /// Creates the gate with the configured limits.
    pub fn new(config: &Config, proxies: Arc<ArcSwap<Proxies>>, metrics: Arc<Metrics>) -> Self {
        Self {
            total: SharedPermits::new(config.limits.sockets),
            by_address: Permits::new(config.limits.sockets_per_address()),
            sockets: Sockets::default(),
            proxies,
            deadlines: ArcSwap::from_pointee(deadlines(&config.limits)),
            metrics,
        }
    }

    /// Returns the number of open connections that are not WebSockets (yet).
    pub fn connections(&self) -> u32 {
        self.total.in_use()
    }

    /// Notes that the head of `request` has arrived: until the answer is made, its connection does not make room for others.
    ///
    /// # Errors
    /// [`Ended`]: it has made room already.
    pub fn answer(&self, request: &Request) -> Result<Option<Answering<'_>>, Ended> {
        self.sockets.answer(sockets::key_of(request))
    }

    /// Notes that the rest of the body of a request on connection `key` is awaited: until it is here, the connection may make room for
    /// others.
    pub fn receive(&self, key: Option<SocketKey>) -> Receiving {
        self.sockets.receive(key)
    }

    /// Waits for room for one more connection. At the limit one that waits for its client is ended for it; while there is none, because
    /// all of them are being answered, further ones wait in the listener's queue.
    async fn room(&self) -> SharedPermit {
        let mut room = self.total.try_acquire();
        loop {
            match room {
                Some(permit) => return permit,
                None if self.sockets.make_room() => {
                    self.metrics.refused.inc(Refused::Sockets);
                    tracing::debug!("an HTTP connection without a whole request has made room for another");
                }
                None => {}
            }
            room = timeout(ANOTHER_LOOK, self.total.acquire()).await.ok();
        }
    }

    /// Applies other limits; open connections keep their timeouts.
    pub(super) fn reload(&self, limits: &Limits) {
        self.total.set_limit(limits.sockets);
        self.by_address.set_limit(limits.sockets_per_address());
        self.deadlines.store(Arc::new(deadlines(limits)));
    }
}

fn deadlines(limits: &Limits) -> Deadlines {
    let seconds = |n: u32| Duration::from_secs(n.into());
    Deadlines { head: seconds(limits.head_seconds), idle: seconds(limits.keep_alive_seconds) }
}

/// The policy of one listener. A listener accepts in one loop: for each connection `decide` runs, then `observe`, before the next
/// connection is accepted.
pub struct ListenerPolicy {
    gate: Arc<ConnectionGate>,
    /// The permits of the connection between `decide` and `observe`.
    accepted: Mutex<Option<(SharedPermit, Option<SocketPermit>)>>,
    handover: Arc<Handover>,
}

impl ListenerPolicy {
    /// Creates the policy of one listener.
    pub fn new(gate: Arc<ConnectionGate>) -> Self {
        Self { gate, accepted: Mutex::default(), handover: Arc::default() }
    }

    /// Returns what the listener's [`StallAcceptor`](crate::net::stall::StallAcceptor) needs.
    pub fn handover(&self) -> Arc<Handover> {
        self.handover.clone()
    }

    /// Returns a permit of an address. At its limit, one of its own connections that is kept open after an answer, and idle, is ended for
    /// it.
    fn of_address(&self, address: NetKey) -> Option<SocketPermit> {
        self.gate.by_address.try_acquire(address).or_else(|| {
            let permit = self.gate.sockets.make_room_of(address)?;
            tracing::debug!("an idle HTTP connection has made room for another from its address");
            Some(permit)
        })
    }
}

#[async_trait]
impl FusePolicy for ListenerPolicy {
    async fn decide(&self, info: &FuseInfo) -> FuseAction {
        let peer = info.remote_addr.clone().into_std().map(ClientAddr::from);
        // A proxy connects for many clients, which are counted one by one when they become WebSockets.
        let address = peer.filter(|address| !self.gate.proxies.load().trusts(address.ip)).map(NetKey::from);
        let of_address = match address {
            None => None,
            Some(address) => {
                let Some(permit) = self.of_address(address) else {
                    self.gate.metrics.refused.inc(Refused::SocketsOfAddress);
                    tracing::debug!(address = ?info.remote_addr, "refused: too many HTTP connections from this address");
                    return FuseAction::Reject;
                };
                Some(permit)
            }
        };
        *self.accepted.lock() = Some((self.gate.room().await, of_address));
        // None of Salvo's deadlines: they run while the process sleeps. See `net::stall` and `http::endpoint`.
        FuseAction::Accept(FuseConfig::disabled())
    }

    fn observe(&self, info: &FuseInfo, ctrl: &ConnCtrl) -> Option<ArcConnObserver> {
        let (total, of_address) = self.accepted.lock().take()?;
        let key = info.remote_addr.clone().into_std().map(|peer| (peer, info.local_addr.port()));
        let socket = key.map(|key| (key, self.gate.sockets.add(key, of_address, ctrl.clone())));
        let progress = socket.as_ref().map(|(_, socket)| socket.progress.clone()).unwrap_or_default();
        self.handover.put(progress, **self.gate.deadlines.load());
        let (gate, total) = (self.gate.clone(), Mutex::new(Some(total)));
        Some(Arc::new(PermitHolder { gate, total, socket, plain: AtomicBool::new(true), ctrl: ctrl.clone() }))
    }
}

/// Exists as long as the connection, and holds its permits while that is plain HTTP.
struct PermitHolder {
    gate: Arc<ConnectionGate>,
    total: Mutex<Option<SharedPermit>>,
    /// The connection, which holds the permit of its address.
    socket: Option<(SocketKey, Arc<Socket>)>,
    plain: AtomicBool,
    ctrl: ConnCtrl,
}

impl PermitHolder {
    /// Ends what holds for plain HTTP.
    fn release(&self) {
        if let Some((key, socket)) = &self.socket {
            self.gate.sockets.remove(key, socket);
        }
        drop(self.total.lock().take());
    }
}

impl ConnObserver for PermitHolder {
    fn on_write(&self, _: usize) {
        if !self.plain.load(Ordering::Relaxed) {
            return;
        }
        // The response to a handshake is written after the timeouts were relaxed: a WebSocket from here on.
        if self.ctrl.is_relaxed() {
            self.plain.store(false, Ordering::Relaxed);
            self.release();
        } else if let Some((_, socket)) = &self.socket {
            self.gate.sockets.written(socket);
        }
    }
}

impl Drop for PermitHolder {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salvo::fuse::TransProto;
    use std::net::{IpAddr, SocketAddr};

    fn from(address: [u8; 4]) -> FuseInfo {
        let at = SocketAddr::new(IpAddr::from(address), 1);
        FuseInfo { trans_proto: TransProto::Tcp, remote_addr: at.into(), local_addr: at.into() }
    }

    fn policy(change: impl FnOnce(&mut Config)) -> ListenerPolicy {
        let mut config = Config::default();
        change(&mut config);
        let proxies = Arc::new(ArcSwap::from_pointee(Proxies::new(&config.server)));
        ListenerPolicy::new(Arc::new(ConnectionGate::new(&config, proxies, Metrics::new(Arc::default()))))
    }

    async fn connect(policy: &ListenerPolicy, address: [u8; 4]) -> Option<(ArcConnObserver, ConnCtrl)> {
        let (info, ctrl) = (from(address), ConnCtrl::new());
        match policy.decide(&info).await {
            FuseAction::Accept(_) => policy.observe(&info, &ctrl).map(|observer| (observer, ctrl)),
            FuseAction::Reject => None,
        }
    }

    #[tokio::test]
    async fn permits_are_per_address_and_returned_by_a_websocket() {
        let policy = policy(|c| c.limits.sockets_per_address = Some(2));
        let (one, ctrl) = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        let two = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        assert!(connect(&policy, [192, 0, 2, 1]).await.is_none());
        assert!(connect(&policy, [192, 0, 2, 2]).await.is_some());
        one.on_write(1);
        assert!(connect(&policy, [192, 0, 2, 1]).await.is_none(), "an ordinary response");
        ctrl.relax_timeouts();
        one.on_write(1);
        let three = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        assert!(connect(&policy, [192, 0, 2, 1]).await.is_none());
        drop((two, three));
        assert!(connect(&policy, [192, 0, 2, 1]).await.is_some(), "permits are returned with the connection");
    }

    fn key(address: [u8; 4]) -> Option<SocketKey> {
        Some((SocketAddr::new(IpAddr::from(address), 1), Some(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn connection_beyond_the_limit_waits_while_all_others_are_answered() {
        let policy = policy(|c| c.limits.sockets = 1);
        let first = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        let answering = policy.gate.sockets.answer(key([192, 0, 2, 1])).unwrap().unwrap();
        let mut next = std::pin::pin!(connect(&policy, [192, 0, 2, 2]));
        assert!(tokio::time::timeout(Duration::from_secs(60), next.as_mut()).await.is_err());
        assert!(!first.1.is_aborted() && policy.gate.connections() == 1);
        drop(answering); // idle from here on
        assert!(tokio::time::timeout(Duration::from_secs(60), next.as_mut()).await.is_err(), "it has not ended yet");
        assert!(first.1.is_aborted());
        drop(first);
        assert!(next.await.is_some());
        assert_eq!((policy.gate.connections(), policy.gate.metrics.refused.of(Refused::Sockets).get()), (0, 1));
    }

    #[tokio::test]
    async fn connection_beyond_the_limit_takes_the_place_of_the_oldest_without_a_head() {
        let policy = policy(|c| c.limits.sockets = 3);
        let answered = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        let _answering = policy.gate.sockets.answer(key([192, 0, 2, 1])).unwrap().unwrap();
        let silent = connect(&policy, [192, 0, 2, 2]).await.unwrap();
        let late = connect(&policy, [192, 0, 2, 3]).await.unwrap();
        let mut next = std::pin::pin!(connect(&policy, [192, 0, 2, 4]));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert!(silent.1.is_aborted() && !answered.1.is_aborted() && !late.1.is_aborted());
        drop(silent);
        assert!(next.await.is_some());
        // A WebSocket needs no room, and makes none.
        answered.1.relax_timeouts();
        answered.0.on_write(1);
        assert!(policy.gate.sockets.answer(key([192, 0, 2, 1])).unwrap().is_none());
        assert!(connect(&policy, [192, 0, 2, 5]).await.is_some() && !late.1.is_aborted());
    }

    #[tokio::test]
    async fn connections_of_proxies_are_not_counted() {
        let policy = policy(|c| {
            c.limits.sockets_per_address = Some(1);
            c.server = toml::from_str("trusted_proxies = [\"192.0.2.1\"]").unwrap();
        });
        let both = (connect(&policy, [192, 0, 2, 1]).await, connect(&policy, [192, 0, 2, 1]).await);
        assert!(both.0.is_some() && both.1.is_some());
    }
}
