//! `[cluster]`: several nodes as one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Secret, units};

/// The longest name of a cluster or a node.
const MAX_NAME_CHARS: usize = 32;
/// The beginnings of addresses of servers.
const SCHEMES: [&str; 2] = ["nats://", "tls://"];
/// The most servers that can keep a copy of the log.
const MAX_REPLICAS: usize = 5;
/// The least bytes that a log may take: a few entries of the greatest length, and what comes while a snapshot is made.
const MIN_LOG_BYTES: u64 = 64 << 20;
/// The least seconds until a node is stale: it is late for as long as the engine needs to choose another leader.
const MIN_STALE_SECONDS: u32 = 5;

/// `[cluster]`: absent on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The name of the cluster: 1 to 32 letters, digits, `-` and `_`.
    pub name: String,
    /// The name of this node, unique in the cluster, of the same form; that of the host where it is not set.
    pub node: Option<String>,
    /// The addresses of the NATS servers: `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub nats: Vec<String>,
    /// The user at the NATS servers.
    pub user: Option<String>,
    /// Its password; also read from the systemd credential `cluster-password`.
    pub password: Secret,
    /// A file with certificates (PEM) that those of the servers are signed with; those of the system where it is not set.
    pub tls_ca: Option<PathBuf>,
    /// The servers that keep the log: 1 to 5.
    pub replicas: usize,
    /// The time without a sign of the log after which this node serves nobody, in seconds.
    #[serde(deserialize_with = "units::seconds")]
    pub stale_seconds: u32,
    /// Bytes that the log may take, from its beginning on.
    #[serde(deserialize_with = "units::bytes")]
    pub log_max_bytes: u64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            nats: Vec::new(),
            user: None,
            password: Secret::default(),
            tls_ca: None,
            replicas: 3,
            stale_seconds: 15,
            log_max_bytes: 8 << 30,
        }
    }
}

/// Returns whether a cluster or a node can have that name, which is part of the engine's names.
pub fn is_cluster_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(allowed)
}

impl ClusterConfig {
    /// Returns the keys with impossible values, and the problem of each.
    pub(super) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let name = "must be 1 to 32 letters, digits, - and _";
        let is_server = |url: &String| SCHEMES.iter().any(|scheme| url.starts_with(scheme)) && !url.contains('@');
        let checks = [
            (is_cluster_name(&self.name), "name", name),
            (self.node.as_deref().is_none_or(is_cluster_name), "node", name),
            (!self.nats.is_empty(), "nats", "must name the NATS servers"),
            (
                self.nats.iter().all(is_server),
                "nats",
                "must be addresses like nats://HOST:4222 or tls://HOST:4222; put the user in cluster.user, and the password in \
                 cluster.password or in the systemd credential cluster-password",
            ),
            ((1..=MAX_REPLICAS).contains(&self.replicas), "replicas", "must be 1 to 5"),
            (self.stale_seconds >= MIN_STALE_SECONDS, "stale_seconds", "must be at least 5"),
            (self.log_max_bytes >= MIN_LOG_BYTES, "log_max_bytes", "must be at least 67108864"),
        ];
        checks.into_iter().filter(|(valid, ..)| !valid).map(|(_, key, message)| (key, message)).collect()
    }
}
