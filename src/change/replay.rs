//! The same operations at the same moments give the same store: whatever the process does in between, and also after the
//! operations have been encoded and decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::arbitrary::{beginning, change, hash, message, moment, proof, settings};
use super::*;
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, TokenId, UserId};
use crate::store::{
    Answer, Authority, ImportState, Imported, ImportedToken, ImportedUser, MetaKey, NewUser, Role, Store, UserChange, restore,
};
use crate::wire::JsonObject;
use clock::Moment;
use load::load;
use machine::{Machine, State};
use stage::Due;

/// All entries of all trees but the epoch, by tree and key.
type Dump = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// Something that happens to a machine between two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    None,
    /// The process is stopped and started again.
    Restart,
    /// The store is backed up and restored.
    Restore,
}

/// One store and its state, with the settings in force, which a start applies again.
struct Instance {
    dir: tempfile::TempDir,
    generation: u32,
    store: Option<Store>,
    state: State,
    settings: Settings,
}

impl Instance {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("0/store")).or_else(|_| {
            std::fs::create_dir(dir.path().join("0")).unwrap();
            Store::open(&dir.path().join("0/store"))
        });
        let (store, settings) = (store.unwrap(), settings(6, 3, 100));
        let state = load(store.trees(), settings.clone(), moment(0)).unwrap();
        Self { dir, generation: 0, store: Some(store), state, settings }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn apply(&mut self, change: Change, at: Moment) -> String {
        if let Change::Settings(settings) = &change {
            self.settings = settings.clone();
        }
        let mut machine = Machine::new(self.store.as_ref().unwrap().trees(), &self.state);
        let result = change.apply(&mut machine, at);
        format!("{result} {:?}", machine.take_events())
    }

    /// Writes what waits for the commit.
    fn commit(&self, due: Due) {
        self.state.write(self.store().trees(), due).unwrap();
    }

    fn interrupt(&mut self, what: Interruption, at: Moment) {
        let directory = |generation: u32| self.dir.path().join(generation.to_string());
        match what {
            Interruption::None => return,
            Interruption::Restart => {
                self.store.take().unwrap().close().unwrap();
                self.store = Some(Store::open(&directory(self.generation).join("store")).unwrap());
            }
            Interruption::Restore => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let permit = self.store().backup_permit().unwrap();
                let (backup, _) = runtime.block_on(self.store().backup(permit, Vec::new(), 0)).unwrap();
                self.store.take().unwrap().close().unwrap();
                let target = crate::data_dir::prepare(&directory(self.generation + 1)).unwrap();
                restore(&backup[..], &target).unwrap();
                self.generation += 1;
                let store = Store::open(&target.join("store")).unwrap();
                // A restore skips ids on purpose; everything else must be as it was.
                store.trees().meta.set(MetaKey::MessageIdsReserved, self.state.memory.lock().newest.0).unwrap();
                store.trees().meta.forget_skipped().unwrap();
                self.store = Some(store);
            }
        }
        self.state = load(self.store().trees(), self.settings.clone(), at).unwrap();
    }

    /// Its entries; with `ids`, also the ids that are not given again, which a restore raises.
    fn dump(&self, ids: bool) -> Dump {
        let mut dump = Dump::new();
        for (n, tree) in self.store().trees().all().into_iter().enumerate() {
            for entry in tree {
                let (key, value) = entry.unwrap();
                let name = if n == 0 { std::str::from_utf8(&key).unwrap() } else { "" };
                // The epoch is random.
                if name != MetaKey::Epoch.name() && (ids || name != MetaKey::MessageIdsReserved.name()) {
                    dump.insert((n, key.to_vec()), value.to_vec());
                }
            }
        }
        dump
    }
}

fn step() -> impl Strategy<Value = (Change, u64, Option<Due>, Interruption)> {
    let interruption = prop_oneof![
        12 => Just(Interruption::None),
        2 => Just(Interruption::Restart),
        1 => Just(Interruption::Restore)
    ];
    // A commit after an operation, or several operations in one.
    let commit = prop_oneof![2 => Just(None), 1 => Just(Some(Due::Now)), 1 => Just(Some(Due::Later))];
    (change(), prop_oneof![3 => Just(0u64), 2 => 1..60u64], commit, interruption)
}

fn number_of_cases() -> u32 {
    std::env::var("QY_LTY_REPLAY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

/// An operation, the seconds after it, how its commit is due, and what happens before it.
type Step = (Change, u64, Option<Due>, Interruption);

/// Messages that are sent in bursts and end one by one, so that blocks shrink, and receipts outlive their messages or have to go before.
fn burst() -> impl Strategy<Value = Vec<Step>> {
    let ended = prop_oneof![
        4 => proof(200),
        2 => Just(Change::Expire(Expire {})),
        1 => Just(Change::Tick(Tick { observed: None })),
        1 => (1..3u64).prop_map(|id| Change::Clear(Clear { recipient: Recipient::User(UserId(id)) })),
    ];
    let sent = proptest::collection::vec(message(), 1..24);
    let ends = proptest::collection::vec((ended, 0..40u64, any::<bool>()), 1..8);
    (sent, ends).prop_map(|(sent, ends)| {
        // One commit, and so blocks of many.
        let sent = sent.into_iter().map(|change| (change, 0, None, Interruption::None));
        let ends = ends.into_iter().map(|(change, pause, restarts)| {
            let interruption = if restarts { Interruption::Restart } else { Interruption::None };
            (change, pause, Some(Due::Now), interruption)
        });
        sent.chain(ends).collect()
    })
}

/// Makes the same operations on a machine that is interrupted and on one that is not, and compares them.
fn compare(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut steady, mut interrupted, mut now) = (Instance::new(), Instance::new(), 0);
    let is_restored = steps.iter().any(|(.., interruption)| *interruption == Interruption::Restore);
    for change in beginning() {
        steady.apply(change.clone(), moment(0));
        interrupted.apply(change, moment(0));
    }
    for (change, pause, commit, interruption) in steps {
        now += pause;
        // What is lost with a process is no operation: nothing waits when it stops.
        if let Some(due) = if interruption == Interruption::None { commit } else { Some(Due::Now) } {
            steady.commit(due);
            interrupted.commit(due);
        }
        interrupted.interrupt(interruption, moment(now));
        let decoded = serde_json::from_str(&serde_json::to_string(&change).unwrap()).unwrap();
        let expected = steady.apply(change, moment(now));
        prop_assert_eq!(interrupted.apply(decoded, moment(now)), expected);
    }
    steady.commit(Due::Now);
    interrupted.commit(Due::Now);
    prop_assert_eq!(interrupted.dump(!is_restored), steady.dump(!is_restored));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: number_of_cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn interrupted_machine_ends_with_an_equal_store(steps in proptest::collection::vec(step(), 1..60)) {
        compare(steps)?;
    }

    #[test]
    fn restarts_change_nothing_for_blocks_that_shrink_and_receipts_that_go(bursts in proptest::collection::vec(burst(), 1..10)) {
        compare(bursts.concat())?;
    }
}

#[test]
fn user_of_many_keys_loses_its_own_and_a_restart_changes_nothing() {
    let mut world = Instance::new();
    for change in beginning() {
        world.apply(change, moment(0));
    }
    let mut unbounded = settings(0, 3, 100);
    unbounded.mailbox.sender_bytes = 0;
    world.apply(Change::Settings(unbounded), moment(0));
    let send = |world: &mut Instance, sender: u64, key: u64, seconds: u64| {
        let sender = UserId(sender);
        let object = JsonObject::new(&serde_json::json!({ "m": 1 })).unwrap();
        let key = IdempotencyKey::new(sender, &key.to_string(), b"x", Answer { timestamp: None, recipients: 0 });
        let (recipient, privileged) = (Recipient::User(UserId(2)), sender == UserId(1));
        let append = Append { recipient, sender, object, ttl: 1000, key: Some(key), privileged };
        // A repeat has no payload.
        world.apply(Change::Append(append), moment(seconds)).contains("payload: None")
    };
    assert!(!send(&mut world, 1, 0, 0));
    // The oldest of them may go before they are written, together with the newest.
    for n in 0..10_050 {
        assert!(!send(&mut world, 2, n, 1 + n / 5000), "{n}");
        if n % 4000 == 0 {
            world.commit(Due::Now);
        }
    }
    world.commit(Due::Now);
    for interruption in [Interruption::None, Interruption::Restart, Interruption::Restore] {
        world.interrupt(interruption, moment(3));
        assert_eq!(world.store().trees().idempotency.iter().count(), 10_001, "{interruption:?}");
        assert!(send(&mut world, 1, 0, 3), "another sender's, older than all");
        assert!((5000..10_050).step_by(97).all(|n| send(&mut world, 2, n, 3)), "{interruption:?}");
    }
    let forgotten = (0..5000).filter(|&n| !send(&mut world, 2, n, 3)).count();
    assert!(forgotten >= 50, "{forgotten} of the oldest");
    world.apply(Change::Tick(Tick { observed: None }), moment(86_400));
    for _ in 0..30 {
        world.apply(Change::Tick(Tick { observed: None }), moment(86_410));
    }
    world.commit(Due::Now);
    assert_eq!(world.store().trees().idempotency.iter().count(), 0);
}

#[test]
fn numbers_and_names_are_unique_and_encoded_forms_are_stable() {
    let mut numbers: Vec<u32> = Change::LIST.iter().map(|(number, _)| *number).collect();
    numbers.dedup();
    // 6 was that of an operation which is part of another one now.
    assert_eq!(numbers, (1..=36).filter(|n| *n != 6).collect::<Vec<_>>(), "numbers are given once, in order");
    let object = JsonObject::new(&serde_json::json!({"type": "notice", "message": 1.0})).unwrap();
    let append =
        Append { recipient: Recipient::User(UserId(7)), sender: UserId(1), object, ttl: 60, key: None, privileged: false };
    let ack = Ack {
        user: UserId(7),
        client: ClientName::default(),
        device: None,
        upto: MessageId(9),
        told: MessageId(0),
        told_broadcasts: MessageId(0),
        passed: vec![MessageId(8)],
    };
    let acknowledge = Acknowledge { acks: vec![ack], keep: vec![(Recipient::All, Some(MessageId(3)))] };
    let examples = [
        Change::DeleteUser(DeleteUser { id: UserId(7) }),
        Change::DeleteToken(DeleteToken { user: UserId(7), id: TokenId(3) }),
        Change::ChangeUser(ChangeUser {
            id: UserId(7),
            change: UserChange { role: Some(Role::Admin), ..UserChange::default() },
            authority: Authority::Admin(hash(1)),
        }),
        Change::Append(append),
        Change::Acknowledge(acknowledge),
        Change::JoinReader(JoinReader { user: UserId(7), client: ClientName::of_device(DeviceId(3)) }),
        Change::Cancel(Cancel { recipient: Recipient::All, id: MessageId(9) }),
        Change::Tick(Tick { observed: None }),
        Change::Clear(Clear { recipient: Recipient::Device(DeviceId(3)) }),
        Change::Rehash(Rehash { id: UserId(7), from: "p0".into(), to: "p1".into() }),
    ];
    let lines: Vec<String> = examples.iter().map(|change| serde_json::to_string(change).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"DeleteUser":{"id":7}}
    {"DeleteToken":{"user":7,"id":3}}
    {"ChangeUser":{"id":7,"change":{"disabled":null,"role":"admin","password_hash":null},"authority":{"admin":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}}}
    {"Append":{"recipient":{"user":7},"sender":1,"object":{"message":1.0,"type":"notice"},"ttl":60,"key":null}}
    {"Acknowledge":{"acks":[{"user":7,"client":"default","device":null,"upto":9,"told":0,"told_broadcasts":0,"passed":[8]}],"keep":[["all",3]]}}
    {"JoinReader":{"user":7,"client":"device:3"}}
    {"Cancel":{"recipient":"all","id":9}}
    {"Tick":{}}
    {"Clear":{"recipient":{"device":3}}}
    {"Rehash":{"id":7,"from":"p0","to":"p1"}}
    "#);
}

#[tokio::test]
async fn operation_is_durable_when_its_future_completes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let metrics = crate::telemetry::metrics::Metrics::new(Arc::default());
    let changes = Changes::open(store.clone(), settings(6, 3, 100), metrics).unwrap();
    let new = NewUser { username: "ana".into(), role: Role::Admin, password_hash: "p".into() };
    let ana = changes.run(CreateUser { new, authority: Authority::System }).await.unwrap();
    assert_eq!(store.user(ana.id).unwrap().as_deref(), Some(&ana));
    store.close().unwrap();
    assert!(changes.run(Tick { observed: None }).await.is_err());
    assert!(!changes.defer(|| Expire {}, drop));
}

#[test]
fn import_adds_each_record_once_and_only_with_reserved_ids() {
    let mut world = Instance::new();
    for change in beginning() {
        world.apply(change, moment(0));
    }
    let state = ImportState { source: hash(9), users_before: 2, devices_before: 2, rows: 4, done: 0 };
    let begin = Change::BeginImport(BeginImport { state, last_user: UserId(4), last_device: DeviceId(3) });
    let new_user = |id: u64, name: &str| {
        let (username, password_hash) = (name.to_owned(), "!".to_owned());
        Imported::User(ImportedUser {
            id: UserId(id),
            username,
            role: Role::User,
            disabled: false,
            password_hash,
            created_at: None,
        })
    };
    let token = Imported::Token(ImportedToken { hash: hash(7), user: UserId(3), created_at: None });
    let part = |from: u64, rows: &[Imported]| Change::Import(Import { source: hash(9), from, rows: rows.to_vec() });
    assert!(world.apply(part(0, &[new_user(3, "c")]), moment(0)).contains("Changed"), "it has not begun");
    world.apply(begin.clone(), moment(0));
    assert!(world.apply(part(0, &[new_user(2, "c")]), moment(0)).contains("user id"), "not reserved");
    assert!(world.apply(part(0, &[]), moment(0)).contains("Rows"));
    assert!(world.apply(part(0, &vec![new_user(3, "c"); MAX_IMPORT_ROWS + 1]), moment(0)).contains("Rows"));
    assert!(world.apply(part(0, &[new_user(3, "c"), new_user(4, "FIRST0"), token.clone()]), moment(0)).contains("Refused(1"));
    // Cut off after the first record; its repeat goes on from there.
    assert!(world.apply(begin, moment(0)).contains("done: 1"));
    assert!(world.apply(part(0, &[new_user(3, "c")]), moment(0)).contains("Changed"), "it is there");
    let rest = [new_user(4, "d"), token.clone(), token];
    assert!(world.apply(part(1, &rest), moment(0)).starts_with("Ok(2)"), "the second token is there already");
    assert!(world.apply(part(4, &rest), moment(0)).contains("Rows"), "more than were announced");
    assert_eq!(world.store().users(UserId(2)).map(|user| user.unwrap().username).collect::<Vec<_>>(), ["c", "d"]);
}
