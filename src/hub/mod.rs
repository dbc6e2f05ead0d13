//! The hub: who hears what, and who is here. The only module that names tokio's broadcast channels.
//!
//! A group ([`Recipient`]) is a broadcast channel that comes with its first member and goes with its last. What is published is encoded
//! once and shared by all receivers. [`presence`] lists the live connections, and is all there is of "online".
//!
//! # Invariants
//! - Publishing never waits: a member that falls more than the channel's size behind is told so ([`Lagged`]) at its next
//!   read. Nobody else notices.
//! - The group map holds no group without members.
//! - No lock is held across an await, and none while members are woken.

pub mod presence;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::telemetry::metrics::GroupStats;
pub use presence::{Connection, Presence};

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

/// This member missed something: more was published than its channel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fell behind the group's channel")]
pub struct Lagged;

/// A group of nobody's, for [`Hub::round_trip`]: ids count from 1.
const NOBODY: Recipient = Recipient::User(UserId::OPERATOR);

/// The groups and the live connections.
pub struct Hub {
    groups: Mutex<HashMap<Recipient, Sender<Arc<Announcement>>>>,
    buffer: AtomicUsize,
    bytes: AtomicUsize,
    lagged: AtomicU64,
    /// Hears whatever is published to anybody; of no group, and counted by none.
    taps: Sender<Arc<Announcement>>,
    tapped: AtomicUsize,
    presence: Presence,
}

/// How many announcements a tap may fall behind.
const TAP_BUFFER: usize = 1024;

/// Hears what is published to anybody.
pub struct Tap {
    hub: Arc<Hub>,
    receiver: Receiver<Arc<Announcement>>,
}

impl Tap {
    /// Waits for the next.
    ///
    /// # Errors
    /// [`Lagged`] when more was published than the tap's channel holds.
    pub async fn next(&mut self) -> Result<Arc<Announcement>, Lagged> {
        match self.receiver.recv().await {
            Ok(announced) => Ok(announced),
            Err(RecvError::Lagged(_)) => Err(Lagged),
            Err(RecvError::Closed) => std::future::pending().await, // the hub keeps the sender
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.hub.tapped.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub whose channels hold `buffer` messages each (at least 1), and whose members take `bytes` of them at once.
    pub fn new(buffer: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            groups: Mutex::default(),
            buffer: AtomicUsize::new(buffer.max(1)),
            bytes: AtomicUsize::new(bytes),
            lagged: AtomicU64::new(0),
            taps: Sender::new(TAP_BUFFER),
            tapped: AtomicUsize::new(0),
            presence: Presence::default(),
        })
    }

    /// From now on channels hold `buffer` messages, those that are there excepted, and members take `bytes` at once.
    pub fn reload(&self, buffer: usize, bytes: usize) {
        self.buffer.store(buffer.max(1), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The live connections.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Joins the groups of a connection: the user's, the device's where there is one, and everybody's.
    pub fn subscribe(self: &Arc<Self>, user: UserId, device: Option<DeviceId>) -> Subscription {
        Subscription {
            user: self.join(Recipient::User(user)),
            device: device.map(|id| self.join(Recipient::Device(id))),
            all: self.join(Recipient::All),
        }
    }

    fn join(self: &Arc<Self>, group: Recipient) -> Member {
        let mut groups = self.groups.lock();
        let sender = groups.entry(group).or_insert_with(|| Sender::new(self.buffer.load(Ordering::Relaxed)));
        Member { hub: self.clone(), group, receiver: sender.subscribe() }
    }

    /// Listens to everything.
    pub fn tap(self: &Arc<Self>) -> Tap {
        self.tapped.fetch_add(1, Ordering::Relaxed);
        Tap { hub: self.clone(), receiver: self.taps.subscribe() }
    }

    /// Hands `announced` to every member of its group and returns how many there are.
    pub fn publish(&self, announced: Arc<Announcement>) -> usize {
        if self.tapped.load(Ordering::Relaxed) > 0 && announced.recipient != NOBODY {
            let _ = self.taps.send(announced.clone()); // the last tap may have gone this moment
        }
        // The sender is cloned so that waking a large group happens outside the lock.
        let sender = self.groups.lock().get(&announced.recipient).cloned();
        sender.map_or(0, |sender| sender.send(announced).unwrap_or(0))
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        let groups = self.groups.lock();
        groups.len() - usize::from(groups.contains_key(&NOBODY))
    }

    /// Publishes to a group that only we are in, on the way that all messages take, and tells whether it was heard. Takes as
    /// long as that takes.
    pub async fn round_trip(self: Arc<Self>) -> bool {
        let mut member = self.join(NOBODY);
        self.publish(Arc::new(Announcement::new(NOBODY, None, Bytes::from_static(b"{}"))));
        member.next().await.is_ok_and(|heard| heard.recipient == NOBODY)
    }

    /// The groups of users, those of devices, and the one of all: how many, and with how many members. Holds publishers up while
    /// it counts, a few microseconds for a hundred groups.
    pub fn group_sizes(&self) -> [GroupStats; 3] {
        let mut sizes = [GroupStats::default(); 3];
        let groups = self.groups.lock();
        for (group, sender) in groups.iter().filter(|(group, _)| **group != NOBODY) {
            let kind = match group {
                Recipient::User(_) => &mut sizes[0],
                Recipient::Device(_) => &mut sizes[1],
                Recipient::All => &mut sizes[2],
            };
            let members = sender.receiver_count();
            kind.count += 1;
            kind.members += members;
            kind.largest = kind.largest.max(members);
        }
        sizes
    }

    /// How often a member has fallen behind since the start.
    pub fn lagged_count(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }
}

/// Membership of one group; leaving is dropping it.
struct Member {
    hub: Arc<Hub>,
    group: Recipient,
    receiver: Receiver<Arc<Announcement>>,
}

impl Member {
    async fn next(&mut self) -> Result<Arc<Announcement>, Lagged> {
        match self.receiver.recv().await {
            Ok(announcement) => Ok(announcement),
            Err(RecvError::Lagged(_)) => Err(self.behind()),
            // The hub's map keeps the sender for as long as this member exists.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    fn try_next(&mut self) -> Result<Option<Arc<Announcement>>, Lagged> {
        match self.receiver.try_recv() {
            Ok(announcement) => Ok(Some(announcement)),
            Err(TryRecvError::Lagged(_)) => Err(self.behind()),
            Err(TryRecvError::Empty | TryRecvError::Closed) => Ok(None),
        }
    }

    fn behind(&self) -> Lagged {
        self.hub.lagged.fetch_add(1, Ordering::Relaxed);
        Lagged
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut groups = self.hub.groups.lock();
        // Our own receiver still counts; it can't be dropped before this body ends, and nobody joins under the lock.
        if groups.get(&self.group).is_some_and(|sender| sender.receiver_count() <= 1) {
            groups.remove(&self.group);
            if groups.capacity() > 64 && groups.capacity() > groups.len() * 4 {
                groups.shrink_to_fit();
            }
        }
    }
}

/// How many announcements are gathered at most; beyond that the member counts as behind.
const GATHER: usize = 4096;

/// What one connection hears.
pub struct Subscription {
    user: Member,
    device: Option<Member>,
    all: Member,
}

impl Subscription {
    /// Waits for the next thing published to any of the groups and takes along all else that is there.
    ///
    /// All of it, because that is what makes the order total: announcements are published in id order, so when one has been
    /// taken, every earlier one is in some channel already. The caller sorts by id and has missed nothing in between.
    ///
    /// Owns the subscription while it waits and gives it back: so the caller can keep one future pinned in its `select!`
    /// instead of joining and leaving the channels' lists of waiters at every turn.
    pub async fn hear(mut self) -> (Self, Result<Vec<Arc<Announcement>>, Lagged>) {
        let heard = self.gather().await;
        (self, heard)
    }

    async fn gather(&mut self) -> Result<Vec<Arc<Announcement>>, Lagged> {
        let mut heard = vec![self.next().await?];
        let mut bytes = 0;
        while let Some(more) = self.try_next()? {
            // Whoever is gathered for keeps these messages alive: a slow reader must not own many that nobody shares any more.
            bytes += more.payload().len();
            if heard.len() == GATHER || bytes > self.user.hub.bytes.load(Ordering::Relaxed) {
                return Err(self.user.behind());
            }
            heard.push(more);
        }
        Ok(heard)
    }

    async fn next(&mut self) -> Result<Arc<Announcement>, Lagged> {
        match &mut self.device {
            None => tokio::select! { r = self.user.next() => r, r = self.all.next() => r },
            Some(device) => tokio::select! { r = self.user.next() => r, r = device.next() => r, r = self.all.next() => r },
        }
    }

    fn try_next(&mut self) -> Result<Option<Arc<Announcement>>, Lagged> {
        if let Some(announcement) = self.user.try_next()? {
            return Ok(Some(announcement));
        }
        if let Some(device) = &mut self.device
            && let Some(announcement) = device.try_next()?
        {
            return Ok(Some(announcement));
        }
        self.all.try_next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(hub: &Hub, recipient: Recipient, text: &str) -> usize {
        hub.publish(Arc::new(Announcement::new(recipient, None, format!("\"{text}\""))))
    }

    #[tokio::test]
    async fn much_at_once_counts_as_being_behind() {
        let hub = Hub::new(64, 1000);
        let member = hub.subscribe(UserId(1), None);
        for _ in 0..3 {
            publish(&hub, Recipient::All, &"x".repeat(600));
        }
        let (member, heard) = member.hear().await;
        assert_eq!(heard, Err(Lagged));
        publish(&hub, Recipient::All, &"x".repeat(5000));
        assert_eq!(member.hear().await.1.unwrap().len(), 1, "one alone may be larger");
    }

    #[tokio::test]
    async fn each_group_reaches_its_members_only() {
        let hub = Hub::new(8, 1 << 20);
        let mut a = hub.subscribe(UserId(1), Some(DeviceId(5)));
        let mut b = hub.subscribe(UserId(2), None);
        assert_eq!(publish(&hub, Recipient::User(UserId(1)), "u"), 1);
        assert_eq!(publish(&hub, Recipient::Device(DeviceId(5)), "d"), 1);
        assert_eq!(publish(&hub, Recipient::User(UserId(3)), "x"), 0);
        assert_eq!(publish(&hub, Recipient::All, "all"), 2);
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(a.next().await.unwrap().payload().to_vec());
        }
        heard.sort();
        assert_eq!(heard, [b"\"all\"".to_vec(), b"\"d\"".to_vec(), b"\"u\"".to_vec()]);
        assert_eq!(b.next().await.unwrap().payload(), &b"\"all\""[..]);
        assert_eq!(b.try_next(), Ok(None));
    }

    #[tokio::test]
    async fn everything_there_is_gathered() {
        let hub = Hub::new(64, 1 << 20);
        let groups = hub.subscribe(UserId(1), Some(DeviceId(1)));
        for n in 0..30 {
            let group = [Recipient::User(UserId(1)), Recipient::Device(DeviceId(1)), Recipient::All][n % 3];
            publish(&hub, group, &n.to_string());
        }
        let (_groups, heard) = groups.hear().await;
        assert_eq!(heard.unwrap().len(), 30);
    }

    #[tokio::test]
    async fn groups_come_and_go_with_their_members() {
        let hub = Hub::new(8, 1 << 20);
        assert_eq!(hub.group_count(), 0);
        let first = hub.subscribe(UserId(1), None);
        let second = hub.subscribe(UserId(1), Some(DeviceId(1)));
        assert_eq!(hub.group_count(), 3);
        let sizes = hub.group_sizes().map(|kind| (kind.count, kind.members, kind.largest));
        assert_eq!(sizes, [(1, 2, 2), (1, 1, 1), (1, 2, 2)]);
        drop(second);
        assert_eq!(hub.group_count(), 2);
        drop(first);
        assert_eq!(hub.group_count(), 0);
    }

    #[tokio::test]
    async fn a_round_trip_is_heard_and_leaves_nothing() {
        let hub = Hub::new(4, 1 << 20);
        let member = hub.join(NOBODY);
        assert_eq!(hub.group_count(), 0, "nobody's group does not count");
        assert!(hub.clone().round_trip().await);
        drop(member);
        assert!(hub.groups.lock().is_empty());
    }

    #[tokio::test]
    async fn a_slow_member_is_told_and_others_are_not_disturbed() {
        let hub = Hub::new(4, 1 << 20);
        let mut slow = hub.subscribe(UserId(1), None);
        let mut quick = hub.subscribe(UserId(1), None);
        for n in 0..6 {
            publish(&hub, Recipient::User(UserId(1)), &n.to_string());
            assert_eq!(quick.next().await.unwrap().payload(), format!("\"{n}\"").as_bytes());
        }
        assert_eq!(slow.next().await, Err(Lagged));
        assert_eq!(hub.lagged_count(), 1);
    }
}
