//! Looking whether every record can be read and fits the others, and keeping what can.
//!
//! Some trees say again what others say, so that it is found by another key: they are *derived*. A damaged store is written
//! anew from the records of the others; what can't be read stays behind, and the derived trees are made from what is there.
//!
//! What a crash may leave and the next start tidies up (pieces without a message, mailboxes of somebody who has gone) is no
//! finding.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sled::Tree;

use super::catalogue::{Trees, decode, device_user, number, second, user_device};
use super::draft::{CACHE_BYTES, Draft, settle, swap, turn};
use super::messages::{Head, piece_bytes, read_key};
use super::users::name_key;
use super::{CatalogEntry, Device, Earlier, Observation, Reader, Result, SCHEMA, Store, StoreError, Token, User, engine};
use crate::core::hex::hex;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;

/// How many findings are told one by one.
const MOST_TOLD: usize = 1000;
/// Where what could not be read is put, in the data directory.
pub const QUARANTINE: &str = "quarantine";
/// The trees that say nothing of their own.
const DERIVED: [&str; 6] = ["user_names", "serials", "device_users", "user_tokens", "token_ids", "message_ids"];

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub tree: &'static str,
    /// Of the record, in hexadecimal; empty where the tree itself can't be read.
    pub key: String,
    /// For people.
    pub what: String,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Records that were looked at.
    pub records: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Where the store as it was is now, with a list of what could not be read, after a repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<PathBuf>,
}

impl Findings {
    fn add(&mut self, tree: &'static str, key: &[u8], what: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < MOST_TOLD {
            self.findings.push(Finding { tree, key: hex(key), what: what.into() });
        }
    }
}

/// Why a record is not as it should be.
type Verdict = std::result::Result<(), String>;

/// Whether a record of a tree that is not derived can be read and fits the others.
fn judge(trees: &Trees, name: &str, key: &[u8], value: &[u8]) -> Result<Verdict> {
    let readable = |good: bool| if good { Ok(()) } else { Err("can't be read".to_owned()) };
    let long = |bytes: &[u8]| bytes.len() == 8;
    // What is referred to must be good itself: what can't be read will not be there after a repair.
    let user = |id: &[u8]| good(trees, "users", &trees.users, id);
    let device = |id: &[u8]| good(trees, "devices", &trees.devices, id);
    let bound = |key: &[u8]| good(trees, "user_devices", &trees.user_devices, key);
    Ok(match name {
        "meta" if key == b"epoch" => readable(std::str::from_utf8(value).is_ok()),
        "meta" => readable(long(value)),
        "users" => readable(decode::<User>(value, "users").is_ok_and(|user| user.id.to_key() == key)),
        "devices" => readable(decode::<Device>(value, "devices").is_ok_and(|device| device.id.to_key() == key)),
        "observations" => readable(std::str::from_utf8(key).is_ok() && decode::<Observation>(value, "observations").is_ok()),
        "repertoire" => readable(decode::<CatalogEntry>(value, "repertoire").is_ok()),
        "user_devices" if key.len() == 16 => match user(&key[..8])? && device(&key[8..])? {
            true => Ok(()),
            false => Err("binds somebody or something that is not there".into()),
        },
        "primaries" => match bound(&[key, value].concat())? {
            true => Ok(()),
            false => Err("is not bound to its user".into()),
        },
        "tokens" => match decode::<Token>(value, "tokens") {
            Err(_) => readable(false),
            Ok(_) if key.len() != 32 => readable(false),
            Ok(token) if !user(&token.user_id.to_key())? => Err("is of nobody".into()),
            Ok(_) => Ok(()),
        },
        "mailbox" => judge_message(trees, key, value)?,
        "pieces" => readable(key.len() == 10),
        "cursors" => match (Reader::from_key(key), MessageId::from_key(value)) {
            (Some(_), Some(upto)) if upto.0 <= newest_id(trees)? => Ok(()),
            (Some(_), Some(_)) => Err("is beyond the newest message".into()),
            _ => readable(false),
        },
        "receipts" => readable(read_key(key).is_some() && long(value)),
        "purged" => readable(Recipient::from_key(key).is_some() && long(value)),
        "idempotency" => readable(key.len() == 32 && Earlier::decode(value).is_ok()),
        _ => readable(false),
    })
}

/// Whether a tree has a good record under that key.
fn good(trees: &Trees, name: &str, tree: &Tree, key: &[u8]) -> Result<bool> {
    tree.get(key)?.map_or(Ok(false), |record| Ok(judge(trees, name, key, &record)?.is_ok()))
}

/// The highest id that can have been given.
fn newest_id(trees: &Trees) -> Result<u64> {
    trees.meta.get("message_ids_reserved")?.map_or(Ok(0), |bytes| number(&bytes, "meta"))
}

/// Whether a message is whole.
fn judge_message(trees: &Trees, key: &[u8], record: &[u8]) -> Result<Verdict> {
    let Some((_, id)) = read_key(key) else { return Ok(Err("can't be read".into())) };
    let Some((head, inline)) = Head::read(id, record) else { return Ok(Err("can't be read".into())) };
    let payload = if inline.is_empty() { piece_bytes(trees, id)? } else { inline.to_vec() };
    Ok(if payload.len() != head.length as usize {
        Err("is not whole".into())
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_err() {
        Err("is no JSON".into())
    } else {
        Ok(())
    })
}

/// An entry of a derived tree.
struct Derived<'a> {
    tree: &'a Tree,
    name: &'static str,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What derived trees say of a record that can be read, in the trees of `of`.
fn derived<'a>(of: &'a Trees, name: &str, key: &[u8], value: &[u8]) -> Vec<Derived<'a>> {
    let entry = |tree: &'a Tree, name, key: Vec<u8>, value: &[u8]| Derived { tree, name, key, value: value.to_vec() };
    match name {
        "users" => decode::<User>(value, "users")
            .map_or_else(|_| Vec::new(), |user| vec![entry(&of.user_names, "user_names", name_key(&user.username), key)]),
        "devices" => {
            let serial = decode::<Device>(value, "devices").ok().and_then(|device| device.serial);
            serial.into_iter().map(|serial| entry(&of.serials, "serials", serial.into_bytes(), key)).collect()
        }
        "user_devices" => match (UserId::from_key(key.get(..8).unwrap_or_default()), second(key)) {
            (Some(user), Some(device)) => {
                vec![entry(&of.device_users, "device_users", device_user(DeviceId(device), user).to_vec(), &[])]
            }
            _ => Vec::new(),
        },
        "tokens" => decode::<Token>(value, "tokens").map_or_else(
            |_| Vec::new(),
            |token| {
                let owner = entry(&of.user_tokens, "user_tokens", token.owner_key().to_vec(), key);
                vec![owner, entry(&of.token_ids, "token_ids", token.id.to_key().to_vec(), key)]
            },
        ),
        "mailbox" => read_key(key).map_or_else(Vec::new, |(recipient, id)| {
            vec![entry(&of.message_ids, "message_ids", id.to_key().to_vec(), &recipient.to_key())]
        }),
        _ => Vec::new(),
    }
}

/// The record that an entry of a derived tree is of: its tree's name, its tree and its key.
fn origin<'a>(trees: &'a Trees, name: &str, key: &[u8], value: &[u8]) -> Option<(&'static str, &'a Tree, Vec<u8>)> {
    Some(match name {
        "user_names" => ("users", &trees.users, value.to_vec()),
        "serials" => ("devices", &trees.devices, value.to_vec()),
        "device_users" => {
            let (device, user) = (DeviceId::from_key(key.get(..8)?)?, UserId(second(key)?));
            ("user_devices", &trees.user_devices, user_device(user, device).to_vec())
        }
        "user_tokens" | "token_ids" => ("tokens", &trees.tokens, value.to_vec()),
        _ => ("mailbox", &trees.mailbox, [value, key].concat()),
    })
}

/// Looks at everything, and hands each good record that is not derived to `keep`, each bad one to `lose`.
fn walk(
    trees: &Trees,
    mut keep: impl FnMut(&'static str, &[u8], &[u8]) -> Result<()>,
    mut lose: impl FnMut(&'static str, &[u8], &[u8], &str) -> Result<()>,
) -> Result<Findings> {
    let mut found = Findings::default();
    for (&name, tree) in Trees::NAMES.iter().zip(trees.all()) {
        let (broken, entries) = readable(tree);
        if let Some(what) = broken {
            found.add(name, &[], what);
        }
        for (key, value) in entries {
            found.records += 1;
            if DERIVED.contains(&name) {
                if let Some(what) = stray(trees, name, &key, &value).unwrap_or(Some("lists what can't be read")) {
                    found.add(name, &key, what);
                }
                continue;
            }
            // Damage further down is a finding, too, and no reason to stop.
            let verdict = judge(trees, name, &key, &value);
            match verdict.unwrap_or_else(|error| Err(format!("hangs on what can't be read: {error}"))) {
                Ok(()) => keep(name, &key, &value)?,
                Err(what) => {
                    lose(name, &key, &value, &what)?;
                    found.add(name, &key, what);
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

/// What is wrong with an entry of a derived tree.
fn stray(trees: &Trees, name: &'static str, key: &[u8], value: &[u8]) -> Result<Option<&'static str>> {
    let wrong = Some("lists what is not there");
    let Some((of, tree, at)) = origin(trees, name, key, value) else { return Ok(wrong) };
    Ok(match tree.get(&at)? {
        // A message that was being written or removed.
        None if name == "message_ids" => None,
        None => wrong,
        Some(record) => {
            let listed = derived(trees, of, &at, &record).into_iter().any(|d| d.name == name && d.key == key && d.value == value);
            if listed { None } else { wrong }
        }
    })
}

/// All entries of a tree that can be reached: from its begin and, where that breaks off, from its end; and why it broke off.
fn readable(tree: &Tree) -> (Option<String>, impl Iterator<Item = (sled::IVec, sled::IVec)>) {
    // A look at the keys alone, first: where a page can't be read, it is met from both sides.
    let (mut last, mut broken) = (sled::IVec::default(), None);
    for entry in tree.iter().keys() {
        match entry {
            Ok(key) => last = key,
            Err(error) => {
                broken = Some(format!("can't be read in the middle: {error}"));
                break;
            }
        }
    }
    let (mut upto, mut tail) = (None, None);
    if broken.is_some() {
        let after = tree.iter().keys().rev().map_while(std::result::Result::ok).take_while(|key| *key > last).last();
        tail = after.map(|after| tree.range(after..));
        upto = Some(last);
    }
    let head = tree.iter().take_while(move |entry| match (entry, &upto) {
        (Ok((key, _)), Some(upto)) => key <= upto,
        (entry, _) => entry.is_ok(),
    });
    (broken, head.chain(tail.into_iter().flatten()).map_while(std::result::Result::ok))
}

impl Store {
    /// Looks at every record while others go on. Reads all of them: blocks, for some seconds a million.
    ///
    /// # Errors
    /// When the store fails.
    pub fn check(&self) -> Result<Findings> {
        let look = || walk(&self.trees, |_, _, _| Ok(()), |_, _, _, _| Ok(()));
        let mut found = look()?;
        if found.wrong > 0 {
            // What was in the middle of a change at the first look is not at the second.
            let again = look()?;
            found.findings.retain(|finding| again.findings.contains(finding));
            let untold = again.wrong.saturating_sub(again.findings.len() as u64);
            found.wrong = found.findings.len() as u64 + untold;
        }
        Ok(found)
    }
}

/// Opens the store at `path` for a look; nobody else has it open.
fn open(path: &Path) -> Result<(sled::Db, Trees)> {
    settle(path)?;
    let db = engine(path, CACHE_BYTES)?;
    let trees = Trees::open(&db)?;
    match trees.schema()? {
        None => Err(StoreError::Unreadable("its log is damaged from the start".into())),
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        Some(SCHEMA) => Ok((db, trees)),
        Some(_) => Err(StoreError::Older),
    }
}

/// Looks at every record of the store at `path`, which nobody has open. Blocks.
///
/// # Errors
/// When the store can't be opened at all.
pub fn check(path: &Path) -> Result<Findings> {
    let _turn = turn(path)?;
    let (_db, trees) = open(path)?;
    walk(&trees, |_, _, _| Ok(()), |_, _, _, _| Ok(()))
}

/// The same, and where something is wrong writes the store anew from what can be read. The store as it was, and a list of what
/// was left behind, go into quarantine. Blocks.
///
/// # Errors
/// When the store can't be opened at all, or the new one not be written: all is as it was then.
pub fn repair(path: &Path) -> Result<Findings> {
    let _turn = turn(path)?;
    let (db, trees) = open(path)?;
    let looked = walk(&trees, |_, _, _| Ok(()), |_, _, _, _| Ok(()))?;
    if looked.wrong == 0 {
        return Ok(looked);
    }
    let place = path.with_file_name(QUARANTINE).join(Timestamp::now().unix_micros().to_string());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
    let mut list = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.join("left-behind.jsonl"))?;
    let mut draft = Draft::begin(path)?;
    let mut kept: Vec<(&'static str, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut found = walk(
        &trees,
        |name, key, value| {
            kept.push((name, key.to_vec(), value.to_vec()));
            if kept.len() == 1000 { keep(&mut draft, &mut kept) } else { Ok(()) }
        },
        |tree, key, value, what| {
            #[derive(Serialize)]
            struct Line<'a> {
                tree: &'a str,
                key: String,
                value: String,
                what: &'a str,
            }
            let line = serde_json::to_string(&Line { tree, key: hex(key), value: hex(value), what });
            Ok(writeln!(list, "{}", line.map_err(std::io::Error::other)?)?)
        },
    )?;
    keep(&mut draft, &mut kept)?;
    list.sync_all()?;
    if draft.trees.epoch()?.is_none() {
        draft.trees.new_epoch()?; // it was among what could not be read
    }
    draft.trees.set_schema(SCHEMA)?;
    draft.complete()?;
    drop(trees);
    drop(db);
    swap(path, Some(&place.join("store")))?;
    found.quarantine = Some(place);
    Ok(found)
}

/// Writes records, and what is derived from them, into the draft.
fn keep(draft: &mut Draft, records: &mut Vec<(&'static str, Vec<u8>, Vec<u8>)>) -> Result<()> {
    let trees: Vec<Tree> = draft.trees.all().into_iter().cloned().collect();
    for (name, key, value) in records.drain(..) {
        let Some(tree) = Trees::NAMES.iter().position(|&n| n == name).and_then(|n| trees.get(n)) else { continue };
        draft.put(tree, &key, &value)?;
        for listed in derived(&draft.trees, name, &key, &value) {
            listed.tree.insert(listed.key, listed.value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::TokenId;
    use crate::store::tests::fresh;
    use crate::store::{Authority, NewDevice, NewToken, NewUser, Role, Stored, TokenHash};

    /// Two users, a device with a token, a short message and a long one.
    async fn filled(store: &Store) {
        for name in ["ana", "bob"] {
            let new = NewUser { username: name.into(), role: Role::User, password_hash: "x".into() };
            store.create_user(new, Authority::System).await.unwrap();
        }
        let new = NewDevice { name: "lamp".into(), serial: Some("s1".into()), model: None, primary: true };
        store.create_device(new, UserId(1), 0).await.unwrap();
        store.create_token(NewToken::login(UserId(1), TokenHash::of("t")), 9).await.unwrap();
        let log = store.log();
        for (id, size) in [(1, 10), (2, 40_000)] {
            let payload = format!("\"{}\"", "x".repeat(size)).into_bytes();
            let length = u32::try_from(payload.len()).unwrap();
            let head =
                Head { id: MessageId(id), sender: UserId(2), expires: 99, expired: false, created: Timestamp::now(), length };
            log.append(Recipient::User(UserId(1)), &Stored { head, payload }, None).unwrap();
        }
        log.set_number("message_ids_reserved", 4096).unwrap();
        log.set_cursor(Reader::User(UserId(1)), MessageId(1)).unwrap();
        log.note_receipt(Recipient::User(UserId(1)), MessageId(1), Timestamp::now()).unwrap();
    }

    #[tokio::test]
    async fn a_good_store_has_nothing_wrong_and_is_left_alone() {
        let (dir, store) = fresh();
        filled(&store).await;
        assert_eq!(store.check().unwrap().findings, []);
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        assert_eq!(check(&path).unwrap(), repair(&path).unwrap());
        assert!(!dir.path().join(QUARANTINE).exists());
    }

    #[tokio::test]
    async fn what_is_damaged_is_named_and_left_behind_and_all_else_stays() {
        let (dir, store) = fresh();
        filled(&store).await;
        let trees = &store.trees;
        trees.users.insert(UserId(2).to_key(), b"{").unwrap(); // bob's record
        trees.user_names.remove("ana").unwrap(); // ana's entry in the index
        trees.serials.insert("s9", &DeviceId(1).to_key()).unwrap(); // a serial of another device
        trees.cursors.insert(Reader::Device(DeviceId(1)).to_key(), &u64::MAX.to_be_bytes()).unwrap();
        trees.pieces.remove([&2u64.to_be_bytes()[..], &1u16.to_be_bytes()[..]].concat()).unwrap(); // of the long message
        let told = store.check().unwrap();
        let mut trees_told: Vec<_> = told.findings.iter().map(|finding| finding.tree).collect();
        trees_told.dedup();
        assert_eq!(trees_told, ["users", "user_names", "serials", "mailbox", "cursors"], "{:?}", told.findings);
        store.close().unwrap();
        drop(store);
        let path = dir.path().join("store");
        let wrong = check(&path).unwrap().wrong;
        let repaired = repair(&path).unwrap();
        assert_eq!(repaired.wrong, wrong);
        assert_eq!(check(&path).unwrap().findings, []);
        let place = repaired.quarantine.unwrap();
        let list = fs::read_to_string(place.join("left-behind.jsonl")).unwrap();
        assert_eq!(list.lines().count(), 3, "bob, the cursor, the long message: {list}");
        assert!(list.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].is_string()));
        assert!(place.join("store/db").exists());
        let store = Store::open(&path).unwrap();
        assert_eq!(store.user_by_name("ana").unwrap().map(|user| user.id), Some(UserId(1)), "found by name again");
        assert_eq!(store.user(UserId(2)).unwrap(), None);
        assert_eq!(store.device_by_serial("s9").unwrap(), None);
        assert_eq!(store.device_by_serial("s1").unwrap().map(|device| device.id), Some(DeviceId(1)));
        assert!(store.token_by_id(TokenId(1)).unwrap().is_some());
        assert!(store.log().get(MessageId(1)).unwrap().is_some() && store.log().get(MessageId(2)).unwrap().is_none());
        let new = NewUser { username: "eva".into(), role: Role::User, password_hash: "x".into() };
        assert_eq!(store.create_user(new, Authority::System).await.unwrap().id, UserId(3), "no id is given twice");
    }
}
