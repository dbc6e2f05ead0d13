//! Whether the server does its work: room on the disk, a recent commit, the hub.
//!
//! Looking costs little and is bounded: strangers may ask (`/readyz`), so what was seen counts for a second, a commit is asked for
//! only when there has been none for a while, and a question that is not answered is not asked again until it is.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::hub::Hub;
use crate::store::Store;

/// How long what was seen counts.
const KEEP: Duration = Duration::from_secs(1);
/// A commit that long ago is proof enough that the disk takes what is written: an idle box shall not wear its disk out.
const RECENT: Duration = Duration::from_secs(30);
/// How long a commit, or the hub, may take. Worn memory cards stall for seconds and are well all the same.
const DEADLINE: Duration = Duration::from_secs(5);

/// What was found. As JSON, each check is `"ok"` or `"failed"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Health {
    /// It is not stopping.
    #[serde(serialize_with = "word")]
    pub running: bool,
    /// There is more free space than `storage.min_free_bytes`.
    #[serde(serialize_with = "word")]
    pub disk_space: bool,
    /// The disk took what was written, a moment ago.
    #[serde(serialize_with = "word")]
    pub commit: bool,
    /// What is published is heard.
    #[serde(serialize_with = "word")]
    pub hub: bool,
}

fn word<S: Serializer>(well: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *well { "ok" } else { "failed" })
}

impl Health {
    /// Whether the process can do its work. What a restart would not help, a full disk, does not count.
    pub fn alive(&self) -> bool {
        self.commit && self.hub
    }

    /// Why messages can't be taken, or `None`.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self { running: false, .. } => Some("stopping"),
            Self { commit: false, .. } => Some("the disk takes no writes"),
            Self { hub: false, .. } => Some("the hub is stuck"),
            Self { disk_space: false, .. } => Some("the disk is nearly full"),
            _ => None,
        }
    }
}

/// A question under way.
type Asked = Option<JoinHandle<bool>>;

/// What was seen last, and what has not been answered.
#[derive(Default)]
struct Seen {
    /// When, the commit, the hub.
    last: Option<(Instant, bool, bool)>,
    commit: Asked,
    hub: Asked,
}

/// Looks.
pub struct Prober {
    store: Store,
    hub: Arc<Hub>,
    seen: Mutex<Seen>,
}

impl Prober {
    /// One that looks at these.
    pub fn new(store: Store, hub: Arc<Hub>) -> Self {
        Self { store, hub, seen: Mutex::default() }
    }

    /// Looks, or remembers what it saw within the last second. `running` and `disk_space` are what the caller knows.
    pub async fn look(&self, running: bool, disk_space: bool) -> Health {
        let mut seen = self.seen.lock().await;
        let (commit, hub) = match seen.last {
            Some((when, commit, hub)) if when.elapsed() < KEEP => (commit, hub),
            _ => {
                let Seen { commit, hub, .. } = &mut *seen;
                let found = tokio::join!(self.commit(commit, disk_space), answered(hub, self.hub.clone().round_trip()));
                seen.last = Some((Instant::now(), found.0, found.1));
                found
            }
        };
        Health { running, disk_space, commit, hub }
    }

    async fn commit(&self, asked: &mut Asked, disk_space: bool) -> bool {
        let pulse = self.store.pulse();
        if pulse.busy.is_some_and(|since| since.elapsed() > DEADLINE) {
            return false;
        }
        if asked.is_none() && pulse.committed.elapsed() < RECENT {
            return true;
        }
        // On a nearly full disk nothing is written for this: the store would not survive the last byte.
        let store = self.store.clone();
        answered(asked, async move { store.prove(disk_space).await.is_ok() }).await
    }
}

/// Waits for the question that is under way, or asks it. One that is late is kept: it may yet be answered, and there is never
/// more than one.
async fn answered(asked: &mut Asked, question: impl Future<Output = bool> + Send + 'static) -> bool {
    let task = asked.get_or_insert_with(|| tokio::spawn(question));
    let Ok(answer) = timeout(DEADLINE, task).await else { return false };
    *asked = None;
    answer.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prober() -> (tempfile::TempDir, Prober) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        (dir, Prober::new(store, Hub::new(8, 1 << 20)))
    }

    #[tokio::test]
    async fn all_is_well_and_says_so() {
        let (_dir, prober) = prober();
        let health = prober.look(true, true).await;
        assert!(health.alive() && health.trouble().is_none());
        let json = r#"{"running":"ok","disk_space":"ok","commit":"ok","hub":"ok"}"#;
        assert_eq!(serde_json::to_string(&health).unwrap(), json);
    }

    #[tokio::test]
    async fn each_trouble_has_its_words_and_only_some_call_for_a_restart() {
        let well = Health { running: true, disk_space: true, commit: true, hub: true };
        let cases = [
            (Health { running: false, ..well }, "stopping", true),
            (Health { disk_space: false, ..well }, "the disk is nearly full", true),
            (Health { commit: false, disk_space: false, ..well }, "the disk takes no writes", false),
            (Health { hub: false, ..well }, "the hub is stuck", false),
        ];
        for (health, words, alive) in cases {
            assert_eq!((health.trouble(), health.alive()), (Some(words), alive));
        }
    }

    #[tokio::test]
    async fn what_was_seen_counts_for_a_moment() {
        let (_dir, prober) = prober();
        prober.look(true, true).await;
        prober.seen.lock().await.last = Some((Instant::now(), false, true));
        assert!(!prober.look(true, true).await.commit);
        prober.seen.lock().await.last = Some((Instant::now() - KEEP, false, true));
        assert!(prober.look(true, true).await.commit);
    }

    #[tokio::test]
    async fn asking_often_writes_nothing() {
        let (_dir, prober) = prober();
        prober.store.prove(true).await.unwrap();
        let before = prober.store.pulse().committed;
        for _ in 0..100 {
            prober.seen.lock().await.last = None;
            assert!(prober.look(true, true).await.alive());
        }
        assert_eq!(prober.store.pulse().committed, before);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_asked_once() {
        let mut asked = None;
        assert!(!answered(&mut asked, std::future::pending()).await);
        let late = asked.as_ref().unwrap().id();
        assert!(!answered(&mut asked, std::future::ready(true)).await, "the first question has no answer yet");
        assert_eq!(asked.as_ref().unwrap().id(), late);
        asked.take().unwrap().abort();
        assert!(answered(&mut asked, std::future::ready(true)).await);
        assert!(asked.is_none());
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_is_found_out() {
        let (_dir, prober) = prober();
        prober.store.prove(true).await.unwrap();
        assert!(prober.store.pulse().committed.elapsed() < RECENT);
        prober.store.close().unwrap();
        let mut asked = None;
        let store = prober.store.clone();
        assert!(!answered(&mut asked, async move { store.prove(true).await.is_ok() }).await);
    }
}
