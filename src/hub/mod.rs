//! Groups and presence. The only module that names tokio's broadcast channels.
//!
//! A group ([`Recipient`]) is a broadcast channel that is made for its first member and removed with its last. A publication is
//! one [`Announcement`] that all receivers share, its encoded form included. [`presence`] lists the live connections and defines
//! "online".
//!
//! # Invariants
//! - Publishing never waits: a member that falls more than the channel's capacity behind gets [`Lagged`] from its next read.
//!   Other members are not affected.
//! - The group map holds no group without members.
//! - No lock is held across an await, and none while members are woken.

#[cfg(feature = "cluster")]
mod elsewhere;
mod gates;
mod presence;
mod subscription;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::map::IdMap;
use crate::telemetry::metrics::GroupStats;
#[cfg(feature = "cluster")]
pub use elsewhere::{Elsewhere, Row, Rows};
pub use presence::{Connection, ConnectionFilter, Identity, OnlineUser, Presence, Registration};
use subscription::Member;
pub use subscription::Subscription;

/// A message for a group: a payload, the text of one JSON object.
#[derive(Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The group.
    pub recipient: Recipient,
    /// The id in the log; `None` for a live message, which is not stored.
    pub id: Option<MessageId>,
    payload: Bytes,
    encoded: OnceLock<Bytes>,
}

impl Announcement {
    /// A message of `recipient`'s group; `payload` is JSON text that holds the id, if there is one.
    pub fn new(recipient: Recipient, id: Option<MessageId>, payload: impl Into<Bytes>) -> Self {
        Self { recipient, id, payload: payload.into(), encoded: OnceLock::new() }
    }

    /// The JSON text.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the encoded form that all receivers share. The first receiver that needs it makes it with `encode`; all receivers
    /// must use the same encoding.
    pub fn encoded(&self, encode: impl FnOnce(&[u8]) -> Vec<u8>) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.payload).into())
    }
}

/// The member missed announcements: more were published than its channel or its batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fell behind the group's channel")]
pub struct Lagged;

/// The group of [`Hub::round_trip`]; ids of users count from 1, so that it is no user's.
const PROBE_GROUP: Recipient = Recipient::User(UserId::OPERATOR);

/// The members of a group.
struct Group {
    sender: Sender<Arc<Announcement>>,
    /// Those that only look on: nobody counts them.
    observers: usize,
}

impl Group {
    /// The number of members that count.
    fn members(&self) -> usize {
        self.sender.receiver_count().saturating_sub(self.observers)
    }
}

/// The groups and the live connections.
pub struct Hub {
    groups: Mutex<IdMap<Recipient, Group>>,
    channel_capacity: AtomicUsize,
    max_batch_bytes: AtomicUsize,
    lagged: AtomicU64,
    /// Receives the publications of all groups; it is no group itself and is counted as none.
    taps: Sender<Arc<Announcement>>,
    tap_count: AtomicUsize,
    presence: Arc<Presence>,
    /// Passes live messages on to other nodes.
    #[cfg(feature = "cluster")]
    outward: OnceLock<Outward>,
}

/// What passes live messages on to other nodes.
#[cfg(feature = "cluster")]
type Outward = Box<dyn Fn(&Announcement) + Send + Sync>;

/// The number of announcements that a tap may fall behind.
const TAP_CAPACITY: usize = 1024;

/// A receiver of the publications of all groups.
pub struct Tap {
    hub: Arc<Hub>,
    receiver: Receiver<Arc<Announcement>>,
}

impl Tap {
    /// Waits for the next announcement.
    ///
    /// # Errors
    /// [`Lagged`] when more was published than the tap's channel holds.
    pub async fn next(&mut self) -> Result<Arc<Announcement>, Lagged> {
        match self.receiver.recv().await {
            Ok(announcement) => Ok(announcement),
            Err(RecvError::Lagged(_)) => Err(Lagged),
            Err(RecvError::Closed) => std::future::pending().await, // the hub keeps the sender
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.hub.tap_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub whose channels hold `channel_capacity` announcements each (at least 1), and whose members receive up to
    /// `max_batch_bytes` of payloads at once.
    pub fn new(channel_capacity: usize, max_batch_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            groups: Mutex::default(),
            channel_capacity: AtomicUsize::new(channel_capacity.max(1)),
            max_batch_bytes: AtomicUsize::new(max_batch_bytes),
            lagged: AtomicU64::new(0),
            taps: Sender::new(TAP_CAPACITY),
            tap_count: AtomicUsize::new(0),
            presence: Arc::default(),
            #[cfg(feature = "cluster")]
            outward: OnceLock::new(),
        })
    }

    /// Sets what passes live messages on to other nodes; the first one counts.
    #[cfg(feature = "cluster")]
    pub fn set_outward(&self, pass_on: impl Fn(&Announcement) + Send + Sync + 'static) {
        let _ = self.outward.set(Box::new(pass_on)); // a node is in one cluster
    }

    /// The connections at other nodes.
    #[cfg(feature = "cluster")]
    pub fn elsewhere(&self) -> &Elsewhere {
        self.presence.elsewhere()
    }

    /// The number of connections at other nodes that messages to `group` are handed to.
    fn members_elsewhere(&self, group: Recipient) -> usize {
        #[cfg(feature = "cluster")]
        return self.elsewhere().members(group);
        #[cfg(not(feature = "cluster"))]
        {
            let _ = group;
            0
        }
    }

    /// Applies other limits; existing channels keep their capacity.
    pub fn reload(&self, channel_capacity: usize, max_batch_bytes: usize) {
        self.channel_capacity.store(channel_capacity.max(1), Ordering::Relaxed);
        self.max_batch_bytes.store(max_batch_bytes, Ordering::Relaxed);
    }

    /// The live connections.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// Joins the groups of a connection: the user's, the device's where there is one, and everybody's. An observer is not counted
    /// as a member.
    pub fn subscribe(self: &Arc<Self>, user: UserId, device: Option<DeviceId>, observer: bool) -> Subscription {
        let join = |group| self.join(group, observer);
        let device = device.map(|id| join(Recipient::Device(id)));
        Subscription::new(self.clone(), join(Recipient::User(user)), join(Recipient::All), device)
    }

    fn join(self: &Arc<Self>, group: Recipient, observer: bool) -> Member {
        let mut groups = self.groups.lock();
        let new = || Group { sender: Sender::new(self.channel_capacity.load(Ordering::Relaxed)), observers: 0 };
        let joined = groups.entry(group).or_insert_with(new);
        joined.observers += usize::from(observer);
        Member::new(self.clone(), group, observer, joined.sender.subscribe())
    }

    /// Ends a membership; the member's receiver still exists.
    fn leave(&self, group: Recipient, observer: bool) {
        let mut groups = self.groups.lock();
        // The receiver can't be dropped before this has returned, and nobody joins under the lock.
        let last = groups.get_mut(&group).is_some_and(|group| {
            group.observers -= usize::from(observer);
            group.sender.receiver_count() <= 1
        });
        if last {
            groups.remove(&group);
            if groups.capacity() > 64 && groups.capacity() > groups.len() * 4 {
                groups.shrink_to_fit();
            }
        }
    }

    fn count_lagged(&self) -> Lagged {
        self.lagged.fetch_add(1, Ordering::Relaxed);
        Lagged
    }

    /// The number of members of a group; on several nodes, of all of them.
    pub fn members(&self, group: Recipient) -> usize {
        self.groups.lock().get(&group).map_or(0, Group::members) + self.members_elsewhere(group)
    }

    /// Receives the publications of all groups.
    pub fn tap(self: &Arc<Self>) -> Tap {
        self.tap_count.fetch_add(1, Ordering::Relaxed);
        Tap { hub: self.clone(), receiver: self.taps.subscribe() }
    }

    /// Publishes a message that is not stored, also to other nodes, and returns the number of members.
    pub fn publish_live(&self, announcement: Arc<Announcement>) -> usize {
        #[cfg(feature = "cluster")]
        if let Some(pass_on) = self.outward.get() {
            pass_on(&announcement);
        }
        self.publish(announcement)
    }

    /// Publishes to every member of the announcement's group here, and returns the number of members, with those at other nodes.
    pub fn publish(&self, announcement: Arc<Announcement>) -> usize {
        let elsewhere = self.members_elsewhere(announcement.recipient);
        if self.tap_count.load(Ordering::Relaxed) > 0 && announcement.recipient != PROBE_GROUP {
            let _ = self.taps.send(announcement.clone()); // the last tap may have been dropped meanwhile
        }
        // The sender is cloned so that waking a large group happens outside the lock.
        let group = self.groups.lock().get(&announcement.recipient).map(|group| (group.sender.clone(), group.observers));
        group.map_or(0, |(sender, observers)| sender.send(announcement).unwrap_or(0).saturating_sub(observers)) + elsewhere
    }

    /// The number of groups.
    pub fn group_count(&self) -> usize {
        let groups = self.groups.lock();
        groups.len() - usize::from(groups.contains_key(&PROBE_GROUP))
    }

    /// Publishes to a group of its own in the way of all messages, and returns whether the announcement was received. Has no
    /// timeout.
    pub async fn round_trip(self: Arc<Self>) -> bool {
        let mut member = self.join(PROBE_GROUP, false);
        self.publish(Arc::new(Announcement::new(PROBE_GROUP, None, Bytes::from_static(b"{}"))));
        member.next().await.is_ok_and(|announcement| announcement.recipient == PROBE_GROUP)
    }

    /// The sizes of the users' groups, of the devices' groups and of the group of all, in this order. Blocks publishers while it
    /// counts: a few microseconds for a hundred groups.
    pub fn group_sizes(&self) -> [GroupStats; 3] {
        let mut sizes = [GroupStats::default(); 3];
        let groups = self.groups.lock();
        for (group, members) in groups.iter().filter(|(group, _)| **group != PROBE_GROUP) {
            let kind = match group {
                Recipient::User(_) => &mut sizes[0],
                Recipient::Device(_) => &mut sizes[1],
                Recipient::All => &mut sizes[2],
            };
            let members = members.members();
            kind.count += 1;
            kind.members += members;
            kind.largest = kind.largest.max(members);
        }
        sizes
    }

    /// The number of [`Lagged`] since the start.
    pub fn lagged_count(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(hub: &Hub, recipient: Recipient, text: &str) -> usize {
        hub.publish(Arc::new(Announcement::new(recipient, None, format!("\"{text}\""))))
    }

    #[tokio::test]
    async fn batch_over_the_byte_limit_counts_as_lagged() {
        let hub = Hub::new(64, 1000);
        let mut member = hub.subscribe(UserId(1), None, false);
        for _ in 0..3 {
            publish(&hub, Recipient::All, &"x".repeat(600));
        }
        assert_eq!(member.next_batch().await, Err(Lagged));
        publish(&hub, Recipient::All, &"x".repeat(5000));
        assert_eq!(member.next_batch().await.unwrap().len(), 1, "a single message may be larger");
    }

    #[tokio::test]
    async fn publication_reaches_the_members_of_its_group_only() {
        let hub = Hub::new(8, 1 << 20);
        let mut a = hub.subscribe(UserId(1), Some(DeviceId(5)), false);
        let mut b = hub.subscribe(UserId(2), None, false);
        assert_eq!(publish(&hub, Recipient::User(UserId(1)), "u"), 1);
        assert_eq!(publish(&hub, Recipient::Device(DeviceId(5)), "d"), 1);
        assert_eq!(publish(&hub, Recipient::User(UserId(3)), "x"), 0);
        assert_eq!(publish(&hub, Recipient::All, "all"), 2);
        let mut received: Vec<_> = a.next_batch().await.unwrap().iter().map(|a| a.payload().to_vec()).collect();
        received.sort();
        assert_eq!(received, [b"\"all\"".to_vec(), b"\"d\"".to_vec(), b"\"u\"".to_vec()]);
        let batch = b.next_batch().await.unwrap();
        assert_eq!((batch.len(), batch[0].payload()), (1, &Bytes::from_static(b"\"all\"")));
    }

    #[tokio::test]
    async fn batch_holds_everything_that_was_published() {
        let hub = Hub::new(64, 1 << 20);
        let mut groups = hub.subscribe(UserId(1), Some(DeviceId(1)), false);
        for n in 0..30 {
            let group = [Recipient::User(UserId(1)), Recipient::Device(DeviceId(1)), Recipient::All][n % 3];
            publish(&hub, group, &n.to_string());
        }
        assert_eq!(groups.next_batch().await.unwrap().len(), 30);
    }

    #[tokio::test]
    async fn group_exists_while_it_has_members() {
        let hub = Hub::new(8, 1 << 20);
        assert_eq!(hub.group_count(), 0);
        let first = hub.subscribe(UserId(1), None, false);
        let second = hub.subscribe(UserId(1), Some(DeviceId(1)), false);
        assert_eq!(hub.group_count(), 3);
        let sizes = hub.group_sizes().map(|kind| (kind.count, kind.members, kind.largest));
        assert_eq!(sizes, [(1, 2, 2), (1, 1, 1), (1, 2, 2)]);
        drop(second);
        assert_eq!(hub.group_count(), 2);
        drop(first);
        assert_eq!(hub.group_count(), 0);
    }

    #[tokio::test]
    async fn round_trip_is_received_and_leaves_no_group() {
        let hub = Hub::new(4, 1 << 20);
        let member = hub.join(PROBE_GROUP, false);
        assert_eq!(hub.group_count(), 0, "the probe's group is not counted");
        assert!(hub.clone().round_trip().await);
        drop(member);
        assert!(hub.groups.lock().is_empty());
    }

    #[tokio::test]
    async fn slow_member_lags_and_others_receive_everything() {
        let hub = Hub::new(4, 1 << 20);
        let mut slow = hub.subscribe(UserId(1), None, false);
        let mut quick = hub.subscribe(UserId(1), None, false);
        for n in 0..6 {
            publish(&hub, Recipient::User(UserId(1)), &n.to_string());
            assert_eq!(quick.next_batch().await.unwrap()[0].payload(), format!("\"{n}\"").as_bytes());
        }
        assert_eq!(slow.next_batch().await, Err(Lagged));
        assert_eq!(slow.next_batch().await.unwrap().len(), 4, "what the channel still holds");
        assert_eq!(hub.lagged_count(), 1);
    }
}
