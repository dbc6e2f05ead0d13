//! Limits for plain HTTP connections: permits, acquired before the first byte is read, and timeouts for everything that an
//! unauthenticated client could delay. A connection that becomes a WebSocket returns its permits: from then on the session's own
//! permits and timeouts apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use arc_swap::ArcSwap;
use salvo::async_trait;
use salvo::conn::ConnCtrl;
use salvo::fuse::{ArcConnObserver, ConnObserver, FuseAction, FuseConfig, FuseInfo, FusePolicy};

use super::net_key::NetKey;
use super::permits::{Permit, Permits, SharedPermit, SharedPermits};
use crate::config::{Config, Limits};
use crate::net::client_addr::Proxies;
use crate::telemetry::metrics::{Metrics, Refused};

/// The permits and timeouts of plain HTTP connections, shared by all listeners.
pub struct ConnectionGate {
    total: Arc<SharedPermits>,
    by_address: Permits<NetKey>,
    proxies: Arc<ArcSwap<Proxies>>,
    timeouts: ArcSwap<FuseConfig>,
    metrics: Arc<Metrics>,
}

impl ConnectionGate {
    /// Creates the gate with the configured limits.
    pub fn new(config: &Config, proxies: Arc<ArcSwap<Proxies>>, metrics: Arc<Metrics>) -> Self {
        Self {
            total: SharedPermits::new(config.limits.sockets),
            by_address: Permits::new(config.limits.sockets_per_address()),
            proxies,
            timeouts: ArcSwap::from_pointee(timeouts(&config.limits)),
            metrics,
        }
    }

    /// Returns the number of open connections that are not WebSockets (yet). At the limit, further ones wait in the listener's queue.
    pub fn connections(&self) -> u32 {
        self.total.in_use()
    }

    /// Applies other limits; open connections keep their timeouts.
    pub(super) fn reload(&self, limits: &Limits) {
        self.total.set_limit(limits.sockets);
        self.by_address.set_limit(limits.sockets_per_address());
        self.timeouts.store(Arc::new(timeouts(limits)));
    }
}

fn timeouts(limits: &Limits) -> FuseConfig {
    // Of Salvo's deadlines only this one is kept, which hyper measures with the server's own timer and which covers the TLS handshake,
    // too, since that is part of reading the head. The others run while the process sleeps: see `net::stall` and `http::endpoint`.
    FuseConfig::disabled().with_http1_header_timeout(Duration::from_secs(limits.head_seconds.into()))
}

/// The permits of one plain HTTP connection.
struct ConnectionPermits {
    _total: SharedPermit,
    _of_address: Option<Permit<NetKey>>,
}

/// The policy of one listener. A listener accepts in one loop: for each connection `decide` runs, then `observe`, before the next
/// connection is accepted.
pub struct ListenerPolicy {
    gate: Arc<ConnectionGate>,
    /// The permits of the connection between `decide` and `observe`.
    accepted: Mutex<Option<ConnectionPermits>>,
}

impl ListenerPolicy {
    /// Creates the policy of one listener.
    pub fn new(gate: Arc<ConnectionGate>) -> Self {
        Self { gate, accepted: Mutex::default() }
    }
}

#[async_trait]
impl FusePolicy for ListenerPolicy {
    async fn decide(&self, info: &FuseInfo) -> FuseAction {
        let peer = info.remote_addr.ip();
        // A proxy connects for many clients, which are counted one by one when they become WebSockets.
        let counted = peer.filter(|&address| !self.gate.proxies.load().trusts(address));
        let of_address = match counted {
            None => None,
            Some(address) => {
                let Some(permit) = self.gate.by_address.try_acquire(address.into()) else {
                    self.gate.metrics.refused.inc(Refused::SocketsOfAddress);
                    tracing::debug!(%address, "refused: too many HTTP connections from this address");
                    return FuseAction::Reject;
                };
                Some(permit)
            }
        };
        // At the limit, further connections wait in the listener's queue until a timeout frees a permit.
        let total = self.gate.total.acquire().await;
        *self.accepted.lock() = Some(ConnectionPermits { _total: total, _of_address: of_address });
        FuseAction::Accept(**self.gate.timeouts.load())
    }

    fn observe(&self, _: &FuseInfo, ctrl: &ConnCtrl) -> Option<ArcConnObserver> {
        let permits = self.accepted.lock().take()?;
        Some(Arc::new(PermitHolder { permits: Mutex::new(Some(permits)), plain: AtomicBool::new(true), ctrl: ctrl.clone() }))
    }
}

/// Exists as long as the connection, and holds its permits while that is plain HTTP.
struct PermitHolder {
    permits: Mutex<Option<ConnectionPermits>>,
    plain: AtomicBool,
    ctrl: ConnCtrl,
}

impl ConnObserver for PermitHolder {
    fn on_write(&self, _: usize) {
        // The response to a handshake is written after the timeouts were relaxed: a WebSocket from here on.
        if self.plain.load(Ordering::Relaxed) && self.ctrl.is_relaxed() {
            self.plain.store(false, Ordering::Relaxed);
            drop(self.permits.lock().take());
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

    #[tokio::test]
    async fn connection_beyond_the_limit_waits() {
        let policy = policy(|c| c.limits.sockets = 1);
        let first = connect(&policy, [192, 0, 2, 1]).await.unwrap();
        let mut next = std::pin::pin!(connect(&policy, [192, 0, 2, 2]));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert_eq!(policy.gate.connections(), 1);
        drop(first);
        assert!(next.await.is_some());
        assert_eq!(policy.gate.connections(), 0);
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
