//! Admission control: rate limits, permits for connections, and allowed origins. Runs before authentication.

pub mod connection_gate;
pub mod net_key;
pub mod origins;
pub mod permits;
pub mod rates;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use salvo::http::Request;
use salvo::http::uri::Scheme;

use crate::config::{Config, Limits};
use crate::core::ids::{TokenId, UserId};
use crate::net::client_addr::Proxies;
use crate::telemetry::metrics::Metrics;

pub use net_key::NetKey;
pub use permits::{Permit, Permits};
pub use rates::{Penalty, Rate};

/// How many refusals a minute the audit trail names for one address; the others are counted.
const REFUSAL_LINES: u32 = 30;

/// The state of the admission.
pub struct Admission {
    /// Live connections in all.
    pub total: Permits<()>,
    /// Live connections by address.
    pub by_address: Permits<NetKey>,
    /// Live connections by user.
    pub by_user: Permits<UserId>,
    /// WebSocket handshakes by address.
    pub connects: Rate<NetKey>,
    /// Refused credentials by address.
    pub refusals: Penalty<NetKey>,
    /// Messages by user, over all connections.
    pub messages: Rate<UserId>,
    /// REST calls by token of a user or a device.
    pub requests: Rate<TokenId>,
    /// REST calls by token of an administrator or a service.
    pub trusted_requests: Rate<TokenId>,
    /// Pairings begun, by address.
    pub pairings: Rate<NetKey>,
    /// Lines about refusals in the audit trail, by address: who is refused must not fill the disk by it.
    pub refusal_lines: Rate<NetKey>,
    /// Where what they leave out is counted, and how many that were at the last sweep.
    metrics: Arc<Metrics>,
    left_out_before: AtomicU64,
    /// Allowed web origins.
    origins: ArcSwap<origins::Origins>,
    /// Whose word about a client's address is taken.
    pub proxies: Arc<ArcSwap<Proxies>>,
    /// Plain HTTP connections.
    pub gate: Arc<connection_gate::ConnectionGate>,
}

impl Admission {
    /// A door with the configured limits.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let proxies = Arc::new(ArcSwap::from_pointee(Proxies::new(&config.server)));
        let Limits { connections, connections_per_address, connections_per_user, .. } = config.limits;
        Self {
            total: Permits::new(connections),
            by_address: Permits::new(connections_per_address),
            by_user: Permits::new(connections_per_user),
            connects: Rate::per_minute(config.limits.connects_per_minute),
            refusals: Penalty::per_minute(config.limits.refusals_per_minute),
            messages: Rate::per_minute(config.limits.user_messages_per_minute),
            requests: Rate::per_minute(config.limits.requests_per_minute),
            trusted_requests: Rate::per_minute(config.limits.trusted_requests_per_minute),
            pairings: Rate::per_minute(config.limits.pairings_per_minute),
            refusal_lines: Rate::per_minute(REFUSAL_LINES),
            left_out_before: AtomicU64::new(0),
            gate: Arc::new(connection_gate::ConnectionGate::new(config, proxies.clone(), metrics.clone())),
            metrics,
            proxies,
            origins: ArcSwap::from_pointee(allowed_origins(config)),
        }
    }

    /// Takes up other limits, origins and proxies. Who is inside stays inside, and counts; a rate that has another number
    /// begins anew.
    pub fn reload(&self, config: &Config) {
        let limits = &config.limits;
        self.total.set(limits.connections);
        self.by_address.set(limits.connections_per_address);
        self.by_user.set(limits.connections_per_user);
        self.connects.set(limits.connects_per_minute);
        self.refusals.set(limits.refusals_per_minute);
        self.messages.set(limits.user_messages_per_minute);
        self.requests.set(limits.requests_per_minute);
        self.trusted_requests.set(limits.trusted_requests_per_minute);
        self.pairings.set(limits.pairings_per_minute);
        self.gate.reload(limits);
        self.proxies.store(Arc::new(Proxies::new(&config.server)));
        self.origins.store(Arc::new(allowed_origins(config)));
    }

    /// Allowed web origins.
    pub fn origins(&self) -> Guard<Arc<origins::Origins>> {
        self.origins.load()
    }

    /// Where `request` comes from.
    pub fn client(&self, request: &Request) -> IpAddr {
        self.proxies.load().client(peer(request), request.headers())
    }

    /// Whether the client of `request` speaks HTTPS, with us or with a proxy of ours.
    pub fn encrypted(&self, request: &Request) -> bool {
        *request.scheme() == Scheme::HTTPS || self.proxies.load().https(peer(request), request.headers())
    }

    /// Forgets who has not come for a while; call it every minute.
    pub fn sweep(&self) {
        self.connects.sweep();
        self.refusals.sweep();
        self.messages.sweep();
        self.requests.sweep();
        self.trusted_requests.sweep();
        self.pairings.sweep();
        self.refusal_lines.sweep();
        let left_out = self.metrics.audit_suppressed.get();
        match left_out.saturating_sub(self.left_out_before.swap(left_out, Ordering::Relaxed)) {
            0 => {}
            count => tracing::info!(target: crate::telemetry::audit::TARGET, event = "left_out", count),
        }
    }
}

fn allowed_origins(config: &Config) -> origins::Origins {
    origins::Origins::new(&config.server.origins, config.server.listen.ip().is_loopback())
}

/// The other end of the connection.
fn peer(request: &Request) -> IpAddr {
    request.remote_addr().ip().unwrap_or(IpAddr::from([0, 0, 0, 0]))
}
