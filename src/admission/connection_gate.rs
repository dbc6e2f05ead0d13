//! Who may hold a socket open without being a WebSocket: seats for plain HTTP connections, taken before the first byte is
//! read, with deadlines for everything a stranger could be slow at. A connection that becomes a WebSocket gives its seat back:
//! from then on the session's own seats and deadlines hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use arc_swap::ArcSwap;
use salvo::async_trait;
use salvo::conn::ConnCtrl;
use salvo::fuse::{ArcConnObserver, ConnObserver, FuseAction, FuseConfig, FuseInfo, FusePolicy};

use super::net_key::NetKey;
use super::permits::{Gate, Pass, Permit, Permits};
use crate::config::{Config, Limits};
use crate::net::client_addr::Proxies;
use crate::telemetry::metrics::{Metrics, Refused};

/// How long an HTTP connection may be idle between bytes, or its reader slow.
const STALL: Duration = Duration::from_secs(75);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The seats and the deadlines; one for all listeners.
pub struct ConnectionGate {
    all: Arc<Gate>,
    by_address: Permits<NetKey>,
    proxies: Arc<ArcSwap<Proxies>>,
    deadlines: ArcSwap<FuseConfig>,
    metrics: Arc<Metrics>,
}

impl ConnectionGate {
    /// As configured.
    pub fn new(config: &Config, proxies: Arc<ArcSwap<Proxies>>, metrics: Arc<Metrics>) -> Self {
        Self {
            all: Gate::new(config.limits.sockets),
            by_address: Permits::new(config.limits.sockets_per_address()),
            proxies,
            deadlines: ArcSwap::from_pointee(deadlines(&config.limits)),
            metrics,
        }
    }

    /// Open connections that are no WebSocket (yet). When they are as many as there may be, others wait unheard.
    pub fn connections(&self) -> u32 {
        self.all.taken()
    }

    /// Takes up other limits; connections that are there keep their deadlines.
    pub(super) fn reload(&self, limits: &Limits) {
        self.all.set(limits.sockets);
        self.by_address.set(limits.sockets_per_address());
        self.deadlines.store(Arc::new(deadlines(limits)));
    }
}

fn deadlines(limits: &Limits) -> FuseConfig {
    let seconds = |n: u32| Duration::from_secs(n.into());
    FuseConfig::default()
        .with_tls_handshake_timeout(HANDSHAKE)
        .with_http1_header_timeout(seconds(limits.head_seconds))
        .with_request_body_timeout(seconds(limits.body_seconds))
        .with_connection_idle_timeout(STALL)
        .with_write_stall_timeout(STALL)
}

/// What one plain HTTP connection holds.
struct Held {
    _one_of_all: Pass,
    _one_of_address: Option<Permit<NetKey>>,
}

/// The guard at one listener, whose accepting is one loop: a connection is judged, then observed, then the next one comes.
pub struct Policy {
    gate: Arc<ConnectionGate>,
    judged: Mutex<Option<Held>>,
}

impl Policy {
    /// For one listener.
    pub fn new(gate: Arc<ConnectionGate>) -> Self {
        Self { gate, judged: Mutex::default() }
    }
}

#[async_trait]
impl FusePolicy for Policy {
    async fn decide(&self, info: &FuseInfo) -> FuseAction {
        let peer = info.remote_addr.ip();
        // A proxy brings many clients; they are counted one by one where they become WebSockets.
        let counted = peer.filter(|&address| !self.gate.proxies.load().trusts(address));
        let one_of_address = match counted.map(|address| self.gate.by_address.take(address.into())) {
            Some(None) => {
                self.gate.metrics.refused.inc(Refused::SocketsOfAddress);
                tracing::debug!(peer = ?info.remote_addr, "refused: too many HTTP connections of this address");
                return FuseAction::Reject;
            }
            Some(seat) => seat,
            None => None,
        };
        // All taken: who comes now waits in the listener's queue until a deadline frees a seat.
        let one_of_all = self.gate.all.enter().await;
        let held = Held { _one_of_all: one_of_all, _one_of_address: one_of_address };
        *self.judged.lock() = Some(held);
        FuseAction::Accept(**self.gate.deadlines.load())
    }

    fn observe(&self, _: &FuseInfo, ctrl: &ConnCtrl) -> Option<ArcConnObserver> {
        let held = self.judged.lock().take()?;
        Some(Arc::new(Seated { held: Mutex::new(Some(held)), plain: AtomicBool::new(true), ctrl: ctrl.clone() }))
    }
}

/// Lives as long as the connection, and holds its seats as long as that is plain HTTP.
struct Seated {
    held: Mutex<Option<Held>>,
    plain: AtomicBool,
    ctrl: ConnCtrl,
}

impl ConnObserver for Seated {
    fn on_write(&self, _: usize) {
        // The answer to a handshake is written after its timeouts were relaxed: a WebSocket from here on.
        if self.plain.load(Ordering::Relaxed) && self.ctrl.is_relaxed() {
            self.plain.store(false, Ordering::Relaxed);
            drop(self.held.lock().take());
        }
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

    fn policy(change: impl FnOnce(&mut Config)) -> Policy {
        let mut config = Config::default();
        change(&mut config);
        let proxies = Arc::new(ArcSwap::from_pointee(Proxies::new(&config.server)));
        Policy::new(Arc::new(ConnectionGate::new(&config, proxies, Metrics::new(Arc::default()))))
    }

    async fn come(policy: &Policy, address: [u8; 4]) -> Option<(ArcConnObserver, ConnCtrl)> {
        let (info, ctrl) = (from(address), ConnCtrl::new());
        match policy.decide(&info).await {
            FuseAction::Accept(_) => policy.observe(&info, &ctrl).map(|observer| (observer, ctrl)),
            FuseAction::Reject => None,
        }
    }

    #[tokio::test]
    async fn seats_are_by_address_and_a_websocket_gives_its_back() {
        let policy = policy(|c| c.limits.sockets_per_address = Some(2));
        let (one, ctrl) = come(&policy, [192, 0, 2, 1]).await.unwrap();
        let two = come(&policy, [192, 0, 2, 1]).await.unwrap();
        assert!(come(&policy, [192, 0, 2, 1]).await.is_none());
        assert!(come(&policy, [192, 0, 2, 2]).await.is_some());
        one.on_write(1);
        assert!(come(&policy, [192, 0, 2, 1]).await.is_none(), "an ordinary answer");
        ctrl.relax_timeouts();
        one.on_write(1);
        let three = come(&policy, [192, 0, 2, 1]).await.unwrap();
        assert!(come(&policy, [192, 0, 2, 1]).await.is_none());
        drop((two, three));
        assert!(come(&policy, [192, 0, 2, 1]).await.is_some(), "seats go with the connection");
    }

    #[tokio::test]
    async fn when_all_are_taken_the_next_waits() {
        let policy = policy(|c| c.limits.sockets = 1);
        let first = come(&policy, [192, 0, 2, 1]).await.unwrap();
        let mut next = std::pin::pin!(come(&policy, [192, 0, 2, 2]));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert_eq!(policy.gate.connections(), 1);
        drop(first);
        assert!(next.await.is_some());
        assert_eq!(policy.gate.connections(), 0);
    }

    #[tokio::test]
    async fn proxies_are_not_counted() {
        let policy = policy(|c| {
            c.limits.sockets_per_address = Some(1);
            c.server = toml::from_str("trusted_proxies = [\"192.0.2.1\"]").unwrap();
        });
        let both = (come(&policy, [192, 0, 2, 1]).await, come(&policy, [192, 0, 2, 1]).await);
        assert!(both.0.is_some() && both.1.is_some());
    }
}
