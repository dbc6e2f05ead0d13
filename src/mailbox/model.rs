//! The mailbox against a model: whatever happens in whatever order, the messages read are those that a plain list would give.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::change::{CreateDevice, CreateUser, DeleteUser, Outcome, Probe};
use crate::core::ids::DeviceId;
use crate::store::{Authority, NewDevice, NewUser, Role, User};
use crate::wire::JsonObject;

/// The bound of a mailbox in these tests.
const MAX_MESSAGES: usize = 12;
/// The received messages that are kept.
const MAX_HISTORY: usize = 3;
/// The clients that the first user reads with; the second user has the first of them.
const CLIENTS: [&str; 3] = ["default", "phone", "tablet"];

/// An event of a test.
#[derive(Debug, Clone)]
enum Step {
    /// A message to recipient `to` (0 and 1: users, 2: the first user's device, 3: everybody), living so many seconds.
    Send { to: usize, size: usize, ttl: u64, privileged: bool },
    /// A client of user `who` connects, reads everything, and acknowledges so many of the messages.
    Read { who: usize, client: usize, acknowledge: usize },
    /// An observer looks on.
    Peek { who: usize, client: usize },
    /// A client claims to have received messages that were never written.
    Forge { who: usize },
    /// A client is forgotten.
    Forget { who: usize, client: usize },
    /// The message sent so many sends ago is taken back.
    Cancel { back: usize },
    /// The process is killed and started again.
    Crash,
    /// The store is backed up and restored.
    Restore,
    /// The clock moves on.
    Wait { seconds: u64 },
    /// A mailbox is cleared.
    Clear { to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, prop_oneof![9 => 0..200usize, 1 => Just(30_000)], prop_oneof![Just(55u64), Just(1005)], any::<bool>())
            .prop_map(|(to, size, ttl, privileged)| Step::Send { to, size, ttl, privileged }),
        6 => (0..2usize, 0..3usize, 0..8usize).prop_map(|(who, client, acknowledge)| Step::Read { who, client, acknowledge }),
        1 => (0..2usize, 0..3usize).prop_map(|(who, client)| Step::Peek { who, client }),
        1 => (0..2usize).prop_map(|who| Step::Forge { who }),
        1 => (0..2usize, 0..3usize).prop_map(|(who, client)| Step::Forget { who, client }),
        1 => (0..6usize).prop_map(|back| Step::Cancel { back }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restore),
        // Tens, while messages expire on fives: the seconds that the test itself takes must not matter.
        1 => (1..7u64).prop_map(|tens| Step::Wait { seconds: 10 * tens }),
        1 => (0..4usize).prop_map(|to| Step::Clear { to }),
    ]
}

/// A message as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    to: usize,
    text: String,
    ends: u64,
    /// Some reader has received it.
    received: bool,
}

/// A reader as the model knows it: the id up to which it has received each recipient's messages, and the number that it misses.
#[derive(Debug, Clone, Default)]
struct Place {
    cursors: BTreeMap<usize, u64>,
    missed: BTreeMap<usize, u64>,
}

/// The mailbox and the model side by side.
struct World {
    dir: tempfile::TempDir,
    generation: usize,
    mailbox: Option<Mailbox>,
    users: Vec<User>,
    device: DeviceId,
    /// The messages that are there.
    known: BTreeMap<u64, Known>,
    /// The readers of each user.
    readers: BTreeMap<(usize, usize), Place>,
    /// The id up to which some reader of user `.0` has received recipient `.1`'s messages.
    fronts: BTreeMap<(usize, usize), u64>,
    sent: Vec<u64>,
    now: u64,
    newest: u64,
    serial: u64,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("0")).unwrap();
        let store = Store::open(&dir.path().join("0/store")).unwrap();
        let changes = Changes::open(store.clone(), settings(&Config::default()), Metrics::new(Arc::default())).unwrap();
        let mut users = Vec::new();
        for name in ["ana", "bob"] {
            let new = NewUser { username: name.into(), role: Role::User, password_hash: "x".into() };
            users.push(changes.run(CreateUser { new, authority: Authority::System }).await.unwrap());
        }
        let new = NewDevice { name: "d".into(), ..NewDevice::default() };
        let device = changes.run(CreateDevice { new, user: users[0].id, limit: 0 }).await.unwrap().id;
        let mut world = Self {
            dir,
            generation: 0,
            mailbox: None,
            users,
            device,
            known: BTreeMap::new(),
            readers: BTreeMap::new(),
            fronts: BTreeMap::new(),
            sent: Vec::new(),
            now: 0,
            newest: 0,
            serial: 0,
        };
        store.close().unwrap();
        drop((changes, store));
        world.open();
        world
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join(self.generation.to_string()).join("store")
    }

    fn open(&mut self) {
        let store = Store::open(&self.path()).unwrap();
        let mut config = Config::default();
        config.mailbox.messages = MAX_MESSAGES;
        config.mailbox.ttl = 1000;
        config.storage.min_free_bytes = 0;
        config.history.messages = MAX_HISTORY;
        let metrics = Metrics::new(Arc::default());
        let changes = Changes::open(store.clone(), settings(&config), metrics.clone()).unwrap();
        self.mailbox = Some(Mailbox::new(store, changes, Hub::new(4, 1 << 20), &config, metrics));
    }

    fn mailbox(&self) -> &Mailbox {
        self.mailbox.as_ref().unwrap()
    }

    fn recipient(&self, to: usize) -> Recipient {
        match to {
            0 | 1 => Recipient::User(self.users[to].id),
            2 => Recipient::Device(self.device),
            _ => Recipient::All,
        }
    }

    /// The mailboxes that user `who` reads.
    fn boxes(who: usize) -> Vec<usize> {
        if who == 0 { vec![0, 2, 3] } else { vec![1, 3] }
    }

    fn options(&self, who: usize, client: usize, peek: bool) -> ReaderOptions {
        let device = (who == 0).then_some(self.device);
        let client = ClientName::chosen(CLIENTS[client]).unwrap();
        ReaderOptions { user: self.users[who].id, client, device, since: None, max_bytes: None, peek, position: Arc::default() }
    }

    /// The id up to which the reader has received recipient `to`'s messages.
    fn cursor(&self, who: usize, client: usize, to: usize) -> u64 {
        let front = self.fronts.get(&(if to == 2 { 0 } else { who }, to)).copied().unwrap_or(0);
        if to == 2 {
            return front;
        }
        self.readers.get(&(who, client)).map_or(front, |place| place.cursors[&to])
    }

    fn waiting(&self, to: usize, above: u64) -> Vec<u64> {
        let alive = self.known.iter().filter(|(id, m)| m.to == to && **id > above && m.ends > self.now);
        alive.map(|(&id, _)| id).collect()
    }

    /// The messages that no reader has received.
    fn pending(&self, to: usize) -> usize {
        self.known.values().filter(|m| m.to == to && !m.received && m.ends > self.now).count()
    }

    async fn send(&mut self, to: usize, size: usize, ttl: u64, privileged: bool) {
        self.serial += 1;
        let text = format!("{}-{}", self.serial, "x".repeat(size));
        let object = JsonObject::new(&json!({ "message": text })).unwrap();
        let (recipient, sender) = (self.recipient(to), self.users[0].id);
        let sent = self.mailbox().send(Outgoing { ttl: Some(ttl), privileged, ..Outgoing::new(recipient, sender, object) }).await;
        let waiting = self.pending(to);
        let most = if privileged { MAX_MESSAGES } else { MAX_MESSAGES - MAX_MESSAGES / 10 };
        match sent {
            Ok(accepted) => {
                assert!(waiting < most, "a full mailbox has accepted a message");
                assert!(accepted.id.0 > self.newest, "ids rise");
                self.newest = accepted.id.0;
                self.sent.push(self.newest);
                self.known.insert(self.newest, Known { to, text, ends: self.now + ttl, received: false });
            }
            Err(MailboxError::Full) => assert!(waiting >= most, "{waiting}"),
            Err(other) => panic!("{other}"),
        }
    }

    /// Adds the reader where it is new: it starts with what no reader has received.
    async fn join(&mut self, who: usize, client: usize) {
        let name = ClientName::chosen(CLIENTS[client]).unwrap();
        self.mailbox().join(self.users[who].id, &name).await.unwrap();
        if !self.readers.contains_key(&(who, client)) {
            let cursors = [who, 3].map(|to| (to, self.cursor(who, client, to)));
            self.readers.insert((who, client), Place { cursors: cursors.into(), missed: BTreeMap::new() });
        }
    }

    /// Reads all, and compares it with what the model says.
    async fn look(&self, who: usize, client: usize, peek: bool) -> (LogReader, Vec<u64>) {
        let (mut feed, welcome) = self.mailbox().reader(self.options(who, client, peek));
        let waiting = Self::boxes(who).into_iter().flat_map(|to| self.waiting(to, self.cursor(who, client, to)));
        let expected: BTreeSet<u64> = waiting.collect();
        assert_eq!(welcome.pending, expected.len());
        let place = self.readers.get(&(who, client));
        let missed: u64 = place.into_iter().flat_map(|place| place.missed.values()).sum();
        if place.is_some() {
            assert_eq!(welcome.missed, missed, "missed by {who} {client}");
        }
        let (mut seen, mut complete) = (Vec::new(), false);
        while !complete {
            let chunk = feed.read(self.mailbox(), 10_000, 5).await.unwrap();
            for (id, payload) in &chunk.messages {
                let event: serde_json::Value = serde_json::from_slice(payload).unwrap();
                assert_eq!(event["id"].as_u64().unwrap(), id.0);
                assert_eq!(event["message"], self.known[&id.0].text.as_str());
                seen.push(id.0);
            }
            feed.advance(chunk.upto);
            complete = chunk.complete;
        }
        assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        (feed, seen)
    }

    async fn read(&mut self, who: usize, client: usize, acknowledge: usize) {
        let client = if who == 1 { 0 } else { client };
        self.join(who, client).await;
        let (mut feed, seen) = self.look(who, client, false).await;
        if let Some(&upto) = seen.iter().take(acknowledge).next_back() {
            self.mailbox().received(&mut feed, MessageId(upto));
            drop(feed);
            self.settle().await;
            for to in Self::boxes(who) {
                self.acknowledge(who, client, to, upto);
            }
            let place = self.readers.get_mut(&(who, client)).unwrap();
            place.missed.clear();
            self.trim();
        }
        self.agree();
    }

    fn acknowledge(&mut self, who: usize, client: usize, to: usize, upto: u64) {
        let cursor = self.cursor(who, client, to);
        let passed: Vec<u64> = self.waiting(to, cursor).into_iter().filter(|&id| id <= upto).collect();
        if passed.is_empty() {
            return;
        }
        for id in passed {
            self.known.get_mut(&id).unwrap().received = true;
        }
        let front = self.fronts.entry((if to == 2 { 0 } else { who }, to)).or_default();
        *front = upto.max(*front);
        if to != 2 {
            self.readers.get_mut(&(who, client)).unwrap().cursors.insert(to, upto);
        }
    }

    /// The readers of a recipient's messages.
    fn places(&self, to: usize) -> Vec<(usize, usize)> {
        self.readers.keys().copied().filter(|&(who, _)| to == 3 || who == to).collect()
    }

    /// The id up to which all of them have gone; of broadcasts, also the users without readers.
    fn lowest(&self, to: usize) -> Option<u64> {
        let places = self.places(to);
        let of_readers = places.iter().map(|key| self.readers[key].cursors[&to]);
        let alone = (0..2).filter(|who| to == 3 && !places.iter().any(|(user, _)| user == who));
        let of_users = alone.map(|who| self.fronts.get(&(who, 3)).copied().unwrap_or(0));
        if to == 2 { None } else { of_readers.chain(of_users).min() }
    }

    /// Removes what the mailbox no longer keeps: of the received messages that some reader lacks the oldest beyond the bound.
    fn trim(&mut self) {
        for to in 0..4 {
            let received: Vec<u64> = self.known.iter().filter(|(_, m)| m.to == to && m.received).map(|(&id, _)| id).collect();
            let places = self.places(to);
            let lowest = self.lowest(to);
            let kept = lowest.map_or(0, |lowest| received.iter().filter(|&&id| id > lowest).count().min(MAX_MESSAGES));
            let mut left = received.len();
            for id in received {
                if left - kept.min(left) <= MAX_HISTORY {
                    break;
                }
                let message = self.known.remove(&id).unwrap();
                left -= 1;
                for key in &places {
                    let place = self.readers.get_mut(key).unwrap();
                    if place.cursors[&to] < id && message.ends > self.now {
                        *place.missed.entry(to).or_default() += 1;
                    }
                }
            }
        }
    }

    /// Compares the sizes of all mailboxes with the model.
    fn agree(&self) {
        for to in [0, 1, 2] {
            let size = self.mailbox().size(self.recipient(to));
            let share = if to == 2 { 0 } else { self.waiting(3, self.fronts.get(&(to, 3)).copied().unwrap_or(0)).len() };
            assert_eq!(size.messages, self.pending(to) + share, "size of mailbox {to}");
        }
    }

    /// Applies all deferred operations now.
    async fn settle(&self) {
        self.mailbox().sweep(true).await.unwrap();
    }

    async fn cancel(&mut self, back: usize) {
        let Some(&id) = self.sent.iter().rev().nth(back) else { return };
        let known = self.known.get(&id).filter(|m| !m.received && m.ends > self.now).cloned();
        let to = known.as_ref().map_or(Recipient::All, |m| self.recipient(m.to));
        let cancelled = self.mailbox().cancel(to, MessageId(id)).await;
        assert_eq!(cancelled.is_ok(), known.is_some());
        if known.is_some() {
            self.known.remove(&id);
            let status = self.mailbox().receipt(MessageId(id)).unwrap().unwrap().status;
            assert!(matches!(status, Status::Ended(EndState::Cancelled, Some(_))), "{status:?}");
        }
    }

    async fn clear(&mut self, to: usize) {
        let cleared = self.mailbox().clear(Some(self.recipient(to))).await.unwrap();
        let pending: Vec<u64> =
            self.known.iter().filter(|(_, m)| m.to == to && !m.received && m.ends > self.now).map(|(&id, _)| id).collect();
        let mut count = pending.len();
        for id in pending {
            self.known.remove(&id);
        }
        if to < 2 {
            count += self.waiting(3, self.fronts.get(&(to, 3)).copied().unwrap_or(0)).len();
            for (of, newest) in [to, 3].map(|of| (of, self.newest)) {
                let front = self.fronts.entry((to, of)).or_default();
                *front = newest.max(*front);
                for (_, place) in self.readers.iter_mut().filter(|((who, _), _)| *who == to) {
                    place.cursors.insert(of, newest);
                    place.missed.remove(&of);
                }
            }
            // Nobody is left to receive these.
            let lowest = self.lowest(3).unwrap_or(0);
            self.known.retain(|&id, m| m.to != 3 || m.received || id > lowest);
            self.trim();
        }
        assert_eq!(cleared, count);
        self.agree();
    }

    async fn restore(&mut self) {
        let store = &self.mailbox().store;
        let (backup, _) = store.backup(store.backup_permit().unwrap(), Vec::new(), 0).await.unwrap();
        self.mailbox = None;
        self.generation += 1;
        let target = crate::data_dir::prepare(&self.dir.path().join(self.generation.to_string())).unwrap();
        crate::store::restore(&backup[..], &target).unwrap();
        self.open();
        let gap = Since { epoch: None, id: MessageId(self.newest + 1) };
        let (_, welcome) = self.mailbox().reader(ReaderOptions { since: Some(gap), ..self.options(0, 0, true) });
        assert_eq!(welcome.recovered, Some(false), "an id that was never given in this store");
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { to, size, ttl, privileged } => self.send(to, size, ttl, privileged).await,
            Step::Read { who, client, acknowledge } => self.read(who, client, acknowledge).await,
            Step::Peek { who, client } => drop(self.look(who, if who == 1 { 0 } else { client }, true).await),
            Step::Forge { who } => {
                // A session accepts only acknowledgements of what it has written; a cursor may still not go back.
                let (mut feed, _) = self.mailbox().reader(self.options(who, 0, false));
                self.mailbox().received(&mut feed, MessageId(0));
                drop(feed);
                self.settle().await;
            }
            Step::Forget { who, client } => {
                let name = ClientName::chosen(CLIENTS[client]).unwrap();
                let forgotten = self.mailbox().forget_reader(self.users[who].id, name).await;
                assert_eq!(forgotten.is_ok(), self.readers.remove(&(who, client)).is_some());
                self.trim();
            }
            Step::Cancel { back } => self.cancel(back).await,
            Step::Crash => {
                self.mailbox = None;
                self.open();
            }
            Step::Restore => self.restore().await,
            Step::Wait { seconds } => {
                self.mailbox().changes.clock().skip(seconds);
                self.now += seconds;
                self.settle().await;
                let now = self.now;
                self.known.retain(|_, m| m.received || m.ends > now);
                self.trim();
            }
            Step::Clear { to } => self.clear(to).await,
        }
    }
}

/// Reads and acknowledges everything, as a client would; returns the id of the last message.
async fn take_all(world: &World, who: usize, device: bool) -> MessageId {
    let mailbox = world.mailbox();
    let mut options = world.options(who, 0, false);
    options.device = options.device.filter(|_| device);
    mailbox.join(options.user, &options.client).await.unwrap();
    let (mut feed, _) = mailbox.reader(options);
    let chunk = feed.read(mailbox, usize::MAX, usize::MAX).await.unwrap();
    assert!(chunk.complete);
    let last = chunk.messages.last().map_or(MessageId(0), |&(id, _)| id);
    mailbox.received(&mut feed, last);
    // Operations run in order: once this one has, the acknowledgement has been applied. No sweep has.
    mailbox.changes.run(Probe { write: false }).await.unwrap();
    last
}

#[tokio::test]
async fn message_expired_before_it_was_read_is_never_acked() {
    let mut world = World::new().await;
    world.send(1, 10, 5, true).await;
    world.send(1, 10, 1000, true).await;
    let ids: Vec<MessageId> = world.known.keys().map(|&id| MessageId(id)).collect();
    // The first one expires, and before any sweep a client reads on past it.
    world.mailbox().changes.clock().skip(10);
    assert_eq!(take_all(&world, 1, false).await, ids[1]);
    let status = |id| world.mailbox().receipt(id).unwrap().unwrap().status;
    assert!(matches!(status(ids[0]), Status::Ended(EndState::Expired, _)));
    assert!(matches!(status(ids[1]), Status::Ended(EndState::Acked, Some(_))));
    // It is not delivered any more, and a client that asks for everything is told so.
    let since = Some(Since { epoch: None, id: MessageId(0) });
    let (_, welcome) = world.mailbox().reader(ReaderOptions { since, ..world.options(1, 0, false) });
    assert_eq!(welcome.recovered, Some(false));
}

#[tokio::test]
async fn last_id_is_below_every_pending_message() {
    let mut world = World::new().await;
    world.send(2, 10, 1000, true).await; // the device's
    world.send(0, 10, 1000, true).await; // its user's, later
    let ids: Vec<u64> = world.known.keys().copied().collect();
    // A session of the same user without the device.
    assert_eq!(take_all(&world, 0, false).await.0, ids[1]);
    let (_, welcome) = world.mailbox().reader(world.options(0, 0, false));
    assert_eq!((welcome.pending, welcome.last_id), (1, MessageId(ids[0] - 1)));
}

#[tokio::test]
async fn broadcasts_that_somebody_has_received_stop_nobody() {
    let mut world = World::new().await;
    for _ in 0..MAX_MESSAGES {
        world.send(3, 10, 1000, true).await;
    }
    let one = || JsonObject::new(&json!({ "message": 1 })).unwrap();
    let more = |world: &World| Outgoing::new(Recipient::All, world.users[0].id, one());
    assert!(matches!(world.mailbox().send(more(&world)).await, Err(MailboxError::Full)));
    take_all(&world, 0, false).await;
    for _ in 0..3 * MAX_MESSAGES {
        world.mailbox().send(more(&world)).await.unwrap();
        take_all(&world, 0, false).await;
    }
    // The other user, who has never connected, is told how many gave way.
    let (_, welcome) = world.mailbox().reader(world.options(1, 0, false));
    let there = MAX_MESSAGES + MAX_HISTORY;
    assert_eq!((welcome.pending, welcome.missed), (there, (4 * MAX_MESSAGES - there) as u64));
    assert_eq!(welcome.recovered, Some(false));
}

#[tokio::test]
async fn slower_connection_of_the_same_reader_misses_nothing() {
    let world = World::new().await;
    let one = || JsonObject::new(&json!({ "message": 1 })).unwrap();
    let more = |world: &World| Outgoing::new(world.recipient(1), world.users[0].id, one());
    let (mut slow, _) = world.mailbox().reader(world.options(1, 0, false));
    for _ in 0..3 * MAX_HISTORY {
        world.mailbox().send(more(&world)).await.unwrap();
        take_all(&world, 1, false).await;
    }
    let chunk = slow.read(world.mailbox(), usize::MAX, usize::MAX).await.unwrap();
    assert_eq!((chunk.messages.len(), chunk.gap), (3 * MAX_HISTORY, None));
    // Beyond the bound of the mailbox, it is told.
    let (mut slow, _) = world.mailbox().reader(world.options(1, 0, false));
    let mut newest = 0;
    for _ in 0..2 * MAX_MESSAGES {
        newest = world.mailbox().send(more(&world)).await.unwrap().id.0;
        take_all(&world, 1, false).await;
    }
    let chunk = slow.read(world.mailbox(), usize::MAX, usize::MAX).await.unwrap();
    let there = (MAX_MESSAGES + MAX_HISTORY) as u64;
    assert_eq!(chunk.messages.len() as u64, there);
    let gap = Gap { after: MessageId(newest - 2 * MAX_MESSAGES as u64), upto: MessageId(newest - there) };
    assert_eq!(chunk.gap, Some(gap));
}

#[tokio::test]
async fn acknowledgement_of_a_deleted_user_leaves_no_trace() {
    let mut world = World::new().await;
    world.send(3, 10, 1000, true).await;
    let user = world.users[1].id;
    world.mailbox().join(user, &ClientName::default()).await.unwrap();
    let (mut feed, _) = world.mailbox().reader(world.options(1, 0, false));
    world.mailbox().changes.run(DeleteUser { id: user }).await.unwrap();
    world.mailbox().received(&mut feed, MessageId(u64::MAX));
    drop(feed);
    world.mailbox().sweep(true).await.unwrap();
    assert!(world.mailbox().store.log().places().all(|place| place.unwrap().0 != Recipient::User(user)));
    let one = JsonObject::new(&json!({ "message": 1 })).unwrap();
    let gone = Outgoing::new(Recipient::User(user), world.users[0].id, one);
    assert!(matches!(world.mailbox().send(gone).await, Err(MailboxError::Store(StoreError::Missing("user")))));
}

#[tokio::test]
async fn messages_are_refused_while_their_index_has_its_share_of_the_memory() {
    let mut world = World::new().await;
    let (sender, recipient) = (world.users[0].id, world.recipient(1));
    let mailbox = world.mailbox.as_mut().unwrap();
    let room = (mailbox.index_bytes() + 1000) * 10 / 9; // a tenth is not for users
    // What the other parts leave of it: 19 MiB for hashing, a sixth and an eighth.
    mailbox.storage.memory_budget = (room + (19 << 20)) * 24 / 17;
    assert!(mailbox.storage.max_index_bytes().abs_diff(room) < 10);
    let object = || JsonObject::new(&json!({ "message": 1 })).unwrap();
    let mut accepted = 0;
    let refused = loop {
        match mailbox.send(Outgoing::new(recipient, sender, object())).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, MailboxError::MemoryLow), "{refused}");
    assert!((1..=10).contains(&accepted), "{accepted}");
    assert_eq!(mailbox.metrics.refused.of(Refused::MemoryLow).get(), 1);
    let by_admin = Outgoing { privileged: true, ..Outgoing::new(recipient, sender, object()) };
    assert!(mailbox.send(by_admin).await.is_ok(), "the last tenth is kept for it");
    mailbox.clear(Some(recipient)).await.unwrap();
    mailbox.send(Outgoing::new(recipient, sender, object())).await.unwrap();
}

#[tokio::test]
async fn message_removed_in_the_commit_that_accepted_it_has_an_outcome() {
    let world = World::new().await;
    let (mailbox, recipient) = (world.mailbox(), world.recipient(1));
    let object = JsonObject::new(&json!({ "message": 1 })).unwrap();
    let (watcher, mut outcomes) = tokio::sync::mpsc::channel(1);
    let message = Outgoing { watcher: Some(watcher), ..Outgoing::new(recipient, world.users[0].id, object) };
    // The first job holds the writer thread until both operations are queued.
    let (release, held) = std::sync::mpsc::channel();
    let hold = mailbox.store.writer().run(move |_| held.recv().map_err(|_| StoreError::Stopped));
    let (_, accepted, cleared, ()) =
        tokio::join!(hold, mailbox.send(message), mailbox.clear(Some(recipient)), async move { release.send(()).unwrap() });
    assert_eq!(cleared.unwrap(), 1);
    assert_eq!(outcomes.recv().await, Some((accepted.unwrap().id, Outcome::Dropped(EndState::Cleared))));
    assert_eq!(outcomes.recv().await, None, "nothing watches any more");
}

/// `QY_LTY_MODEL_CASES` asks for a longer run.
fn number_of_cases() -> u32 {
    std::env::var("QY_LTY_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: number_of_cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn reads_equal_those_of_a_plain_list(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.take(step).await;
            }
            for who in 0..2 {
                world.read(who, 0, 0).await;
            }
        });
    }
}
