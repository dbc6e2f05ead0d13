//! Admission control: rate limits, permits for connections, room for answers, allowed origins, and known host names. Those by
//! address hold for whoever has no good credential; those with one have allowances of their own.

pub mod answers;
pub mod bodies;
pub mod by_address;
pub mod connection_gate;
pub mod hosts;
pub mod net_key;
pub mod origins;
pub mod permits;
pub mod rates;
pub mod seen;
pub mod slots;
pub mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use salvo::http::Request;
use salvo::http::uri::Scheme;

use crate::config::{Config, Limits};
use crate::core::ids::UserId;
use crate::net::client_addr::{ClientAddr, Proxies};
use crate::net::self_signed;
use crate::telemetry::metrics::Metrics;

pub use by_address::{AddressPermit, AddressPermits, AddressRate, AddressRefusals, LINK_FACTOR, SITE_FACTOR};
pub use net_key::NetKey;
pub use permits::{Permit, Permits};
pub use rates::RateLimit;

/// The number of refusals a minute that the audit trail records for one address; the others are counted.
const REFUSAL_LINES_PER_MINUTE: u32 = 30;

/// The time after which a client may try again where there are too many connections, and that between two such clients.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The limits, the allowed origins and the trusted proxies.
pub struct Admission {
    /// WebSocket connections in total.
    pub total: Permits<()>,
    /// The times to return of those for whom there were too many in total.
    total_slots: slots::Slots<()>,
    /// WebSockets of consoles in total.
    pub consoles: Permits<()>,
    /// WebSocket connections by address.
    pub by_address: AddressPermits,
    /// WebSocket connections by user.
    pub by_user: Permits<UserId>,
    /// WebSocket handshakes without a good credential, by address.
    pub connects: AddressRate,
    /// WebSocket handshakes with a good credential.
    pub known_connects: KnownConnects,
    /// Refused credentials by address.
    pub refusals: AddressRefusals,
    /// Messages by user, over all connections.
    pub messages: RateLimit<UserId>,
    /// REST calls by user, with tokens of users and devices.
    pub requests: RateLimit<UserId>,
    /// REST calls by user, with tokens of administrators and services.
    pub trusted_requests: RateLimit<UserId>,
    /// Started pairings by address.
    pub pairings: AddressRate,
    /// Records of refusals in the audit trail, by address: refused clients must not fill the disk.
    pub refusal_lines: AddressRate,
    /// Counts, among others, the refusals that the audit trail leaves out.
    metrics: Arc<Metrics>,
    /// The value of that counter at the last sweep.
    left_out_before: AtomicU64,
    /// Allowed web origins.
    origins: ArcSwap<origins::Origins>,
    /// Host names under which pages may use this server.
    hosts: ArcSwap<hosts::Hosts>,
    /// Origins and host names of pages that were refused, and logged.
    pub refused_pages: seen::Seen,
    /// The proxies whose headers give a client's address.
    pub proxies: Arc<ArcSwap<Proxies>>,
    /// Room for long answers on their way to clients.
    pub answers: Arc<answers::Answers>,
    /// Plain HTTP connections.
    pub gate: Arc<connection_gate::ConnectionGate>,
    /// The memory of the bodies of requests.
    pub bodies: Arc<bodies::Bodies>,
}

impl Admission {
    /// Creates the state with the configured limits.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Self {
        let proxies = Arc::new(ArcSwap::from_pointee(Proxies::new(&config.server)));
        let Limits { connections, connections_per_address, connections_per_user, .. } = config.limits;
        Self {
            total: Permits::new(connections),
            consoles: Permits::new(config.limits.console_connections),
            total_slots: slots::Slots::default(),
            by_address: AddressPermits::new(connections_per_address),
            by_user: Permits::new(connections_per_user),
            connects: AddressRate::per_minute(config.limits.connects_per_minute),
            known_connects: KnownConnects::new(&config.limits),
            refusals: AddressRefusals::per_minute(config.limits.refusals_per_minute),
            messages: RateLimit::per_minute(config.limits.user_messages_per_minute),
            requests: RateLimit::per_minute(config.limits.requests_per_minute),
            trusted_requests: RateLimit::per_minute(config.limits.trusted_requests_per_minute),
            pairings: AddressRate::guesses_per_minute(config.limits.pairings_per_minute),
            refusal_lines: AddressRate::per_minute(REFUSAL_LINES_PER_MINUTE),
            left_out_before: AtomicU64::new(0),
            answers: answers::Answers::new(config.answer_bytes(), metrics.clone()),
            gate: Arc::new(connection_gate::ConnectionGate::new(config, proxies.clone(), metrics.clone())),
            bodies: bodies::Bodies::new(config),
            metrics,
            proxies,
            origins: ArcSwap::from_pointee(allowed_origins(config)),
            hosts: ArcSwap::from_pointee(known_hosts(config)),
            refused_pages: seen::Seen::default(),
        }
    }

    /// Applies other limits, origins and proxies. Open connections stay open, and count; a rate limit whose number has changed starts
    /// from zero.
    pub fn reload(&self, config: &Config) {
        let limits = &config.limits;
        self.total.set_limit(limits.connections);
        self.consoles.set_limit(limits.console_connections);
        self.by_address.set_limit(limits.connections_per_address);
        self.by_user.set_limit(limits.connections_per_user);
        self.connects.set_limit(limits.connects_per_minute);
        self.known_connects.set_limits(limits);
        self.refusals.set_limit(limits.refusals_per_minute);
        self.messages.set_limit(limits.user_messages_per_minute);
        self.requests.set_limit(limits.requests_per_minute);
        self.trusted_requests.set_limit(limits.trusted_requests_per_minute);
        self.pairings.set_limit(limits.pairings_per_minute);
        self.answers.set_limit(config.answer_bytes());
        self.gate.reload(limits);
        self.bodies.reload(config);
        self.proxies.store(Arc::new(Proxies::new(&config.server)));
        self.origins.store(Arc::new(allowed_origins(config)));
        self.hosts.store(Arc::new(known_hosts(config)));
        self.refused_pages.clear(); // those that are still refused are worth another line
    }

    /// Returns the time after which a client may try again for whom there were too many connections in total: when one ends is not known,
    /// so they come one after the other.
    pub fn retry_connection(&self) -> Duration {
        self.total_slots.next(&(), Instant::now(), RETRY_AFTER, RETRY_INTERVAL)
    }

    /// Returns the allowed web origins.
    pub fn origins(&self) -> Guard<Arc<origins::Origins>> {
        self.origins.load()
    }

    /// Returns the known host names.
    pub fn hosts(&self) -> Guard<Arc<hosts::Hosts>> {
        self.hosts.load()
    }

    /// Returns the address of the client of `request`.
    pub fn client(&self, request: &Request) -> ClientAddr {
        self.proxies.load().client(peer(request), request.headers())
    }

    /// Reports whether the client of `request` speaks HTTPS, with the server or with a trusted proxy.
    pub fn encrypted(&self, request: &Request) -> bool {
        *request.scheme() == Scheme::HTTPS || self.proxies.load().https(peer(request).ip, request.headers())
    }

    /// Returns the path that a trusted proxy has taken away from the URL of `request`, without a slash at its end.
    pub fn prefix(&self, request: &Request) -> Option<String> {
        self.proxies.load().prefix(peer(request).ip, request.headers())
    }

    /// Evicts idle keys, and returns the number of refusals that the audit trail has left out since, if any. To be called once a minute.
    pub fn sweep(&self) -> Option<u64> {
        self.connects.sweep();
        self.known_connects.sweep();
        self.refusals.sweep();
        self.messages.sweep();
        self.requests.sweep();
        self.trusted_requests.sweep();
        self.pairings.sweep();
        self.refusal_lines.sweep();
        let left_out = self.metrics.audit_suppressed.get();
        Some(left_out.saturating_sub(self.left_out_before.swap(left_out, Ordering::Relaxed))).filter(|&count| count > 0)
    }
}

/// Handshakes with a good credential, by user and by address. Each may open within a minute as many connections as it may hold, so that
/// all are back a moment after a restart.
pub struct KnownConnects {
    users: RateLimit<UserId>,
    addresses: AddressRate,
}

impl KnownConnects {
    fn new(limits: &Limits) -> Self {
        Self {
            users: RateLimit::per_minute(limits.known_connects_per_user()),
            addresses: AddressRate::per_minute(limits.known_connects_per_address()),
        }
    }

    fn set_limits(&self, limits: &Limits) {
        self.users.set_limit(limits.known_connects_per_user());
        self.addresses.set_limit(limits.known_connects_per_address());
    }

    /// Counts a handshake of `user` from an address. That of the user comes first: one that returns for ever does not use up what
    /// its neighbours have.
    ///
    /// # Errors
    /// The time until one more is allowed, when a limit is exceeded.
    pub fn check(&self, user: UserId, key: &NetKey) -> Result<(), Duration> {
        rates::unless_slept(self.users.check_spread(&user).and_then(|()| self.addresses.check(key)))
    }

    fn sweep(&self) {
        self.users.sweep();
        self.addresses.sweep();
    }
}

fn allowed_origins(config: &Config) -> origins::Origins {
    origins::Origins::new(&config.server.origins, config.server.listen.ip().is_loopback())
}

fn known_hosts(config: &Config) -> hosts::Hosts {
    let machine = self_signed::host_name();
    let names = config.server.hosts.iter().chain(&config.tls.names).chain(&machine);
    hosts::Hosts::new(names.map(String::as_str), &config.server.origins)
}

/// Returns the address of the peer of the connection.
fn peer(request: &Request) -> ClientAddr {
    let address: Option<SocketAddr> = request.remote_addr().clone().into_std();
    address.map_or_else(|| IpAddr::from([0, 0, 0, 0]).into(), ClientAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_for_answers_follows_the_configuration() {
        let mut config = Config::default();
        let admission = Admission::new(&config, Metrics::new(Arc::default()));
        let two_fit = async || {
            let both =
                [admission.answers.reserve(Some(UserId(1)), 1 << 20).await, admission.answers.reserve(None, 1 << 20).await];
            both.iter().all(Option::is_some)
        };
        assert!(two_fit().await);
        config.limits.answer_bytes = Some(1 << 20);
        admission.reload(&config);
        assert!(!two_fit().await);
        (config.limits.answer_bytes, config.storage.memory_budget) = (None, 48 << 20);
        admission.reload(&config);
        assert!(two_fit().await);
    }
}
