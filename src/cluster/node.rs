//! A server's part in its cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::contact::Standing;
use super::log::{Log, LogError};
use super::member::{Member, MemberError, MemberOptions, drop_copy};
use super::nats::{NatsLog, connect};
use super::replica::SharedReplica;
use super::talk::talk;
use super::{BootId, NodeName, Position};
use crate::change::{Changes, Settings};
use crate::config::{ClusterConfig, Config, is_cluster_name};
use crate::hub::Hub;
use crate::store::{Caches, Store};
use crate::telemetry::metrics::Metrics;

/// The operations after which a snapshot is made; or entries of a quarter of the log.
const SNAPSHOT_OPERATIONS: u64 = 1_000_000;
const SNAPSHOT_SHARE: u64 = 4;
/// What an entry has around a message, and headers around an entry, at most, in bytes.
const ENTRY_BYTES: usize = 64 << 10;
/// The pause before the engine is tried again at the start, and how often a failure is logged.
const RETRY: Duration = Duration::from_secs(1);
const LOG_EVERY: u32 = 15;
/// The pause between two looks at how far a node has come at its start.
const LOOK: Duration = Duration::from_millis(50);
/// The longest wait for the engine's word where somebody asks for the state.
const ASK: Duration = Duration::from_secs(2);

/// A node that is about to take part.
pub struct Node {
    member: Member<NatsLog>,
    view: Arc<View>,
    /// The end of the log when it was opened.
    end: Position,
}

/// The name of a node that is configured to have none: that of the host, as far as it can be one.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = name.split('.').next().unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = name.chars().map(allowed).take(32).collect();
    if is_cluster_name(&name) { name } else { "node".into() }
}

impl Node {
    /// Opens the copy in the data directory `data`, or makes it. Waits for the engine where that can't be reached.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn join(cluster: &ClusterConfig, config: &Config, data: &Path) -> Result<Self, MemberError> {
        let log = reach(cluster).await?;
        check_length(&log, config)?;
        let name = NodeName(cluster.node.clone().unwrap_or_else(host_name));
        let storage = &config.storage;
        let options = MemberOptions {
            node: name,
            boot: BootId(rand::random()),
            data: data.into(),
            caches: Caches { pages: storage.page_cache_bytes(), blocks: storage.message_cache_bytes(0) },
            snapshot_after: (SNAPSHOT_OPERATIONS, cluster.log_max_bytes / SNAPSHOT_SHARE),
            min_free_bytes: storage.min_free_bytes,
        };
        let member = open(&log, options).await?;
        let end = log.end().await?;
        let replica = member.replica();
        let stale = Duration::from_secs(cluster.stale_seconds.into());
        let view =
            Arc::new(View { cluster: cluster.name.clone(), log, replica, stale, caught_up: tokio::sync::Mutex::default() });
        Ok(Self { member, view, end })
    }

    /// The store of the copy.
    pub fn store(&self) -> Store {
        self.member.store()
    }

    /// The way to change the state of the cluster.
    pub fn changes(&self) -> Changes {
        self.member.changes()
    }

    /// The counters of the node.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.member.metrics()
    }

    /// What the server sees of its part.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// The end of the log when the node was opened: up to there it catches up before it serves.
    pub const fn end(&self) -> Position {
        self.end
    }

    /// Takes part until the copy can't go on.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn run(self) -> Result<(), MemberError> {
        self.member.run().await
    }
}

/// Connects to the engine, as often as it takes.
async fn reach(cluster: &ClusterConfig) -> Result<NatsLog, MemberError> {
    let attempt = async || {
        let (log, is_there) = connect(cluster).await?;
        if !is_there {
            return Err(MemberError::NotFounded);
        }
        log.check_settings(cluster.replicas).await?;
        Ok(log)
    };
    let mut failures = 0_u32;
    loop {
        match attempt().await {
            Err(MemberError::Log(LogError::Unreachable(why))) => {
                if failures.is_multiple_of(LOG_EVERY) {
                    tracing::warn!(%why, "waiting for the cluster's log");
                }
                failures += 1;
                sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

/// Opens the copy; one that is of no use is made anew, once.
async fn open(log: &NatsLog, options: MemberOptions) -> Result<Member<NatsLog>, MemberError> {
    match Member::open(log.clone(), options.clone()).await {
        Err(error) if error.is_of_copy() => {
            tracing::warn!(%error, "the copy is made anew");
            drop_copy(&options.data)?;
            Member::open(log.clone(), options).await
        }
        opened => opened,
    }
}

/// Checks that the engine takes the longest message.
fn check_length(log: &NatsLog, config: &Config) -> Result<(), MemberError> {
    let (push_bytes, max_payload) = (config.limits.push_bytes, log.max_payload());
    let most = max_payload.saturating_sub(ENTRY_BYTES);
    if push_bytes == 0 || push_bytes > most { Err(MemberError::TooLong { push_bytes, max_payload, most }) } else { Ok(()) }
}

/// Returns the settings that differ, as `section.key: VALUE here, VALUE in the cluster`.
fn differing(cluster: &Settings, own: &Settings) -> Vec<String> {
    let sections = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    let (cluster, own) = (sections(cluster), sections(own));
    let mut found = Vec::new();
    for (section, keys) in own.as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten() {
            let there = &cluster[section][key];
            if there != value {
                found.push(format!("{section}.{key} is {value} here and {there} in the cluster"));
            }
        }
    }
    found
}

/// What a server sees of its part in the cluster.
pub struct View {
    cluster: String,
    log: NatsLog,
    replica: SharedReplica,
    /// The age of the last sign of the log from which on the copy is too old to serve.
    stale: Duration,
    /// The beginning of the last attempt to catch up, and whether it has succeeded.
    caught_up: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

/// The state of a node, for people.
#[derive(Debug, Serialize)]
pub struct NodeStatus {
    /// The name of the cluster.
    pub cluster: String,
    /// That of the node.
    pub node: NodeName,
    /// The number of the log.
    pub generation: u32,
    /// `fresh`, `late` or `stale`.
    pub standing: Standing,
    /// The last entry that was applied here.
    pub position: Position,
    /// The last entry of the log; `None` where the engine does not answer.
    pub end: Option<Position>,
    /// The level of entries.
    pub level: u32,
    /// Whether the copies of other nodes, as far as they were compared, are equal.
    pub agrees: bool,
    /// The other nodes that have appended something within the last minutes.
    pub others: Vec<OtherNode>,
    /// The positions of the snapshots, oldest first.
    pub snapshots: Vec<Position>,
}

/// Another node.
#[derive(Debug, Serialize)]
pub struct OtherNode {
    /// Its name.
    pub node: NodeName,
    /// The age of its last entry, in seconds.
    pub seconds: u64,
}

impl View {
    /// How current the copy is.
    pub fn standing(&self) -> Standing {
        self.replica.contact.standing(Instant::now(), self.stale)
    }

    /// Returns whether the node is in touch with the log.
    pub fn is_ready(&self) -> bool {
        self.standing() == Standing::Fresh
    }

    /// Returns whether the node's copy is too old to serve anybody.
    pub fn is_stale(&self) -> bool {
        self.standing() == Standing::Stale
    }

    /// Applies what was acknowledged before this call, so that who was answered at another node finds here what was done there. Returns
    /// whether that is so: what was not there is to be looked for again. Where the log does not answer, it is not. Many calls at once are
    /// one question, and share its answer.
    pub async fn catch_up(&self) -> bool {
        if self.standing() != Standing::Fresh {
            return false; // nobody waits for a log that can't be reached
        }
        timeout(ASK, self.catch_up_since(Instant::now())).await.unwrap_or(false)
    }

    async fn catch_up_since(&self, called: Instant) -> bool {
        let mut last = self.caught_up.lock().await;
        if let Some((began, has_come)) = *last
            && began >= called
        {
            return has_come; // what began after this call has caught up with what was before it
        }
        let began = Instant::now();
        *last = Some((began, false)); // also where this is dropped: those who wait already don't ask again, one after the other
        let Ok(end) = self.log.end().await else { return false };
        self.replica.reached(end).await;
        *last = Some((began, true));
        true
    }

    /// Checks what a node's configuration must have in common with the cluster; once it has caught up.
    ///
    /// # Errors
    /// [`MemberError::OtherSettings`], [`MemberError::TooLong`].
    pub fn check_config(&self, config: &Config) -> Result<(), MemberError> {
        let own = Settings { mailbox: config.mailbox.clone(), history: config.history.clone() };
        let other = differing(&self.replica.progress().settings, &own);
        if other.is_empty() { self.check_length(config) } else { Err(MemberError::OtherSettings(other.join(", "))) }
    }

    /// Checks that the engine takes the longest message by `config`.
    ///
    /// # Errors
    /// [`MemberError::TooLong`].
    pub fn check_length(&self, config: &Config) -> Result<(), MemberError> {
        check_length(&self.log, config)
    }

    /// Waits until everything up to `end` has been applied, and something newer has been seen.
    pub async fn caught_up(&self, end: Position) {
        self.replica.reached(end).await;
        while self.standing() != Standing::Fresh {
            sleep(LOOK).await;
        }
    }

    /// Tells other nodes who is connected here, and passes live messages on; hears the same of them. Until it is dropped.
    pub async fn talk(&self, hub: Arc<Hub>) {
        talk(self.log.clone(), self.replica.clone(), hub).await;
    }

    /// Returns the state.
    pub async fn status(&self) -> NodeStatus {
        let progress = self.replica.progress();
        let end = timeout(ASK, self.log.end()).await.ok().and_then(Result::ok);
        let others = self.replica.others().into_iter().map(|(node, age)| OtherNode { node, seconds: age.as_secs() });
        NodeStatus {
            cluster: self.cluster.clone(),
            node: self.replica.node.clone(),
            generation: progress.generation,
            standing: self.standing(),
            position: progress.position,
            end,
            level: progress.level,
            agrees: !self.replica.is_contradicted(),
            others: others.collect(),
            snapshots: progress.snapshots,
        }
    }
}
