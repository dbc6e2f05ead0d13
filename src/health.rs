//! Health checks: free disk space, the last commit, and the hub.
//!
//! `/readyz` is public, so checks are cheap and bounded: results are cached for a second, a commit is only requested when there
//! was none for a while, and a check that has not finished is not started again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::change::{Changes, Probe};
use crate::core::awake::timeout;
use crate::hub::Hub;
use crate::store::Store;

/// The time that the results of the checks are cached.
const RESULT_TTL: Duration = Duration::from_secs(1);
/// The age up to which a commit proves that the disk accepts writes: checks must not wear out the disk of an idle server.
const RECENT_COMMIT: Duration = Duration::from_secs(30);
/// Timeout for a commit or a round trip through the hub. Worn memory cards stall for seconds and still work.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The results of all checks. As JSON, each is `"ok"` or `"failed"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// The server is not shutting down.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub running: bool,
    /// The free disk space exceeds `storage.min_free_bytes`.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub disk_space: bool,
    /// The disk accepted a recent commit.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub commit: bool,
    /// The hub delivers published messages.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub hub: bool,
    /// The store has lost nothing that it had accepted, or the operator has acknowledged it.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub store: bool,
    /// The node is in touch with the log of its cluster; absent on one machine.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "crate::describe::types::CheckResult"))]
    pub cluster: Option<bool>,
}

fn as_text<S: Serializer>(passed: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *passed { "ok" } else { "failed" })
}

fn as_optional_text<S: Serializer>(passed: &Option<bool>, serializer: S) -> Result<S::Ok, S::Error> {
    as_text(&passed.unwrap_or(false), serializer)
}

impl Health {
    /// Returns whether the process works. Conditions that a restart would not fix, such as a full disk, are ignored.
    pub fn is_alive(&self) -> bool {
        self.commit && self.hub
    }

    /// Returns the reason that messages can't be accepted, if any.
    pub fn not_ready_reason(&self) -> Option<&'static str> {
        match self {
            Self { running: false, .. } => Some("stopping"),
            Self { commit: false, .. } => Some("the disk takes no writes"),
            Self { hub: false, .. } => Some("the hub does not respond"),
            Self { disk_space: false, .. } => Some("the disk is nearly full"),
            Self { cluster: Some(false), .. } => Some("the log of the cluster can't be reached"),
            Self { store: false, .. } => Some("the store has lost data; `qy-lty check` says what, with --acknowledge this ends"),
            _ => None,
        }
    }
}

/// A check in progress.
type PendingCheck = Option<JoinHandle<bool>>;

/// The cached results and the checks in progress.
#[derive(Default)]
struct ProbeState {
    /// The time of the last checks, and the results of the commit and of the hub.
    last: Option<(Instant, bool, bool)>,
    commit: PendingCheck,
    hub: PendingCheck,
}

/// Runs the health checks.
pub struct Prober {
    store: Store,
    changes: Changes,
    hub: Arc<Hub>,
    state: Mutex<ProbeState>,
}

impl Prober {
    /// Creates a prober of `store` and `hub`.
    pub fn new(store: Store, changes: Changes, hub: Arc<Hub>) -> Self {
        Self { store, changes, hub, state: Mutex::default() }
    }

    /// Runs the checks, or returns results that are at most a second old. `running` and `disk_space` are known to the caller.
    pub async fn check(&self, running: bool, disk_space: bool) -> Health {
        let mut state = self.state.lock().await;
        let (commit, hub) = match state.last {
            Some((when, commit, hub)) if when.elapsed() < RESULT_TTL => (commit, hub),
            _ => {
                let ProbeState { commit, hub, .. } = &mut *state;
                let (commit, hub) =
                    tokio::join!(self.commit(commit, disk_space), finish_or_start(hub, self.hub.clone().round_trip()));
                state.last = Some((Instant::now(), commit, hub));
                (commit, hub)
            }
        };
        Health { running, disk_space, commit, hub, store: self.store.loss().is_none(), cluster: None }
    }

    /// Returns the health without a write: a failed commit counts until a later one has succeeded. For those who look all the time.
    pub async fn glance(&self, running: bool, disk_space: bool) -> Health {
        let mut state = self.state.lock().await;
        let pulse = self.store.pulse();
        let is_stuck = pulse.busy.is_some_and(|since| since.elapsed() > CHECK_TIMEOUT);
        let has_failed = state.last.is_some_and(|(when, commit, _)| !commit && pulse.committed < when);
        let hub = finish_or_start(&mut state.hub, self.hub.clone().round_trip()).await;
        Health { running, disk_space, commit: !is_stuck && !has_failed, hub, store: self.store.loss().is_none(), cluster: None }
    }

    async fn commit(&self, pending: &mut PendingCheck, disk_space: bool) -> bool {
        let pulse = self.store.pulse();
        if pulse.busy.is_some_and(|since| since.elapsed() > CHECK_TIMEOUT) {
            return false;
        }
        if pending.is_none() && pulse.committed.elapsed() < RECENT_COMMIT {
            return true;
        }
        // On a nearly full disk the check writes nothing: the store does not survive using the last byte.
        let changes = self.changes.clone();
        finish_or_start(pending, async move { changes.run(Probe { write: disk_space }).await.is_ok() }).await
    }
}

/// Waits for the check in progress, or starts `check` if there is none. A check that times out stays in progress: it may still
/// finish, and there is never more than one.
async fn finish_or_start(pending: &mut PendingCheck, check: impl Future<Output = bool> + Send + 'static) -> bool {
    let task = pending.get_or_insert_with(|| tokio::spawn(check));
    let Ok(result) = timeout(CHECK_TIMEOUT, task).await else { return false };
    *pending = None;
    result.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(store: Store) -> Changes {
        let settings = crate::mailbox::settings(&crate::config::Config::default());
        Changes::open(store, settings, crate::telemetry::metrics::Metrics::new(Arc::default())).unwrap()
    }

    fn prober() -> (tempfile::TempDir, Prober) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, Prober::new(store.clone(), changes(store), Hub::new(8, 1 << 20)))
    }

    #[tokio::test]
    async fn health_of_a_working_server_is_ok() {
        let (_dir, prober) = prober();
        let health = prober.check(true, true).await;
        assert!(health.is_alive() && health.not_ready_reason().is_none());
        let json = r#"{"running":"ok","disk_space":"ok","commit":"ok","hub":"ok","store":"ok"}"#;
        assert_eq!(serde_json::to_string(&health).unwrap(), json);
    }

    #[tokio::test]
    async fn not_ready_reason_names_the_failed_check_and_is_alive_ignores_some() {
        let healthy = Health { running: true, disk_space: true, commit: true, hub: true, store: true, cluster: None };
        let cases = [
            (Health { running: false, ..healthy }, "stopping", true),
            (Health { disk_space: false, store: false, ..healthy }, "the disk is nearly full", true),
            (Health { commit: false, disk_space: false, ..healthy }, "the disk takes no writes", false),
            (Health { hub: false, ..healthy }, "the hub does not respond", false),
            (Health { cluster: Some(false), ..healthy }, "the log of the cluster can't be reached", true),
        ];
        for (health, reason, alive) in cases {
            assert_eq!((health.not_ready_reason(), health.is_alive()), (Some(reason), alive));
        }
    }

    #[tokio::test]
    async fn results_are_cached_until_they_expire() {
        let (_dir, prober) = prober();
        prober.check(true, true).await;
        prober.state.lock().await.last = Some((Instant::now(), false, true));
        assert!(!prober.check(true, true).await.commit);
        prober.state.lock().await.last = Some((Instant::now() - RESULT_TTL, false, true));
        assert!(prober.check(true, true).await.commit);
    }

    #[tokio::test]
    async fn glance_writes_nothing_and_a_failed_commit_counts_until_the_next() {
        let (_dir, prober) = prober();
        let before = prober.store.pulse().committed;
        assert!(prober.glance(true, true).await.is_alive());
        assert_eq!(prober.store.pulse().committed, before);
        prober.state.lock().await.last = Some((Instant::now(), false, true));
        assert!(!prober.glance(true, true).await.commit);
        prober.changes.run(Probe { write: true }).await.unwrap();
        assert!(prober.glance(true, true).await.commit);
    }

    #[tokio::test]
    async fn repeated_checks_with_a_recent_commit_write_nothing() {
        let (_dir, prober) = prober();
        prober.changes.run(Probe { write: true }).await.unwrap();
        let before = prober.store.pulse().committed;
        for _ in 0..100 {
            prober.state.lock().await.last = None;
            assert!(prober.check(true, true).await.is_alive());
        }
        assert_eq!(prober.store.pulse().committed, before);
    }

    #[tokio::test(start_paused = true)]
    async fn check_in_progress_is_not_started_again() {
        let mut pending = None;
        assert!(!finish_or_start(&mut pending, std::future::pending()).await);
        let id = pending.as_ref().unwrap().id();
        assert!(!finish_or_start(&mut pending, std::future::ready(true)).await, "the first check has not finished");
        assert_eq!(pending.as_ref().unwrap().id(), id);
        pending.take().unwrap().abort();
        assert!(finish_or_start(&mut pending, std::future::ready(true)).await);
        assert!(pending.is_none());
    }

    #[tokio::test]
    async fn commit_check_fails_when_the_store_is_closed() {
        let (_dir, prober) = prober();
        prober.changes.run(Probe { write: true }).await.unwrap();
        assert!(prober.store.pulse().committed.elapsed() < RECENT_COMMIT);
        prober.store.close().unwrap();
        let mut pending = None;
        let changes = prober.changes.clone();
        assert!(!finish_or_start(&mut pending, async move { changes.run(Probe { write: true }).await.is_ok() }).await);
    }
}
