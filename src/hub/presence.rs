//! The live connections: derived from live sessions, never stored.
//!
//! A [`Connection`] is listed from the moment its session starts until its [`Registration`] is dropped, however the session ends.
//! It is also the handle by which other modules end that session.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use serde::Deserialize;
#[cfg(feature = "cluster")]
use tokio::sync::Notify;

#[cfg(feature = "cluster")]
use super::elsewhere::{Elsewhere, Row, Rows};
use crate::config::Network;
use crate::core::client::ClientName;
use crate::core::ids::{ConnId, DeviceId, Recipient, TokenId, UserId};
use crate::core::map::IdMap;
use crate::core::time::Timestamp;
use crate::wire::CloseCode;

/// The most connections that are looked at under one lock.
const PART_CONNECTIONS: usize = 256;

/// The identity of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The token's user.
    pub user_id: UserId,
    /// The device that it stands for, if any.
    pub device_id: Option<DeviceId>,
    /// The device whose messages it receives: `None` where the device that it stands for has a token of its own.
    pub receives_for: Option<DeviceId>,
    /// The credential's record.
    pub token_id: TokenId,
    /// The client's address, as far as the server can tell.
    pub address: IpAddr,
}

/// One live connection.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this run of the server.
    pub id: ConnId,
    /// The user, the device and the credential.
    pub identity: Identity,
    /// The reader that it is; `None` for one that only looks on, which is not presence.
    pub reader: Option<ClientName>,
    /// The start of the session.
    pub since: Timestamp,
    opened: Instant,
    /// The last activity, in milliseconds after `opened`.
    active: AtomicU64,
    unproved: AtomicBool,
    /// It reads its device's mailbox no longer.
    left_device: AtomicBool,
    close: OnceLock<CloseCode>,
    /// The task of the connection.
    task: AtomicWaker,
    /// The id up to which it has taken over queued messages to be written: its place in the log, which moves it.
    position: Arc<AtomicU64>,
}

impl Connection {
    /// Notes activity of the client at `now`.
    #[inline]
    pub fn note_activity(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened).as_millis();
        self.active.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Notes that the server has slept for `slept` until `now`: it has heard nothing, whatever the client has sent.
    pub fn note_sleep(&self, slept: Duration, now: Instant) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let latest = millis(now.saturating_duration_since(self.opened));
        let active = self.active.load(Ordering::Relaxed).saturating_add(millis(slept));
        self.active.store(active.min(latest), Ordering::Relaxed);
    }

    /// The time without activity until `now`.
    pub fn silence(&self, now: Instant) -> Duration {
        let active = Duration::from_millis(self.active.load(Ordering::Relaxed));
        now.saturating_duration_since(self.opened).saturating_sub(active)
    }

    /// The time of the last activity.
    pub fn last_activity(&self) -> Timestamp {
        Timestamp::now().minus(self.silence(Instant::now()))
    }

    /// Notes that the client's pings go unanswered while messages are in flight, or that it has proved something. Returns the
    /// former note.
    pub fn set_unproved(&self, unproved: bool) -> bool {
        self.unproved.swap(unproved, Ordering::Relaxed)
    }

    /// Returns whether nothing is proved although messages are in flight.
    pub fn unproved(&self) -> bool {
        self.unproved.load(Ordering::Relaxed)
    }

    /// The id up to which it has taken over queued messages to be written; shared with its place in the log.
    pub fn position(&self) -> &Arc<AtomicU64> {
        &self.position
    }

    /// Notes that it reads its device's mailbox no longer.
    pub fn note_left_device(&self) {
        self.left_device.store(true, Ordering::Relaxed);
    }

    /// The mailboxes that it reads.
    pub fn mailboxes(&self) -> impl Iterator<Item = Recipient> + use<> {
        let device = self.identity.receives_for.filter(|_| !self.left_device.load(Ordering::Relaxed));
        [Recipient::User(self.identity.user_id), Recipient::All].into_iter().chain(device.map(Recipient::Device))
    }

    /// Requests the end of the session with `code`; the first request decides the code.
    pub fn close(&self, code: CloseCode) {
        let _ = self.close.set(code);
        self.task.wake();
    }

    /// The code of the first [`close`](Self::close), if there was one.
    #[inline]
    pub fn close_code(&self) -> Option<CloseCode> {
        self.close.get().copied()
    }

    /// Has `waker` woken by [`close`](Self::close): only the last one that was given.
    pub fn wake_on_close(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Waits for the first [`close`](Self::close) and returns its code. Only one task may wait.
    pub async fn closing(&self) -> CloseCode {
        poll_fn(|cx| {
            self.wake_on_close(cx.waker());
            self.close_code().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The connections that somebody asks for; a field that is absent selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionFilter {
    /// Those of this user.
    pub user_id: Option<UserId>,
    /// Those that stand for this device.
    pub device_id: Option<DeviceId>,
    /// Those that are this reader.
    pub client: Option<String>,
    /// Those from this address or network.
    pub address: Option<Network>,
}

impl ConnectionFilter {
    /// Returns whether it selects all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether it selects `connection`.
    pub fn matches(&self, connection: &Connection) -> bool {
        let identity = &connection.identity;
        self.user_id.is_none_or(|user| identity.user_id == user)
            && self.device_id.is_none_or(|device| identity.device_id == Some(device))
            && self.client.as_deref().is_none_or(|name| connection.reader.as_ref().is_some_and(|reader| reader.as_str() == name))
            && self.address.is_none_or(|network| network.contains(identity.address))
    }
}

/// A user with at least one live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineUser {
    /// The user.
    pub user_id: UserId,
    /// The number of connections, at least 1.
    pub connections: usize,
    /// The start of the oldest of them.
    pub since: Timestamp,
    /// The time of the last activity on any of them.
    pub last_activity: Timestamp,
}

#[cfg(feature = "cluster")]
impl OnlineUser {
    /// Adds the connections of the same user at another node.
    pub(super) fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.since = self.since.min(other.since);
        self.last_activity = self.last_activity.max(other.last_activity);
    }
}

#[derive(Debug, Default)]
struct Lists {
    all: BTreeMap<ConnId, Arc<Connection>>,
    users: BTreeMap<UserId, Vec<ConnId>>,
    devices: IdMap<DeviceId, usize>,
    /// The connections that only look on.
    lookers: BTreeSet<ConnId>,
    /// The devices that have come online since they were last taken.
    seen: BTreeSet<DeviceId>,
    last_id: u64,
}

/// The live connections.
#[derive(Debug, Default)]
pub struct Presence {
    lists: Mutex<Lists>,
    /// The connections at other nodes.
    #[cfg(feature = "cluster")]
    elsewhere: Elsewhere,
    /// Signalled with every connection that comes or goes.
    #[cfg(feature = "cluster")]
    changed: Notify,
}

impl Presence {
    fn lists(&self) -> parking_lot::MutexGuard<'_, Lists> {
        self.lists.lock()
    }

    /// The connections at other nodes.
    #[cfg(feature = "cluster")]
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }

    /// Waits until a connection has come or gone since the last call. Only one task may wait.
    #[cfg(feature = "cluster")]
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The connections here, for other nodes.
    #[cfg(feature = "cluster")]
    pub fn rows(&self) -> Rows {
        self.lists().all.iter().map(|(id, connection)| (*id, Row::of(connection))).collect()
    }

    /// Notes that a connection has come or gone; under the lock of the lists.
    fn note_change(&self) {
        #[cfg(feature = "cluster")]
        self.changed.notify_one();
    }

    /// Lists a connection until the registration is dropped.
    pub fn register(self: &Arc<Self>, identity: Identity, reader: Option<ClientName>) -> Registration {
        let mut lists = self.lists();
        lists.last_id += 1;
        let connection = Arc::new(Connection {
            id: ConnId(lists.last_id),
            identity,
            reader,
            since: Timestamp::now(),
            opened: Instant::now(),
            active: AtomicU64::new(0),
            unproved: AtomicBool::new(false),
            left_device: AtomicBool::new(false),
            close: OnceLock::new(),
            task: AtomicWaker::new(),
            position: Arc::default(),
        });
        lists.all.insert(connection.id, connection.clone());
        lists.users.entry(identity.user_id).or_default().push(connection.id);
        if let Some(device) = identity.receives_for
            && connection.reader.is_some()
        {
            *lists.devices.entry(device).or_default() += 1;
            lists.seen.insert(device);
        }
        if connection.reader.is_none() {
            lists.lookers.insert(connection.id);
        }
        self.note_change();
        Registration { presence: self.clone(), connection }
    }

    fn remove(&self, connection: &Connection) {
        let mut lists = self.lists();
        self.note_change();
        lists.all.remove(&connection.id);
        lists.lookers.remove(&connection.id);
        let user = connection.identity.user_id;
        if let Some(ids) = lists.users.get_mut(&user) {
            ids.retain(|&id| id != connection.id);
            if ids.is_empty() {
                lists.users.remove(&user);
            }
        }
        if let Some(device) = connection.identity.receives_for
            && connection.reader.is_some()
            && let Some(count) = lists.devices.get_mut(&device)
        {
            *count -= 1;
            if *count == 0 {
                lists.devices.remove(&device);
            }
        }
    }

    /// The number of connections.
    pub fn count(&self) -> usize {
        self.lists().all.len()
    }

    /// The numbers of users that are online, and of devices.
    pub fn online_counts(&self) -> (usize, usize) {
        #[cfg(feature = "cluster")]
        if !self.elsewhere.is_empty() {
            let (mut users, mut devices) = self.elsewhere.online();
            let lists = self.lists();
            let readers = lists.all.values().filter(|connection| connection.reader.is_some());
            users.extend(readers.map(|connection| connection.identity.user_id));
            devices.extend(lists.devices.keys());
            let (users, devices): (BTreeSet<_>, BTreeSet<_>) = (users.into_iter().collect(), devices.into_iter().collect());
            return (users.len(), devices.len());
        }
        let lists = self.lists();
        let reads = |id: &ConnId| !lists.lookers.contains(id);
        let looking = lists.lookers.iter().filter_map(|id| lists.all.get(id)).map(|connection| connection.identity.user_id);
        let only_looking = looking.filter(|user| lists.users.get(user).is_some_and(|ids| !ids.iter().any(reads)));
        let only_looking: BTreeSet<_> = only_looking.collect();
        (lists.users.len() - only_looking.len(), lists.devices.len())
    }

    /// Returns the devices that have been online since the last call.
    pub fn take_seen_devices(&self) -> Vec<DeviceId> {
        let mut lists = self.lists();
        let mut seen = std::mem::take(&mut lists.seen);
        seen.extend(lists.devices.keys());
        seen.into_iter().collect()
    }

    /// Returns whether `device` is online, or was since the devices were last [taken](Self::take_seen_devices).
    pub fn device_seen(&self, device: DeviceId) -> bool {
        let lists = self.lists();
        lists.devices.contains_key(&device) || lists.seen.contains(&device)
    }

    /// Returns whether any connection receives the messages for `device`.
    pub fn device_online(&self, device: DeviceId) -> bool {
        #[cfg(feature = "cluster")]
        if self.elsewhere.members(Recipient::Device(device)) > 0 {
            return true;
        }
        self.lists().devices.contains_key(&device)
    }

    /// The readers of a user that are connected.
    pub fn readers_of(&self, user: UserId) -> BTreeSet<ClientName> {
        let of_user = self.of_user(user);
        let readers = of_user.iter().filter_map(|connection| connection.reader.clone());
        #[cfg(feature = "cluster")]
        let readers = readers.chain(self.elsewhere.readers_of(user));
        readers.collect()
    }

    /// Up to `limit` connections with an id above `after`, and whether more follow.
    pub fn connections(&self, after: ConnId, limit: usize) -> (Vec<Arc<Connection>>, bool) {
        let lists = self.lists();
        let mut found = lists.all.range(ConnId(after.0.saturating_add(1))..).map(|(_, c)| c.clone());
        let page = found.by_ref().take(limit).collect();
        (page, found.next().is_some())
    }

    /// The connection with that id.
    pub fn connection(&self, id: ConnId) -> Option<Arc<Connection>> {
        self.lists().all.get(&id).cloned()
    }

    /// Up to `limit` connections with an id above `after` that `filter` selects, and whether more follow. Looks at a part of the list at
    /// a time: connections that come and go don't wait for the whole of it.
    pub fn select(&self, after: ConnId, limit: usize, filter: &ConnectionFilter) -> (Vec<Arc<Connection>>, bool) {
        let (mut found, mut at) = (Vec::new(), after);
        loop {
            let (part, more) = self.connections(at, PART_CONNECTIONS);
            let Some(last) = part.last() else { return (found, false) };
            at = last.id;
            for connection in part.into_iter().filter(|connection| filter.matches(connection)) {
                if found.len() == limit {
                    return (found, true);
                }
                found.push(connection);
            }
            if !more {
                return (found, false);
            }
        }
    }

    /// Up to `limit` connections that `filter` selects, the newest first; and the number of all that it selects. Looks at a part of the
    /// list at a time, as [`select`](Self::select) does.
    pub fn newest(&self, limit: usize, filter: &ConnectionFilter) -> (Vec<Arc<Connection>>, usize) {
        let (mut found, mut total, mut before) = (Vec::new(), 0, ConnId(u64::MAX));
        if let Some(user) = filter.user_id {
            let mut of_user = self.of_user(user);
            of_user.retain(|connection| filter.matches(connection));
            total = of_user.len();
            of_user.sort_unstable_by_key(|connection| std::cmp::Reverse(connection.id));
            of_user.truncate(limit);
            return (of_user, total);
        }
        loop {
            if filter.is_empty() && found.len() >= limit {
                return (found, self.count());
            }
            let part: Vec<_> = {
                let lists = self.lists();
                lists.all.range(..before).rev().take(PART_CONNECTIONS).map(|(_, connection)| connection.clone()).collect()
            };
            let Some(last) = part.last() else { return (found, total) };
            before = last.id;
            for connection in part.into_iter().filter(|connection| filter.matches(connection)) {
                total += 1;
                if found.len() < limit {
                    found.push(connection);
                }
            }
        }
    }

    /// Up to `limit` online users with an id above `after`. Of connections at other nodes, the last activity is not known: their start
    /// counts.
    pub fn online_users(&self, after: UserId, limit: usize) -> Vec<OnlineUser> {
        let here = self.online_users_here(after, limit);
        #[cfg(feature = "cluster")]
        if !self.elsewhere.is_empty() {
            let mut all: BTreeMap<UserId, OnlineUser> = here.into_iter().map(|user| (user.user_id, user)).collect();
            for user in self.elsewhere.online_users(after, limit) {
                all.entry(user.user_id).and_modify(|known| known.merge(&user)).or_insert(user);
            }
            return all.into_values().take(limit).collect();
        }
        here
    }

    fn online_users_here(&self, after: UserId, limit: usize) -> Vec<OnlineUser> {
        let lists = self.lists();
        let users = lists.users.range((Bound::Excluded(after), Bound::Unbounded));
        let online = users.filter_map(|(&user_id, ids)| {
            let all = || ids.iter().filter_map(|id| lists.all.get(id)).filter(|c| c.reader.is_some());
            let since = all().map(|c| c.since).min()?;
            let last_activity = all().map(|c| c.last_activity()).max()?;
            Some(OnlineUser { user_id, connections: all().count(), since, last_activity })
        });
        online.take(limit).collect()
    }

    /// Closes every connection that `which` selects, and returns their number.
    pub fn close_where(&self, code: CloseCode, which: impl Fn(&Identity) -> bool) -> usize {
        let selected: Vec<_> = self.lists().all.values().filter(|c| which(&c.identity)).cloned().collect();
        for connection in &selected {
            connection.close(code);
        }
        selected.len()
    }

    /// The readers with a live connection, each once.
    pub fn readers(&self) -> Vec<(UserId, ClientName)> {
        let lists = self.lists();
        let readers = lists.all.values().filter_map(|c| Some((c.identity.user_id, c.reader.clone()?)));
        let readers: BTreeSet<_> = readers.collect();
        readers.into_iter().collect()
    }

    /// The connections of one user.
    pub fn of_user(&self, user: UserId) -> Vec<Arc<Connection>> {
        let lists = self.lists();
        lists.users.get(&user).into_iter().flatten().filter_map(|id| lists.all.get(id)).cloned().collect()
    }
}

/// The listing of one connection; ends when dropped.
#[derive(Debug)]
pub struct Registration {
    presence: Arc<Presence>,
    /// The connection.
    pub connection: Arc<Connection>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.presence.remove(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: u64, device: Option<u64>) -> Identity {
        Identity {
            user_id: UserId(user),
            device_id: device.map(DeviceId),
            receives_for: device.map(DeviceId),
            token_id: TokenId(user * 10),
            address: IpAddr::from([127, 0, 0, 1]),
        }
    }

    #[tokio::test]
    async fn lists_follow_the_registrations() {
        let presence = Arc::new(Presence::default());
        let a = presence.register(identity(1, Some(9)), Some(ClientName::default()));
        let b = presence.register(identity(1, Some(9)), Some(ClientName::default()));
        let c = presence.register(identity(2, None), Some(ClientName::default()));
        assert_eq!(presence.count(), 3);
        let users = presence.online_users(UserId(0), 1);
        assert_eq!((users.len(), users[0].user_id, users[0].connections), (1, UserId(1), 2));
        assert_eq!(presence.connections(a.connection.id, 10).0.len(), 2);
        drop(a);
        assert!(presence.device_online(DeviceId(9)));
        drop(b);
        assert!(!presence.device_online(DeviceId(9)));
        drop(c);
        assert_eq!(presence.count(), 0);
        assert_eq!(presence.online_users(UserId(0), 10), vec![]);
    }

    #[test]
    fn online_users_and_devices_are_counted_without_those_that_look_on() {
        let presence = Arc::new(Presence::default());
        let reader = || Some(ClientName::default());
        let _ana = presence.register(identity(1, None), reader());
        let _ana_looks = presence.register(identity(1, None), None);
        let bob_looks = presence.register(identity(2, Some(7)), None);
        assert_eq!(presence.online_counts(), (1, 0));
        let bob = presence.register(identity(2, Some(8)), reader());
        assert_eq!(presence.online_counts(), (2, 1));
        drop(bob);
        assert_eq!(presence.online_counts(), (1, 0));
        assert_eq!(presence.take_seen_devices(), [DeviceId(8)], "it was online");
        assert_eq!(presence.take_seen_devices(), []);
        drop(bob_looks);
        assert_eq!((presence.online_counts(), presence.count()), ((1, 0), 2));
    }

    #[test]
    fn filter_selects_across_the_parts_of_a_long_list() {
        let presence = Arc::new(Presence::default());
        let reader = || Some(ClientName::default());
        let all: Vec<_> = (0..3 * PART_CONNECTIONS as u64).map(|n| presence.register(identity(n % 3, None), reader())).collect();
        let of = |user| ConnectionFilter { user_id: Some(UserId(user)), ..ConnectionFilter::default() };
        let by_name = ConnectionFilter { client: Some("default".into()), ..ConnectionFilter::default() };
        let (page, more) = presence.select(ConnId(0), PART_CONNECTIONS - 1, &of(1));
        assert!(more && page.len() == PART_CONNECTIONS - 1 && page.iter().all(|c| c.identity.user_id == UserId(1)));
        let (rest, more) = presence.select(page.last().unwrap().id, 10, &of(1));
        assert_eq!((rest.len(), more), (1, false));
        let (newest, total) = presence.newest(2, &of(2));
        assert_eq!((newest[0].id, newest[1].id, total), (ConnId(768), ConnId(765), PART_CONNECTIONS));
        for filter in [ConnectionFilter::default(), by_name] {
            let (newest, total) = presence.newest(300, &filter);
            assert_eq!((newest.len(), newest[0].id, newest[299].id, total), (300, ConnId(768), ConnId(469), 768));
            assert_eq!(presence.newest(1000, &filter).0.len(), 768);
        }
        let other = ConnectionFilter { client: Some("x".into()), ..ConnectionFilter::default() };
        assert!(presence.newest(5, &other).0.is_empty() && !presence.select(ConnId(0), 5, &other).1);
        drop(all);
    }

    #[tokio::test]
    async fn first_close_decides_the_code_before_anyone_waits() {
        let presence = Arc::new(Presence::default());
        let a = presence.register(identity(1, None), Some(ClientName::default()));
        let b = presence.register(identity(1, None), Some(ClientName::default()));
        for connection in presence.of_user(UserId(1)) {
            connection.close(CloseCode::Unauthorized);
        }
        assert_eq!(presence.close_where(CloseCode::GoingAway, |_| true), 2);
        assert_eq!(a.connection.closing().await, CloseCode::Unauthorized);
        assert_eq!(b.connection.closing().await, CloseCode::Unauthorized);
    }

    #[test]
    fn silence_counts_from_the_last_activity() {
        let presence = Arc::new(Presence::default());
        let registration = presence.register(identity(1, None), Some(ClientName::default()));
        let start = Instant::now();
        registration.connection.note_activity(start + Duration::from_secs(5));
        let silence = registration.connection.silence(start + Duration::from_secs(7));
        assert!(silence >= Duration::from_millis(1900) && silence <= Duration::from_millis(2100), "{silence:?}");
    }
}
