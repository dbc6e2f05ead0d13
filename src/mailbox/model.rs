//! The mailbox against a model: whatever happens in whatever order, the messages read are those that a plain list would give.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::change::{CreateDevice, CreateUser, DeleteUser, Outcome, Probe};
use crate::core::ids::DeviceId;
use crate::store::{Authority, NewDevice, NewUser, Role, User};
use crate::wire::JsonObject;

/// An event of a test.
#[derive(Debug, Clone)]
enum Step {
    /// A message to recipient `to` (0 and 1: users, 2: the first user's device, 3: everybody), living so many seconds.
    Send { to: usize, size: usize, ttl: u64 },
    /// User `who` connects, reads everything, and acknowledges so many of the messages.
    Read { who: usize, acknowledge: usize },
    /// A client claims to have received messages that were never written.
    Forge { who: usize },
    /// The process is killed and started again.
    Crash,
    /// The clock moves on.
    Wait { seconds: u64 },
    /// A mailbox is cleared.
    Clear { to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4usize, prop_oneof![9 => 0..200usize, 1 => Just(30_000)], prop_oneof![Just(55u64), Just(1005)])
            .prop_map(|(to, size, ttl)| Step::Send { to, size, ttl }),
        4 => (0..2usize, 0..8usize).prop_map(|(who, acknowledge)| Step::Read { who, acknowledge }),
        1 => (0..2usize).prop_map(|who| Step::Forge { who }),
        1 => Just(Step::Crash),
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
}

/// The mailbox and the model side by side.
struct World {
    dir: tempfile::TempDir,
    mailbox: Option<Mailbox>,
    users: Vec<User>,
    device: DeviceId,
    /// The messages that are there.
    known: BTreeMap<u64, Known>,
    /// The id up to which reader `who` has received recipient `to`'s messages.
    cursors: BTreeMap<(usize, usize), u64>,
    now: u64,
    newest: u64,
    serial: u64,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
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
            mailbox: None,
            users,
            device,
            known: BTreeMap::new(),
            cursors: BTreeMap::new(),
            now: 0,
            newest: 0,
            serial: 0,
        };
        world.open(store);
        world
    }

    fn open(&mut self, store: Store) {
        let mut config = Config::default();
        config.mailbox.messages = 12;
        config.mailbox.ttl = 1000;
        config.storage.min_free_bytes = 0;
        config.history.messages = 3;
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

    fn waiting(&self, to: usize, above: u64) -> Vec<u64> {
        let alive = self.known.iter().filter(|(id, m)| m.to == to && **id > above && m.ends > self.now);
        alive.map(|(&id, _)| id).collect()
    }

    fn cursor(&self, who: usize, to: usize) -> u64 {
        // A user's or a device's mailbox has one cursor, the broadcasts have one for each user.
        let key = if to == 3 { (who, 3) } else { (0, to) };
        self.cursors.get(&key).copied().unwrap_or(0)
    }

    async fn send(&mut self, to: usize, size: usize, ttl: u64) {
        self.serial += 1;
        let text = format!("{}-{}", self.serial, "x".repeat(size));
        let object = JsonObject::new(&json!({ "message": text })).unwrap();
        let (recipient, sender) = (self.recipient(to), self.users[0].id);
        let sent = self.mailbox().send(Outgoing { ttl: Some(ttl), ..Outgoing::new(recipient, sender, object) }).await;
        let waiting = self.waiting(to, if to == 3 { 0 } else { self.cursor(0, to) }).len();
        match sent {
            Ok(accepted) => {
                assert!(waiting < 12, "a full mailbox has accepted a message");
                assert!(accepted.id.0 > self.newest, "ids rise");
                self.newest = accepted.id.0;
                self.known.insert(accepted.id.0, Known { to, text, ends: self.now + ttl });
            }
            // Broadcasts that everybody has received make room only at the next thorough sweep.
            Err(MailboxError::Full) => assert!(waiting >= 12 || to == 3, "{waiting}"),
            Err(other) => panic!("{other}"),
        }
    }

    async fn read(&mut self, who: usize, acknowledge: usize) {
        let device = (who == 0).then_some(self.device);
        let (mut feed, welcome) = self.mailbox().reader(&self.users[who], device, None);
        let mut expected: Vec<u64> = Self::boxes(who).into_iter().flat_map(|to| self.waiting(to, self.cursor(who, to))).collect();
        expected.sort_unstable();
        assert_eq!(welcome.pending, expected.len());
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
        assert_eq!(seen, expected);
        if let Some(&upto) = seen.iter().take(acknowledge).next_back() {
            self.mailbox().received(&feed.readers(), MessageId(upto), feed.joined());
            self.settle().await;
            for to in Self::boxes(who) {
                let (key, cursor) = (if to == 3 { (who, 3) } else { (0, to) }, self.cursor(who, to));
                if self.waiting(to, cursor).iter().any(|&id| id <= upto) {
                    self.cursors.insert(key, upto);
                }
            }
        }
    }

    /// Applies all deferred operations now.
    async fn settle(&self) {
        self.mailbox().sweep(true).await.unwrap();
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { to, size, ttl } => self.send(to, size, ttl).await,
            Step::Read { who, acknowledge } => self.read(who, acknowledge).await,
            Step::Forge { who } => {
                // A session accepts only acknowledgements of what it has written; a cursor beyond everything may still not go back.
                let reader = Reader::User(self.users[who].id);
                self.mailbox().received(&[reader], MessageId(0), MessageId(0));
                self.settle().await;
            }
            Step::Crash => {
                self.mailbox = None;
                let store = Store::open(&self.dir.path().join("store")).unwrap();
                self.open(store);
            }
            Step::Wait { seconds } => {
                self.mailbox().changes.clock().skip(seconds);
                self.now += seconds;
                self.settle().await;
            }
            Step::Clear { to } => {
                let above = if to == 3 { 0 } else { self.cursor(0, to) };
                let cleared = self.mailbox().clear(Some(self.recipient(to))).await.unwrap();
                let waiting = self.waiting(to, above);
                assert!(cleared == waiting.len() || to == 3);
                for id in waiting {
                    self.known.remove(&id);
                }
            }
        }
    }
}

/// Reads and acknowledges everything, as a client would; returns the id of the last message.
async fn take_all(mailbox: &Mailbox, user: &User, device: Option<DeviceId>) -> MessageId {
    let (feed, _) = mailbox.reader(user, device, None);
    let chunk = feed.read(mailbox, usize::MAX, usize::MAX).await.unwrap();
    assert!(chunk.complete);
    let last = chunk.messages.last().map_or(MessageId(0), |&(id, _)| id);
    mailbox.received(&feed.readers(), last, feed.joined());
    // Operations run in order: once this one has, the acknowledgement has been applied. No sweep has.
    mailbox.changes.run(Probe { write: false }).await.unwrap();
    last
}

#[tokio::test]
async fn message_expired_before_it_was_read_is_never_acked() {
    let mut world = World::new().await;
    world.send(1, 10, 5).await;
    world.send(1, 10, 1000).await;
    let ids: Vec<MessageId> = world.known.keys().map(|&id| MessageId(id)).collect();
    // The first one expires, and before any sweep a client reads on past it.
    world.mailbox().changes.clock().skip(10);
    assert_eq!(take_all(world.mailbox(), &world.users[1], None).await, ids[1]);
    let status = |id| world.mailbox().receipt(id).unwrap().unwrap().status;
    assert_eq!(status(ids[0]), Status::Expired);
    assert!(matches!(status(ids[1]), Status::Acked(Some(_))));
    // It is not delivered any more, and a client that asks for everything is told so.
    let (_, welcome) = world.mailbox().reader(&world.users[1], None, Some(MessageId(0)));
    assert_eq!(welcome.recovered, Some(false));
}

#[tokio::test]
async fn last_id_is_below_every_pending_message() {
    let mut world = World::new().await;
    world.send(2, 10, 1000).await; // the device's
    world.send(0, 10, 1000).await; // its user's, later
    let ids: Vec<u64> = world.known.keys().copied().collect();
    // A session of the same user without the device.
    assert_eq!(take_all(world.mailbox(), &world.users[0], None).await.0, ids[1]);
    let (_, welcome) = world.mailbox().reader(&world.users[0], Some(world.device), None);
    assert_eq!((welcome.pending, welcome.last_id), (1, MessageId(ids[0] - 1)));
}

#[tokio::test]
async fn broadcasts_received_by_all_make_room_when_needed() {
    let mut world = World::new().await;
    for _ in 0..12 {
        world.send(3, 10, 1000).await;
    }
    let one = || JsonObject::new(&json!({ "message": 1 })).unwrap();
    let more = |world: &World| Outgoing::new(Recipient::All, world.users[0].id, one());
    assert!(matches!(world.mailbox().send(more(&world)).await, Err(MailboxError::Full)));
    for user in &world.users {
        take_all(world.mailbox(), user, None).await;
    }
    world.mailbox().send(more(&world)).await.unwrap();
}

#[tokio::test]
async fn acknowledgement_of_a_deleted_user_leaves_no_trace() {
    let mut world = World::new().await;
    world.send(3, 10, 1000).await;
    let (feed, _) = world.mailbox().reader(&world.users[1], None, None);
    world.mailbox().changes.run(DeleteUser { id: world.users[1].id }).await.unwrap();
    world.mailbox().received(&feed.readers(), MessageId(u64::MAX), feed.joined());
    world.mailbox().sweep(true).await.unwrap();
    assert_eq!(world.mailbox().store.log().cursors().count(), 0);
    let one = JsonObject::new(&json!({ "message": 1 })).unwrap();
    let gone = Outgoing::new(Recipient::User(world.users[1].id), world.users[0].id, one);
    assert!(matches!(world.mailbox().send(gone).await, Err(MailboxError::Store(StoreError::Missing("user")))));
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
    assert_eq!(outcomes.recv().await, Some((accepted.unwrap().id, Outcome::Expired)));
    assert_eq!(outcomes.recv().await, None, "nothing watches any more");
}

/// `QY_LTY_MODEL_CASES` asks for a longer run.
fn number_of_cases() -> u32 {
    std::env::var("QY_LTY_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: number_of_cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn reads_equal_those_of_a_plain_list(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.take(step).await;
            }
            for who in 0..2 {
                world.read(who, 0).await;
            }
        });
    }
}
