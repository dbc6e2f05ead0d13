//! Operations by chance, on a few accounts, devices and messages, so that they often concern each other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, Recipient, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::{
    Answer, AuditRecord, Authority, Catalog, CatalogEntry, DeviceChange, DeviceInfo, Grant, ImportState, Imported,
    ImportedDevice, ImportedToken, ImportedUser, NewDevice, NewToken, NewUser, Observation, Role, Scope, TokenHash, TokenKind,
    UserChange,
};
use crate::wire::JsonObject;

/// Limits that are soon reached.
pub fn settings(messages: usize, history: usize, retain: u64) -> Settings {
    Settings {
        mailbox: MailboxConfig { messages, sender_bytes: 40_000, readers: 2, reader_days: 1, ..MailboxConfig::default() },
        history: HistoryConfig { retain, messages: history, receipts: 100 },
    }
}

/// The moment so many seconds after the start. Wall and service clock differ by a jump of a year.
pub fn moment(seconds: u64) -> Moment {
    let jump = if seconds > 300 { 365 * 86_400 } else { 0 };
    let wall = 1_800_000_000 + seconds + jump;
    Moment::test(Timestamp::from_unix_micros(i64::try_from(wall).unwrap() * 1_000_000), 1 + seconds)
}

fn user() -> impl Strategy<Value = UserId> {
    (1..5u64).prop_map(UserId)
}

fn device() -> impl Strategy<Value = DeviceId> {
    (1..5u64).prop_map(DeviceId)
}

fn recipient() -> impl Strategy<Value = Recipient> {
    prop_oneof![user().prop_map(Recipient::User), device().prop_map(Recipient::Device), Just(Recipient::All)]
}

fn client() -> impl Strategy<Value = ClientName> {
    prop_oneof![
        3 => Just(ClientName::default()),
        2 => "[ab]".prop_map(|name| ClientName::chosen(&name).unwrap()),
        1 => device().prop_map(ClientName::of_device),
    ]
}

fn authority() -> impl Strategy<Value = Authority> {
    prop_oneof![
        6 => Just(Authority::System),
        1 => (0..4u8).prop_map(|n| Authority::Token(hash(n))),
        1 => (0..4u8).prop_map(|n| Authority::Admin(hash(n))),
        1 => (0..2u8).prop_map(|n| Authority::Password(format!("p{n}"))),
    ]
}

pub fn hash(n: u8) -> TokenHash {
    TokenHash::of(&n.to_string())
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Admin), Just(Role::User)]
}

fn account_change() -> impl Strategy<Value = Change> {
    let create = ("[abAа]{1,2}", role(), 0..2u8, authority()).prop_map(|(username, role, n, authority)| {
        Change::CreateUser(CreateUser { new: NewUser { username, role, password_hash: format!("p{n}") }, authority })
    });
    let change = (user(), any::<Option<bool>>(), proptest::option::of(role()), any::<bool>(), authority());
    let change = change.prop_map(|(id, disabled, role, password, authority)| {
        let change = UserChange { disabled, role, password_hash: password.then(|| "p1".into()) };
        Change::ChangeUser(ChangeUser { id, change, authority })
    });
    let token = (user(), proptest::option::of(device()), 0..6u8, any::<bool>(), 0..3u64, authority());
    let token = token.prop_map(|(user_id, device_id, n, make_room, life, because)| {
        let kind = if device_id.is_some() { TokenKind::Device } else { TokenKind::User };
        let life_seconds = (life > 0).then_some(life * 100);
        let scopes = make_room.then(|| Scope::ALL.into_iter().take(n.into()).collect());
        let (label, hash) = ("t".into(), hash(n));
        let new = NewToken { user_id, device_id, kind, scopes, label, life_seconds, hash, make_room, because };
        Change::CreateToken(CreateToken { new, limit: 3 })
    });
    prop_oneof![
        4 => create,
        2 => change,
        1 => user().prop_map(|id| Change::DeleteUser(DeleteUser { id })),
        3 => token,
        1 => (user(), 1..8u64).prop_map(|(user, id)| Change::DeleteToken(DeleteToken { user, id: TokenId(id) })),
        1 => (0..6u8, device(), 0..900u64).prop_map(|(n, device, at)| {
            Change::Seen(Seen { tokens: vec![(hash(n), moment(at).wall)], devices: vec![(device, moment(at).wall)] })
        }),
    ]
}

fn device_change() -> impl Strategy<Value = Change> {
    let serial = || proptest::option::of("[xy]");
    let create = (user(), serial(), any::<bool>()).prop_map(|(user, serial, primary)| {
        Change::CreateDevice(CreateDevice {
            new: NewDevice { name: "d".into(), serial, model: None, primary, max_bytes: None },
            user,
            limit: 3,
        })
    });
    let users = proptest::option::of(proptest::collection::vec(user(), 1..3));
    let change = (device(), proptest::option::of(serial()), users).prop_map(|(id, serial, users)| {
        Change::ChangeDevice(ChangeDevice { id, change: DeviceChange { serial, users, ..DeviceChange::default() } })
    });
    prop_oneof![
        4 => create,
        3 => change,
        1 => (user(), device(), any::<bool>())
            .prop_map(|(user, device, primary)| Change::SetPrimary(SetPrimary { user, device, primary })),
        1 => (user(), device()).prop_map(|(user, device)| Change::UnbindDevice(UnbindDevice { user, device })),
        1 => device().prop_map(|id| Change::DeleteDevice(DeleteDevice { id })),
    ]
}

/// Imports of a few records, whose sources and positions often fit each other.
fn import_change() -> impl Strategy<Value = Change> {
    let state =
        |n: u8, users_before, devices_before| ImportState { source: hash(n), users_before, devices_before, rows: 4, done: 0 };
    let begin = (0..2u8, 2..5u64, 2..5u64).prop_map(move |(n, users, devices)| {
        let (last_user, last_device) = (UserId(users + 2), DeviceId(devices + 2));
        Change::BeginImport(BeginImport { state: state(n, users, devices), last_user, last_device })
    });
    let created = proptest::option::of((0..900u64).prop_map(|at| moment(at).wall));
    let new_user =
        (3..7u64, "[abcd]{1,2}", role(), any::<bool>(), created).prop_map(|(id, username, role, disabled, created_at)| {
            let (id, password_hash) = (UserId(id), "p0".into());
            Imported::User(ImportedUser { id, username, role, disabled, password_hash, created_at })
        });
    let users = proptest::collection::btree_set(1..7u64, 1..3);
    let new_device = (3..7u64, proptest::option::of("[xyz]"), users, any::<bool>()).prop_map(|(id, serial, users, primary)| {
        let users: Vec<UserId> = users.into_iter().map(UserId).collect();
        let primary_of = if primary { users.clone() } else { Vec::new() };
        let (id, name, model, created_at) = (DeviceId(id), "d".into(), None, None);
        Imported::Device(ImportedDevice { id, name, serial, model, created_at, users, primary_of })
    });
    let new_token = (0..6u8, 1..7u64)
        .prop_map(|(n, user)| Imported::Token(ImportedToken { hash: hash(n), user: UserId(user), created_at: None }));
    let row = prop_oneof![2 => new_user, 1 => new_device, 1 => new_token];
    let rows = (0..2u8, 0..3u64, proptest::collection::vec(row, 0..4));
    prop_oneof![
        1 => begin,
        2 => rows.prop_map(|(n, from, rows)| Change::Import(Import { source: hash(n), from, rows })),
        1 => (user(), 0..2u8, 0..2u8).prop_map(|(id, from, to)| {
            Change::Rehash(Rehash { id, from: format!("p{from}"), to: format!("p{to}") })
        }),
    ]
}

/// A message to somebody.
pub fn message() -> impl Strategy<Value = Change> {
    let size = prop_oneof![9 => 0..50usize, 1 => Just(14_000)];
    let append = (recipient(), size, 1..200u64, proptest::option::of(0..4u8), 1..4u64, any::<bool>());
    append.prop_map(|(recipient, size, ttl, key, sender, privileged)| {
        let sender = UserId(sender);
        let object = JsonObject::new(&serde_json::json!({ "m": "x".repeat(size) })).unwrap();
        let key = key.map(|n| {
            IdempotencyKey::new(sender, &n.to_string(), &[u8::from(size > 25)], Answer { timestamp: None, recipients: 3 })
        });
        Change::Append(Append { recipient, sender, object, ttl, key, privileged })
    })
}

/// Proofs of receipt for messages with ids below that.
pub fn proof(ids: u64) -> impl Strategy<Value = Change> {
    let id = move || (0..ids).prop_map(MessageId);
    let passed = proptest::collection::btree_set(id(), 0..3);
    let ack = (user(), client(), proptest::option::of(device()), id(), id(), passed);
    let ack = ack.prop_map(|(user, client, device, upto, told, passed)| Ack {
        user,
        client,
        device,
        upto,
        told,
        told_broadcasts: told,
        passed: passed.into_iter().collect(),
    });
    let keep = proptest::collection::vec((recipient(), proptest::option::of(id())), 0..2);
    (proptest::collection::vec(ack, 1..4), keep).prop_map(|(acks, keep)| Change::Acknowledge(Acknowledge { acks, keep }))
}

fn log_change() -> impl Strategy<Value = Change> {
    let id = || (0..40u64).prop_map(MessageId);
    let reader = || (user(), client());
    let reader = prop_oneof![
        6 => reader().prop_map(|(user, client)| Change::JoinReader(JoinReader { user, client })),
        1 => reader().prop_map(|(user, client)| Change::ForgetReader(ForgetReader { user, client })),
        1 => reader().prop_map(|reader| Change::TouchReaders(TouchReaders { readers: vec![reader] })),
    ];
    prop_oneof![
        8 => message(),
        6 => proof(40),
        4 => reader,
        1 => (recipient(), id()).prop_map(|(recipient, id)| Change::Cancel(Cancel { recipient, id })),
        2 => Just(Change::Expire(Expire {})),
        2 => Just(Change::Tick(Tick { observed: None })),
        1 => recipient().prop_map(|recipient| Change::Clear(Clear { recipient })),
        1 => (1..24usize, 0..4usize, 0..150u64).prop_map(|(m, h, retain)| Change::Settings(settings(m, h, retain))),
    ]
}

fn other_change() -> impl Strategy<Value = Change> {
    let observe = ("[ab]", 0..900u64).prop_map(|(city, at)| {
        let observation =
            Observation { temp: "1".into(), text: String::new(), icon: "100".into(), at: moment(at).wall, reporter: None };
        Change::Observe(Observe { city, observation })
    });
    let catalog = proptest::collection::vec("[ab]{1,2}", 0..3).prop_map(|names| {
        let entry = |name| CatalogEntry { name, artist: None, style: None };
        Change::SetCatalog(SetCatalog { catalog: Catalog::Songs, entries: names.into_iter().map(entry).collect() })
    });
    let audit = proptest::collection::vec((proptest::option::of(user()), "[ab]"), 1..4).prop_map(|entries| {
        let entry = |(user, event): (Option<UserId>, String)| AuditRecord {
            at: moment(0).wall,
            event,
            user,
            subject: None,
            name: None,
            address: None,
            details: BTreeMap::new(),
        };
        Change::RecordAudit(RecordAudit { entries: entries.into_iter().map(entry).collect(), keep: 5 })
    });
    prop_oneof![observe, catalog, audit, any::<bool>().prop_map(|write| Change::Probe(Probe { write }))]
}

/// Tickets, links and pairings.
fn secret_change() -> impl Strategy<Value = Change> {
    let grant = prop_oneof![(0..4u8).prop_map(|n| Grant::Token(hash(n))), Just(Grant::LogIn { password_hash: "p0".into() })];
    let open = (0..6u8, user(), grant);
    let open = open.prop_map(|(n, user, grant)| Change::OpenPass(OpenPass { secret: hash(n), user, grant }));
    let begin = (0..6u8, proptest::collection::vec("[ABC]", 1..3), proptest::option::of("[xy]"));
    let begin = begin.prop_map(|(n, codes, serial)| {
        let device = DeviceInfo { name: None, serial, model: None };
        Change::BeginPairing(BeginPairing { device_code: hash(n), codes, device, from: "192.0.2.1".into() })
    });
    let claim = ("[ABCD]", user(), user(), proptest::option::of(any::<bool>()));
    let claim = claim.prop_map(|(code, by, user, primary)| {
        Change::ClaimPairing(ClaimPairing { code, by, user, name: None, primary, limit: 3 })
    });
    let collect = (0..6u8, 6..12u8)
        .prop_map(|(n, secret)| Change::CollectPairing(CollectPairing { device_code: hash(n), secret: hash(secret), limit: 3 }));
    prop_oneof![
        3 => open,
        2 => (0..6u8).prop_map(|n| Change::RedeemPass(RedeemPass { secret: hash(n) })),
        1 => Just(Change::ForgetPasses(ForgetPasses {})),
        3 => begin,
        3 => claim,
        3 => collect,
    ]
}

/// Any operation.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![3 => account_change(), 3 => device_change(), 2 => import_change(), 9 => log_change(), 2 => other_change(), 3 => secret_change()]
}

/// Accounts and devices that most operations need.
pub fn beginning() -> Vec<Change> {
    let user = |n: usize| {
        let role = if n == 0 { Role::Admin } else { Role::User };
        let new = NewUser { username: format!("first{n}"), role, password_hash: "p0".into() };
        Change::CreateUser(CreateUser { new, authority: Authority::System })
    };
    let device = |n: u64| {
        let new = NewDevice { name: "d".into(), serial: None, model: None, primary: true, max_bytes: None };
        Change::CreateDevice(CreateDevice { new, user: UserId(n), limit: 0 })
    };
    (0..2).map(user).chain((1..3).map(device)).collect()
}
