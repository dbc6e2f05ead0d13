//! The door: who may knock, how often, and how many may be inside at once. Judged before anyone says who they are.

pub mod address;
pub mod client;
pub mod guard;
pub mod listen;
pub mod origin;
pub mod rates;
pub mod redirect;
pub mod seats;
pub mod self_signed;
pub mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use salvo::http::Request;
use salvo::http::uri::Scheme;

use crate::config::{Config, Limits};
use crate::ids::{TokenId, UserId};

pub use address::NetKey;
pub use rates::{Penalty, Rate};
pub use seats::{Seat, Seats};

/// How many refusals a minute the audit trail names for one address; the others are counted.
const REFUSAL_LINES: u32 = 30;

/// The state of the door.
pub struct Door {
    /// Live connections in all.
    pub total: Seats<()>,
    /// Live connections by address.
    pub by_address: Seats<NetKey>,
    /// Live connections by user.
    pub by_user: Seats<UserId>,
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
    /// How many more there would have been since the last sweep.
    pub lines_left_out: AtomicU64,
    origins: ArcSwap<origin::Origins>,
    /// Whose word about a client's address is taken.
    proxies: Arc<ArcSwap<client::Proxies>>,
    /// Plain HTTP connections.
    pub guard: Arc<guard::Guard>,
}

impl Door {
    /// A door with the configured limits.
    pub fn new(config: &Config) -> Self {
        let proxies = Arc::new(ArcSwap::from_pointee(client::Proxies::new(&config.server)));
        let Limits { connections, connections_per_address, connections_per_user, .. } = config.limits;
        Self {
            total: Seats::new(connections),
            by_address: Seats::new(connections_per_address),
            by_user: Seats::new(connections_per_user),
            connects: Rate::per_minute(config.limits.connects_per_minute),
            refusals: Penalty::per_minute(config.limits.refusals_per_minute),
            messages: Rate::per_minute(config.limits.user_messages_per_minute),
            requests: Rate::per_minute(config.limits.requests_per_minute),
            trusted_requests: Rate::per_minute(config.limits.trusted_requests_per_minute),
            pairings: Rate::per_minute(config.limits.pairings_per_minute),
            refusal_lines: Rate::per_minute(REFUSAL_LINES),
            lines_left_out: AtomicU64::new(0),
            guard: Arc::new(guard::Guard::new(config, proxies.clone())),
            proxies,
            origins: ArcSwap::from_pointee(origins(config)),
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
        self.guard.reload(limits);
        self.proxies.store(Arc::new(client::Proxies::new(&config.server)));
        self.origins.store(Arc::new(origins(config)));
    }

    /// Allowed web origins.
    pub fn origins(&self) -> Guard<Arc<origin::Origins>> {
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
        match self.lines_left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            count => tracing::info!(target: crate::audit::TARGET, event = "left_out", count),
        }
    }
}

fn origins(config: &Config) -> origin::Origins {
    origin::Origins::new(&config.server.origins, config.server.listen.ip().is_loopback())
}

/// The other end of the connection.
fn peer(request: &Request) -> IpAddr {
    request.remote_addr().ip().unwrap_or(IpAddr::from([0, 0, 0, 0]))
}
