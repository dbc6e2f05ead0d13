//! The topic of live connections: the newest ones at first, and then what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::core::ids::ConnId;
use crate::core::time::Timestamp;
use crate::hub::{Connection, ConnectionFilter};
use crate::monitor::ConnectionItem;

/// The most connections that a console has in its list: the newest that its filter selects.
const MAX_LISTED: usize = 1000;
/// The most changes in a frame; the others are in the next ones.
const MAX_CHANGES: usize = 250;
/// The time by which a connection's last activity is later than shown before that alone is worth a change: clients that are only alive
/// answer a ping every half a minute.
const ACTIVITY_PRECISION: Duration = Duration::from_secs(30);

/// The frame of this topic.
#[derive(Debug, Serialize)]
pub(super) struct ConnectionsFrame {
    #[serde(rename = "type")]
    kind: &'static str,
    /// What the console had listed is void.
    reset: bool,
    upsert: Vec<ConnectionItem>,
    remove: Vec<ConnId>,
    /// The number of all connections that the filter selects.
    total: usize,
}

/// The part of a connection that changes, as the console has it.
#[derive(Debug, Clone, Copy)]
struct Shown {
    lag: usize,
    is_unproved: bool,
    last_activity: Timestamp,
}

/// How much a connection differs from what is shown of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    New,
    State,
    Activity,
}

impl Shown {
    fn of(app: &App, connection: &Connection) -> Self {
        let last_activity = connection.last_activity();
        Self { lag: app.mailbox.lag(connection), is_unproved: connection.unproved(), last_activity }
    }

    /// Returns how `now` differs, if that is worth a change.
    fn difference(self, now: Self) -> Option<Difference> {
        if (self.lag, self.is_unproved) != (now.lag, now.is_unproved) {
            return Some(Difference::State);
        }
        (now.last_activity.minus(ACTIVITY_PRECISION) >= self.last_activity).then_some(Difference::Activity)
    }
}

/// The list of one console.
#[derive(Debug)]
pub(super) struct ConnectionsTopic {
    filter: ConnectionFilter,
    /// The connections that the console has listed.
    shown: BTreeMap<ConnId, Shown>,
    /// The number that it was told; `None` before the first frame.
    total: Option<usize>,
}

impl ConnectionsTopic {
    /// An empty list of what `filter` selects.
    pub(super) fn new(filter: ConnectionFilter) -> Self {
        Self { filter, shown: BTreeMap::new(), total: None }
    }

    /// Returns what has changed since the last frame; `None` where nothing has. Takes locks and looks into the store: not for the threads of
    /// the runtime.
    pub(super) fn next(&mut self, app: &App) -> Option<ConnectionsFrame> {
        let (newest, total) = app.hub.presence().newest(MAX_LISTED, &self.filter);
        let reset = self.total.is_none();
        let present: BTreeSet<ConnId> = newest.iter().map(|connection| connection.id).collect();
        let remove: Vec<ConnId> = self.shown.keys().filter(|id| !present.contains(id)).copied().collect();
        for id in &remove {
            self.shown.remove(id);
        }
        let mut changes: Vec<(Difference, &Arc<Connection>, Shown)> = Vec::new();
        for connection in &newest {
            let now = Shown::of(app, connection);
            let difference = self.shown.get(&connection.id).map_or(Some(Difference::New), |shown| shown.difference(now));
            changes.extend(difference.map(|difference| (difference, connection, now)));
        }
        changes.sort_by_key(|(difference, ..)| *difference); // stable: the newest come first
        changes.truncate(if reset { MAX_LISTED } else { MAX_CHANGES });
        let upsert: Vec<_> = changes
            .into_iter()
            .map(|(_, connection, now)| {
                self.shown.insert(connection.id, now);
                ConnectionItem::new(app, connection)
            })
            .collect();
        let is_told = self.total.replace(total) == Some(total);
        let is_news = !is_told || !upsert.is_empty() || !remove.is_empty();
        is_news.then_some(ConnectionsFrame { kind: "connections", reset, upsert, remove, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::core::client::ClientName;
    use crate::core::ids::{TokenId, UserId};
    use crate::hub::{Identity, Registration};
    use crate::store::Store;

    fn app() -> (tempfile::TempDir, Arc<App>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let mut config = Config::default();
        config.server.data_dir = dir.path().into();
        (dir, App::new(config, store).unwrap())
    }

    fn register(app: &App, user: u64) -> Registration {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let (user_id, token_id) = (UserId(user), TokenId(1));
        let identity = Identity { user_id, device_id: None, receives_for: None, token_id, address };
        app.hub.presence().register(identity, Some(ClientName::default()))
    }

    #[tokio::test]
    async fn first_frame_is_the_newest_and_later_ones_are_changes_alone() {
        let (_dir, app) = app();
        let mut all: Vec<_> = (0..1500).map(|n| register(&app, n % 2 + 1)).collect();
        let mut topic = ConnectionsTopic::new(ConnectionFilter::default());
        let first = topic.next(&app).unwrap();
        assert_eq!((first.reset, first.upsert.len(), first.remove.len(), first.total), (true, 1000, 0, 1500));
        assert_eq!((first.upsert[0].id, first.upsert[999].id), (ConnId(1500), ConnId(501)));
        assert!(topic.next(&app).is_none(), "nothing has changed");
        all.remove(0); // not in the list
        let other = topic.next(&app).unwrap();
        assert_eq!((other.upsert.len(), other.remove.len(), other.total, other.reset), (0, 0, 1499, false));
        let gone = all.pop().unwrap();
        let id = gone.connection.id;
        drop(gone);
        let frame = topic.next(&app).unwrap();
        assert_eq!(
            (frame.remove, frame.upsert[0].id, frame.upsert.len()),
            (vec![id], ConnId(500), 1),
            "the next one takes its place"
        );
        all.last().unwrap().connection.set_unproved(true);
        let frame = topic.next(&app).unwrap();
        assert_eq!((frame.upsert.len(), frame.upsert[0].proof), (1, Some("none")));
    }

    #[tokio::test]
    async fn many_changes_are_spread_over_frames_and_none_is_lost() {
        let (_dir, app) = app();
        let mut topic = ConnectionsTopic::new(ConnectionFilter::default());
        assert_eq!(topic.next(&app).unwrap().total, 0, "an empty list is told, too");
        let _all: Vec<_> = (0..600).map(|_| register(&app, 1)).collect();
        let (mut frames, mut listed) = (0, BTreeSet::new());
        while let Some(frame) = topic.next(&app) {
            assert!(frame.upsert.len() <= MAX_CHANGES && !frame.reset);
            listed.extend(frame.upsert.iter().map(|item| item.id));
            frames += 1;
        }
        assert_eq!((frames, listed.len()), (3, 600));
    }

    #[tokio::test]
    async fn filter_and_total_are_of_the_same_connections() {
        let (_dir, app) = app();
        let _all: Vec<_> = (0..10).map(|n| register(&app, n % 2 + 1)).collect();
        let filter = ConnectionFilter { user_id: Some(UserId(2)), ..ConnectionFilter::default() };
        let frame = ConnectionsTopic::new(filter).next(&app).unwrap();
        assert_eq!((frame.upsert.len(), frame.total), (5, 5));
        assert!(frame.upsert.iter().all(|item| item.user_id == UserId(2)));
    }

    #[test]
    fn activity_alone_is_a_change_only_after_a_while() {
        let at = |seconds: i64| Timestamp::from_unix_micros(seconds * 1_000_000);
        let shown = |lag, seconds| Shown { lag, is_unproved: false, last_activity: at(seconds) };
        assert_eq!(shown(0, 100).difference(shown(0, 129)), None);
        assert_eq!(shown(0, 100).difference(shown(0, 130)), Some(Difference::Activity));
        assert_eq!(shown(0, 100).difference(shown(3, 101)), Some(Difference::State));
    }
}
