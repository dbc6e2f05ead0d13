//! The live connections at other nodes of a cluster, as those have told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::presence::{Connection, OnlineUser};
use crate::core::client::ClientName;
use crate::core::ids::{ConnId, DeviceId, Recipient, UserId};
use crate::core::map::IdMap;
use crate::core::time::Timestamp;

/// A live connection, as far as others depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The user.
    pub user: UserId,
    /// The device whose messages it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The reader that it is; `None` for one that only looks on, which is not presence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<ClientName>,
    /// The start of the session.
    pub since: Timestamp,
}

impl Row {
    /// That of a connection.
    pub fn of(connection: &Connection) -> Self {
        let identity = &connection.identity;
        Self {
            user: identity.user_id,
            device: identity.receives_for.filter(|_| connection.reader.is_some()),
            reader: connection.reader.clone(),
            since: connection.since,
        }
    }
}

/// The rows of a node, by the ids of its connections.
pub type Rows = BTreeMap<ConnId, Row>;

#[derive(Debug, Default)]
struct Lists {
    /// By the names of nodes.
    nodes: BTreeMap<String, Rows>,
    /// The connections that are readers: of each user and each device, and in all.
    users: BTreeMap<UserId, usize>,
    devices: IdMap<DeviceId, usize>,
    readers: usize,
}

impl Lists {
    fn count(&mut self, row: &Row, add: bool) {
        if row.reader.is_none() {
            return;
        }
        let change = |count: &mut usize| {
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            *count == 0
        };
        change(&mut self.readers);
        if change(self.users.entry(row.user).or_default()) {
            self.users.remove(&row.user);
        }
        if let Some(device) = row.device
            && change(self.devices.entry(device).or_default())
        {
            self.devices.remove(&device);
        }
    }
}

/// The live connections at other nodes.
#[derive(Debug, Default)]
pub struct Elsewhere {
    lists: Mutex<Lists>,
    /// Unset while no reader is elsewhere, as on one machine: nobody waits for the lists then.
    has_any: AtomicBool,
}

impl Elsewhere {
    /// Replaces the rows of a node by others.
    pub fn set(&self, node: &str, rows: Rows) {
        let mut lists = self.lists.lock();
        let before = lists.nodes.remove(node).unwrap_or_default();
        before.values().for_each(|row| lists.count(row, false));
        rows.values().for_each(|row| lists.count(row, true));
        if !rows.is_empty() {
            lists.nodes.insert(node.to_owned(), rows);
        }
        self.has_any.store(lists.readers > 0, Ordering::Release);
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.has_any.load(Ordering::Acquire)
    }

    /// Adds and removes rows of a node; returns the number of its rows then.
    pub fn change(&self, node: &str, joined: Vec<(ConnId, Row)>, left: &[ConnId]) -> usize {
        let mut lists = self.lists.lock();
        let mut rows = lists.nodes.remove(node).unwrap_or_default();
        for id in left {
            if let Some(row) = rows.remove(id) {
                lists.count(&row, false);
            }
        }
        for (id, row) in joined {
            lists.count(&row, true);
            if let Some(before) = rows.insert(id, row) {
                lists.count(&before, false);
            }
        }
        let count = rows.len();
        lists.nodes.insert(node.to_owned(), rows);
        self.has_any.store(lists.readers > 0, Ordering::Release);
        count
    }

    /// The number of connections that a message to `group` is handed to.
    pub fn members(&self, group: Recipient) -> usize {
        if self.is_empty() {
            return 0;
        }
        let lists = self.lists.lock();
        match group {
            Recipient::User(user) => lists.users.get(&user).copied().unwrap_or(0),
            Recipient::Device(device) => lists.devices.get(&device).copied().unwrap_or(0),
            Recipient::All => lists.readers,
        }
    }

    /// The users and the devices that are online.
    pub fn online(&self) -> (Vec<UserId>, Vec<DeviceId>) {
        let lists = self.lists.lock();
        (lists.users.keys().copied().collect(), lists.devices.keys().copied().collect())
    }

    /// Up to `limit` online users with an id above `after`.
    pub fn online_users(&self, after: UserId, limit: usize) -> Vec<OnlineUser> {
        let lists = self.lists.lock();
        let chosen: Vec<UserId> = lists.users.keys().copied().filter(|user| *user > after).take(limit).collect();
        let mut found: BTreeMap<UserId, OnlineUser> = BTreeMap::new();
        for row in lists.nodes.values().flat_map(BTreeMap::values).filter(|row| row.reader.is_some()) {
            if chosen.binary_search(&row.user).is_err() {
                continue;
            }
            let new = OnlineUser { user_id: row.user, connections: 1, since: row.since, last_activity: row.since };
            found.entry(row.user).and_modify(|user| user.merge(&new)).or_insert(new);
        }
        found.into_values().collect()
    }

    /// The readers of a user that are connected.
    pub fn readers_of(&self, user: UserId) -> Vec<ClientName> {
        let lists = self.lists.lock();
        let rows = lists.nodes.values().flat_map(BTreeMap::values).filter(|row| row.user == user);
        rows.filter_map(|row| row.reader.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: u64, device: Option<u64>, reads: bool) -> Row {
        let reader = reads.then(ClientName::default);
        Row { user: UserId(user), device: device.map(DeviceId), reader, since: Timestamp::EPOCH }
    }

    fn members(elsewhere: &Elsewhere) -> [usize; 4] {
        let groups = [Recipient::User(UserId(1)), Recipient::User(UserId(2)), Recipient::Device(DeviceId(5)), Recipient::All];
        groups.map(|group| elsewhere.members(group))
    }

    #[test]
    fn rows_are_counted_by_user_and_device_and_forgotten_with_their_node() {
        let elsewhere = Elsewhere::default();
        let rows = [(1, row(1, None, true)), (2, row(2, Some(5), true)), (3, row(1, None, false))];
        elsewhere.set("a", rows.into_iter().map(|(id, row)| (ConnId(id), row)).collect());
        assert_eq!(members(&elsewhere), [1, 1, 1, 2], "one that only looks on is none");
        assert_eq!(elsewhere.change("b", vec![(ConnId(1), row(1, Some(5), true))], &[]), 1);
        assert_eq!(members(&elsewhere), [2, 1, 2, 3]);
        // Another row under the same id, and one that is not there.
        assert_eq!(elsewhere.change("b", vec![(ConnId(1), row(2, None, true))], &[ConnId(9)]), 1);
        assert_eq!(members(&elsewhere), [1, 2, 1, 3]);
        let users: Vec<(u64, usize)> =
            elsewhere.online_users(UserId(0), 9).iter().map(|user| (user.user_id.0, user.connections)).collect();
        assert_eq!(users, [(1, 1), (2, 2)]);
        assert_eq!(elsewhere.online_users(UserId(0), 1).len(), 1);
        elsewhere.set("a", Rows::new());
        assert_eq!(elsewhere.change("b", Vec::new(), &[ConnId(1)]), 0);
        assert_eq!(members(&elsewhere), [0; 4]);
        assert_eq!(elsewhere.online(), (vec![], vec![]));
    }
}
