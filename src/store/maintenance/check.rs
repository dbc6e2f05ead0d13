//! Verification of every record.
//!
//! Some trees repeat the content of others under another key: they are *derived*. A damaged store is rewritten from the records
//! of the other trees; unreadable records are left behind, and the derived trees are rebuilt.
//!
//! Remains of a crash that the next start removes (pieces without a message, mailboxes of deleted users) are no finding.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sled::Tree;

use super::migrate::must_migrate;
use super::names::OldNames;
use super::scan::{is_over, newest_message, readable};
use super::watch::Watch;
use crate::core::hex::hex;
use crate::core::ids::{AuditId, DeviceId, MessageId, Recipient, UserId};
use crate::store::log::{Log, read_payload};
use crate::store::meta::MetaKey;
use crate::store::records::{
    AuditRecord, BlockBuilder, CatalogEntry, CatalogKey, Device, Earlier, Guesses, Head, Minute, Observation, OnlineDevices,
    PageNumber, Pairing, Pass, Place, ReceiptPage, Sample, Slot, Stored, Token, TokenHash, User, fold_name, read_block,
};
use crate::store::staging::{CACHE_BYTES, lock, recover};
use crate::store::table::{DecodeKey, Key, Value};
use crate::store::trees::Trees;
use crate::store::{Loss, Result, SCHEMA, Store, StoreError, engine};

/// The most findings that are listed one by one.
const MAX_LISTED_FINDINGS: usize = 1000;
/// The names of the derived trees.
const DERIVED: [&str; 5] = ["user_names", "serials", "device_users", "user_tokens", "token_ids"];

/// The name of sled's log in findings, which is no tree.
pub(super) const LOG: &str = "log";

/// A damaged record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of its tree.
    pub tree: &'static str,
    /// Its key, in hexadecimal; empty where the tree itself can't be read.
    pub key: String,
    /// The damage, for people.
    pub what: String,
}

/// The result of a verification.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Records read.
    pub records: u64,
    /// The number of findings.
    pub wrong: u64,
    /// The first findings, at most 1,000.
    pub findings: Vec<Finding>,
    /// Names and texts that today's rules refuse; those of a store that is repaired are not looked for.
    pub names: OldNames,
    /// After a repair: the directory of the damaged store and of the list of records left behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<PathBuf>,
}

impl Findings {
    pub(super) fn add(&mut self, tree: &'static str, key: &[u8], what: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < MAX_LISTED_FINDINGS {
            self.findings.push(Finding { tree, key: hex(key), what: what.into() });
        }
    }
}

/// The description of a damaged record.
type Verdict = std::result::Result<(), String>;

/// Returns whether a record of a tree that is not derived can be read and agrees with the others; `newest` is the newest message.
fn verify_record(trees: &Trees, newest: MessageId, name: &str, key: &[u8], value: &[u8]) -> Result<Verdict> {
    fn reads<K: DecodeKey, V: Value>(key: &[u8], value: &[u8]) -> bool {
        K::decode(key).is_some() && V::decode(value).is_some()
    }
    let readable = |good: bool| if good { Ok(()) } else { Err("can't be read".to_owned()) };
    // A record that is referred to must be good itself: an unreadable one will not be there after a repair.
    let user = |id: &[u8]| good(trees, newest, "users", trees.users.tree(), id);
    let device = |id: &[u8]| good(trees, newest, "devices", trees.devices.tree(), id);
    let bound = |key: &[u8]| good(trees, newest, "user_devices", trees.user_devices.tree(), key);
    Ok(match name {
        "meta" => readable(
            MetaKey::ALL.iter().find(|known| known.name().as_bytes() == key).map_or(value.len() == 8, |k| k.accepts(value)),
        ),
        "users" => readable(User::decode(value).is_some_and(|user| user.id.to_key() == key)),
        "devices" => readable(Device::decode(value).is_some_and(|device| device.id.to_key() == key)),
        "observations" => readable(std::str::from_utf8(key).is_ok() && Observation::decode(value).is_some()),
        "repertoire" => readable(reads::<CatalogKey, CatalogEntry>(key, value)),
        "user_devices" if key.len() == 16 => match user(&key[..8])? && device(&key[8..])? {
            true => Ok(()),
            false => Err("binds a user or a device that does not exist".into()),
        },
        "primaries" => match bound(&[key, value].concat())? {
            true => Ok(()),
            false => Err("is not bound to its user".into()),
        },
        "tokens" => match Token::decode(value) {
            Some(token) if key.len() == 32 => match user(&token.user_id.to_key())? {
                true => Ok(()),
                false => Err("belongs to a user that does not exist".into()),
            },
            _ => readable(false),
        },
        "blocks" => verify_block(trees, key, value)?,
        "pieces" => readable(<(MessageId, u16)>::decode(key).is_some()),
        "places" => match (Recipient::from_key(key), Place::decode(value)) {
            (Some(_), Some(place)) if place.front <= newest || is_later(trees, place.front) => Ok(()),
            (Some(_), Some(_)) => Err("is beyond the newest message".into()),
            _ => readable(false),
        },
        "receipt_pages" => readable(reads::<PageNumber, ReceiptPage>(key, value)),
        "idempotency" => readable(reads::<[u8; 32], Earlier>(key, value)),
        "audit" => readable(reads::<AuditId, AuditRecord>(key, value)),
        "samples" => readable(reads::<Minute, Sample>(key, value)),
        "online" => readable(reads::<Slot, OnlineDevices>(key, value)),
        "passes" => readable(reads::<TokenHash, Pass>(key, value)),
        "pairings" => readable(reads::<TokenHash, Pairing>(key, value)),
        "guesses" => readable(reads::<UserId, Guesses>(key, value)),
        "cluster" => readable(serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok()),
        _ => readable(false),
    })
}

/// Returns whether a place is at a message that was sent since the verification began.
fn is_later(trees: &Trees, front: MessageId) -> bool {
    Log::new(trees).newest_given().is_ok_and(|newest| front <= newest)
}

/// Returns whether a tree has a good record under that key.
fn good(trees: &Trees, newest: MessageId, name: &str, tree: &Tree, key: &[u8]) -> Result<bool> {
    tree.get(key)?.map_or(Ok(false), |record| Ok(verify_record(trees, newest, name, key, &record)?.is_ok()))
}

/// Returns the damage of a message, if any.
fn damage_of(trees: &Trees, head: &Head, inline: &[u8]) -> Result<Option<&'static str>> {
    let payload = read_payload(trees, head, inline)?;
    Ok(if payload.is_empty() && is_over(trees, head)? {
        None // it is in the block of others that are of use still
    } else if payload.len() != head.length as usize {
        Some("is not whole")
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_err() {
        Some("is no JSON")
    } else {
        None
    })
}

/// Returns whether all messages of a block are whole.
fn verify_block(trees: &Trees, key: &[u8], block: &[u8]) -> Result<Verdict> {
    let unreadable = || Ok(Err("can't be read".into()));
    let (Some(first), Some(messages)) = (MessageId::from_key(key), read_block(block)) else { return unreadable() };
    for message in messages {
        let Some((head, inline)) = message.filter(|(head, _)| head.id >= first) else { return unreadable() };
        if let Some(damage) = damage_of(trees, &head, inline)? {
            return Ok(Err(format!("message {} {damage}", head.id)));
        }
    }
    Ok(Ok(()))
}

/// Returns a damaged block without its damaged messages; `None` where nothing is left.
fn salvaged(trees: &Trees, key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = BlockBuilder::new(MessageId::from_key(key)?);
    for (head, inline) in read_block(block)?.flatten() {
        if damage_of(trees, &head, inline).is_ok_and(|damage| damage.is_none()) {
            rest.push(&Stored { head, payload: inline.to_vec() });
        }
    }
    (rest.count > 0).then(|| rest.finish())
}

/// An entry of a derived tree.
pub(super) struct Derived<'a> {
    pub(super) tree: &'a Tree,
    name: &'static str,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Returns the entries that derived trees, in the trees of `of`, have of a readable record.
pub(super) fn derived<'a>(of: &'a Trees, name: &str, key: &[u8], value: &[u8]) -> Vec<Derived<'a>> {
    let entry = |tree: &'a Tree, name, key: &[u8], value: &[u8]| Derived { tree, name, key: key.to_vec(), value: value.to_vec() };
    match name {
        "users" => {
            let user = User::decode(value).into_iter();
            user.map(|user| entry(of.user_names.tree(), "user_names", fold_name(&user.username).as_bytes(), key)).collect()
        }
        "devices" => {
            let serial = Device::decode(value).and_then(|device| device.serial).into_iter();
            serial.map(|serial| entry(of.serials.tree(), "serials", serial.as_bytes(), key)).collect()
        }
        "user_devices" => {
            let pair = <(UserId, DeviceId)>::decode(key).into_iter();
            pair.map(|(user, device)| entry(of.device_users.tree(), "device_users", &(device, user).encode(), &[])).collect()
        }
        "tokens" => Token::decode(value).map_or_else(Vec::new, |token| {
            let owner = entry(of.user_tokens.tree(), "user_tokens", &(token.user_id, token.id).encode(), key);
            vec![owner, entry(of.token_ids.tree(), "token_ids", &token.id.to_key(), key)]
        }),
        _ => Vec::new(),
    }
}

/// Returns the record that an entry of a derived tree repeats: its tree's name, its tree and its key.
fn origin<'a>(trees: &'a Trees, name: &str, key: &[u8], value: &[u8]) -> Option<(&'static str, &'a Tree, Vec<u8>)> {
    Some(match name {
        "user_names" => ("users", trees.users.tree(), value.to_vec()),
        "serials" => ("devices", trees.devices.tree(), value.to_vec()),
        "device_users" => {
            let (device, user) = <(DeviceId, UserId)>::decode(key)?;
            ("user_devices", trees.user_devices.tree(), (user, device).encode().to_vec())
        }
        "user_tokens" | "token_ids" => ("tokens", trees.tokens.tree(), value.to_vec()),
        _ => return None,
    })
}

/// Reads everything, and passes each good record that is not derived to `keep`, each damaged one to `lose`.
pub(super) fn walk(
    trees: &Trees,
    watch: Watch<'_>,
    mut keep: impl FnMut(&'static str, &[u8], &[u8]) -> Result<()>,
    mut lose: impl FnMut(&'static str, &[u8], &[u8], &str) -> Result<()>,
) -> Result<Findings> {
    let (mut found, newest) = (Findings::default(), newest_message(trees));
    let all = Trees::NAMES.iter().zip(trees.all());
    let of = all.len();
    for (number, (&name, tree)) in (1..).zip(all) {
        let (broken, entries) = readable(tree);
        if let Some(what) = broken {
            found.add(name, &[], what);
        }
        for (key, value) in entries {
            watch.at(name, number, of, found.records)?;
            found.records += 1;
            if DERIVED.contains(&name) {
                if let Some(what) = verify_derived(trees, name, &key, &value).unwrap_or(Some("lists a record that can't be read"))
                {
                    found.add(name, &key, what);
                }
                continue;
            }
            // Damage further down is a finding, too, and no reason to stop.
            let verdict = verify_record(trees, newest, name, &key, &value);
            match verdict.unwrap_or_else(|error| Err(format!("depends on a record that can't be read: {error}"))) {
                Ok(()) => keep(name, &key, &value)?,
                Err(what) => {
                    lose(name, &key, &value, &what)?;
                    found.add(name, &key, what);
                    if let Some(rest) = salvaged(trees, &key, &value).filter(|_| name == "blocks") {
                        keep(name, &key, &rest)?;
                    }
                    continue;
                }
            }
            for listed in derived(trees, name, &key, &value) {
                if listed.tree.get(&listed.key).ok().flatten().is_none_or(|is| is != listed.value) {
                    found.add(name, &key, format!("is not listed in {}", listed.name));
                }
            }
        }
    }
    Ok(found)
}

/// Returns the damage of an entry of a derived tree, if any.
fn verify_derived(trees: &Trees, name: &'static str, key: &[u8], value: &[u8]) -> Result<Option<&'static str>> {
    let wrong = Some("lists a record that is not there");
    let Some((of, tree, at)) = origin(trees, name, key, value) else { return Ok(wrong) };
    Ok(match tree.get(&at)? {
        None => wrong,
        Some(record) => {
            let listed = derived(trees, of, &at, &record).into_iter().any(|d| d.name == name && d.key == key && d.value == value);
            if listed { None } else { wrong }
        }
    })
}

impl Store {
    /// Verifies every record while the store is used. Reads all of them: blocks, for some seconds a million.
    ///
    /// # Errors
    /// If the store fails; [`StoreError::Interrupted`].
    pub fn check(&self, watch: Watch<'_>) -> Result<Findings> {
        let verify = || walk(&self.trees, watch, |_, _, _| Ok(()), |_, _, _, _| Ok(()));
        let mut found = verify()?;
        if found.wrong > 0 {
            // A record in the middle of a change at the first reading is not at the second.
            let again = verify()?;
            found.findings.retain(|finding| again.findings.contains(finding));
            let unlisted = again.wrong.saturating_sub(again.findings.len() as u64);
            found.wrong = found.findings.len() as u64 + unlisted;
        }
        if let Some(loss) = self.loss() {
            found.add(LOG, &[], loss.description());
        }
        Ok(found.with_names(&self.trees))
    }
}

/// Opens the store at `path`, which no process has open, for verification.
pub(super) fn open(path: &Path) -> Result<(sled::Db, Trees)> {
    recover(path)?;
    trees_of(engine::open(path, CACHE_BYTES)?)
}

/// Returns the database with its trees, where it is a store of today's layout.
pub(super) fn trees_of(db: sled::Db) -> Result<(sled::Db, Trees)> {
    if must_migrate(&db)? {
        return Err(StoreError::Older); // before its trees are opened, which would add today's
    }
    let trees = Trees::open(&db, 0)?;
    match trees.schema()? {
        None => Err(StoreError::Unreadable("its log is damaged from the start".into())),
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        Some(SCHEMA) => Ok((db, trees)),
        Some(_) => Err(StoreError::Older),
    }
}

/// Verifies every record of the store at `path`, which no process has open. Blocks.
///
/// # Errors
/// If the store can't be opened at all; [`StoreError::Interrupted`].
pub fn check(path: &Path, watch: Watch<'_>) -> Result<Findings> {
    let _lock = lock(path)?;
    let (_db, trees) = open(path)?;
    let mut found = walk(&trees, watch, |_, _, _| Ok(()), |_, _, _, _| Ok(()))?;
    if let Some(loss) = Loss::peek(&trees, path)? {
        found.add(LOG, &[], loss.description());
    }
    Ok(found.with_names(&trees))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::lifetime::Present;
    use crate::core::time::Timestamp;
    use crate::store::accounts::write::{create_device, create_token, create_user};
    use crate::store::tests::fresh;
    use crate::store::{NewDevice, NewToken, NewUser, Role, TokenHash};
    use crate::store::{QUARANTINE, repair};

    pub(crate) fn user(store: &Store, name: &str) -> UserId {
        let new = NewUser { username: name.into(), role: Role::User, password_hash: "x".into() };
        create_user(store.trees(), new, Timestamp::now(), MessageId(0)).unwrap().id
    }

    /// Two users, a device with a token, a short message and a long one.
    pub(crate) fn fill(store: &Store) {
        for name in ["ana", "bob"] {
            user(store, name);
        }
        let (trees, now) = (store.trees(), Timestamp::now());
        let new = NewDevice { name: "lamp".into(), serial: Some("s1".into()), model: None, primary: true, max_bytes: None };
        create_device(trees, new, UserId(1), 0, now).unwrap();
        create_token(trees, NewToken::login(UserId(1), TokenHash::of("t")), 9, &Present::at(now)).unwrap();
        let (log, to) = (store.log(), Recipient::User(UserId(1)));
        let mut block = BlockBuilder::new(MessageId(1));
        for (id, size) in [(1, 10), (2, 40_000)] {
            let payload = format!("\"{}\"", "x".repeat(size)).into_bytes();
            let length = u32::try_from(payload.len()).unwrap();
            let head = Head { id: MessageId(id), recipient: to, sender: UserId(2), expires: 99, ttl: 9, created: now, length };
            let message = Stored { head, payload };
            log.write_pieces(&message).unwrap();
            block.push(&message);
        }
        log.write_block(MessageId(1), block.finish(), &[]).unwrap();
        log.set_place(to, &Place { front: MessageId(1), ..Place::default() }).unwrap();
        log.set_receipts(PageNumber(0), &ReceiptPage::default()).unwrap();
    }

    #[test]
    fn good_store_has_no_findings_and_is_not_rewritten() {
        let (dir, store) = fresh();
        fill(&store);
        assert_eq!(store.check(Watch::NONE).unwrap().findings, []);
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        assert_eq!(check(&path, Watch::NONE).unwrap(), repair(&path, Watch::NONE).unwrap());
        assert!(!dir.path().join(QUARANTINE).exists());
    }
}
