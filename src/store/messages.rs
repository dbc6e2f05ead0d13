//! Queued messages on disk: the log.
//!
//! A message is one record under its recipient and id. What would be too large for sled to keep out of its `blobs/` (which
//! are never synced) is cut into pieces beside it. Nothing here decides anything; that is the mailbox's work.
//!
//! # Invariants
//! - Pieces and the id's entry are written before the record, and removed after it: a crash in between leaves something that
//!   nobody finds, never a record that lacks something.
//! - No value is longer than [`PIECE_BYTES`].

use sled::Transactional;

use super::catalogue::{Trees, TxError, committed, decode, number};
use super::writer::Severity;
use super::{Result, Store, StoreError, User};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;

/// The longest value, in bytes; sled keeps values of that size in its log as long as segments have 1 MiB.
const PIECE_BYTES: usize = 12 * 1024;
/// Layout of a record, its first byte.
const LAYOUT: u8 = 1;
/// layout, expired?, sender, expires, created, length.
const HEAD_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 4;

/// What is known of a message without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the one order.
    pub id: MessageId,
    /// Who sent it.
    pub sender: UserId,
    /// When its life ends, in seconds of the service clock.
    pub expires: u64,
    /// Set when its life ended before it was received.
    pub expired: bool,
    /// When it was taken.
    pub created: Timestamp,
    /// Bytes of payload.
    pub length: u32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// About it.
    pub head: Head,
    /// The JSON text that is pushed.
    pub payload: Vec<u8>,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&[LAYOUT, u8::from(self.expired)]);
        bytes.extend_from_slice(&self.sender.to_key());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(&self.created.unix_micros().to_be_bytes());
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// The head of a record, and the payload where it is short enough to be in it.
    pub(super) fn read(id: MessageId, record: &[u8]) -> Option<(Self, &[u8])> {
        Some((Self::decode(id, record)?, record.get(HEAD_BYTES..)?))
    }

    fn decode(id: MessageId, bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let long = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        if head[0] != LAYOUT {
            return None;
        }
        Some(Self {
            id,
            expired: head[1] != 0,
            sender: UserId(long(2)?),
            expires: long(10)?,
            created: Timestamp::from_unix_micros(i64::from_be_bytes(head[18..26].try_into().ok()?)),
            length: u32::from_be_bytes(head[26..30].try_into().ok()?),
        })
    }
}

pub(super) fn record_key(recipient: Recipient, id: MessageId) -> [u8; 17] {
    let mut key = [0; 17];
    key[..9].copy_from_slice(&recipient.to_key());
    key[9..].copy_from_slice(&id.to_key());
    key
}

/// The parts of a [`record_key`].
pub(super) fn read_key(key: &[u8]) -> Option<(Recipient, MessageId)> {
    let (recipient, id) = key.split_at_checked(9)?;
    Some((Recipient::from_key(recipient)?, MessageId::from_key(id)?))
}

/// For fuzzers: a key and a record of the mailbox; what can be read is written the same way.
pub fn fuzz_key(bytes: &[u8]) {
    if let Some((recipient, id)) = read_key(bytes) {
        assert_eq!(record_key(recipient, id), bytes);
    }
    if let Some(head) = Head::decode(MessageId(1), bytes) {
        assert_eq!(Head::decode(MessageId(1), &head.encode()), Some(head));
    }
}

fn piece_key(id: MessageId, n: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&id.to_key());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// The payload that was cut into pieces.
pub(super) fn piece_bytes(trees: &Trees, id: MessageId) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    for piece in trees.pieces.scan_prefix(id.to_key()).values() {
        payload.extend_from_slice(&piece?);
    }
    Ok(payload)
}

fn damaged() -> StoreError {
    StoreError::Damaged { tree: "mailbox" }
}

/// The log. Writing methods are for the writer thread alone; those that read can be called anywhere.
#[derive(Clone, Copy)]
pub struct Log<'a>(pub(super) &'a Trees);

impl Log<'_> {
    /// Adds a message and, with it, what its idempotency key stands for.
    ///
    /// # Errors
    /// When the store fails.
    pub fn append(&self, recipient: Recipient, message: &Stored, remember: Option<(&[u8; 32], Earlier)>) -> Result<()> {
        let id = message.head.id;
        let mut record = message.head.encode();
        if message.payload.len() + HEAD_BYTES <= PIECE_BYTES {
            record.extend_from_slice(&message.payload);
        } else {
            for (n, piece) in (0u16..).zip(message.payload.chunks(PIECE_BYTES)) {
                self.0.pieces.insert(piece_key(id, n), piece)?;
            }
        }
        let Some((key, earlier)) = remember else {
            self.0.message_ids.insert(id.to_key(), &recipient.to_key())?;
            self.0.mailbox.insert(record_key(recipient, id), record)?;
            return Ok(());
        };
        // The key and the message are one: else a crash between the two could have a repeated request sent twice.
        let (earlier, all) = (earlier.encode(), (&self.0.message_ids, &self.0.mailbox, &self.0.idempotency));
        committed(all.transaction(|(ids, mailbox, keys)| {
            ids.insert(&id.to_key(), &recipient.to_key())?;
            mailbox.insert(&record_key(recipient, id), record.clone())?;
            keys.insert(&key[..], &earlier[..])?;
            Ok::<(), TxError>(())
        }))
    }

    /// The whole message of a record. `None` when it is being removed at this moment: its pieces go after its record.
    fn load(&self, recipient: Recipient, id: MessageId, record: &[u8]) -> Result<Option<Stored>> {
        let (head, inline) = Head::read(id, record).ok_or_else(damaged)?;
        let payload = if inline.is_empty() { piece_bytes(self.0, id)? } else { inline.to_vec() };
        if payload.len() == head.length as usize {
            return Ok(Some(Stored { head, payload }));
        }
        if self.0.mailbox.contains_key(record_key(recipient, id))? { Err(damaged()) } else { Ok(None) }
    }

    /// Messages of `recipient` above `after` up to and including `upto`, in id order.
    pub fn read(&self, recipient: Recipient, after: MessageId, upto: MessageId) -> impl Iterator<Item = Result<Stored>> + '_ {
        let range = record_key(recipient, MessageId(after.0.saturating_add(1)))..=record_key(recipient, upto);
        let records = (after < upto).then(|| self.0.mailbox.range(range)).into_iter().flatten();
        let whole = move |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, record) = entry?;
            self.load(recipient, MessageId::from_key(&key[9..]).ok_or_else(damaged)?, &record)
        };
        records.filter_map(move |entry| whole(entry).transpose())
    }

    /// Everything there is, without payloads, by recipient and then by id.
    pub fn heads(&self) -> impl Iterator<Item = Result<(Recipient, Head)>> + '_ {
        self.0.mailbox.iter().map(|entry| {
            let (key, record) = entry?;
            let (recipient, id) = read_key(&key).ok_or_else(damaged)?;
            Ok((recipient, Head::decode(id, &record).ok_or_else(damaged)?))
        })
    }

    /// Whom a message is for.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recipient(&self, id: MessageId) -> Result<Option<Recipient>> {
        let key = self.0.message_ids.get(id.to_key())?;
        key.map(|key| Recipient::from_key(&key).ok_or_else(damaged)).transpose()
    }

    /// One message and whom it is for.
    ///
    /// # Errors
    /// When the store fails.
    pub fn get(&self, id: MessageId) -> Result<Option<(Recipient, Stored)>> {
        let Some(recipient) = self.recipient(id)? else { return Ok(None) };
        match self.0.mailbox.get(record_key(recipient, id))? {
            Some(record) => Ok(self.load(recipient, id, &record)?.map(|message| (recipient, message))),
            None => Ok(None),
        }
    }

    /// Notes that a message's life ended before it was received.
    ///
    /// # Errors
    /// When the store fails.
    pub fn mark_expired(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        let key = record_key(recipient, id);
        if let Some(record) = self.0.mailbox.get(key)? {
            let mut record = record.to_vec();
            *record.get_mut(1).ok_or_else(damaged)? = 1;
            self.0.mailbox.insert(key, record)?;
        }
        Ok(())
    }

    /// Removes a message.
    ///
    /// # Errors
    /// When the store fails.
    pub fn remove(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        self.0.mailbox.remove(record_key(recipient, id))?;
        self.0.message_ids.remove(id.to_key())?;
        for key in self.0.pieces.scan_prefix(id.to_key()).keys() {
            self.0.pieces.remove(key?)?;
        }
        Ok(())
    }

    /// Removes what a crash in the middle of [`append`](Self::append) or [`remove`](Self::remove) may have left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sweep_leftovers(&self) -> Result<()> {
        for entry in &self.0.message_ids {
            let (key, recipient) = entry?;
            let id = MessageId::from_key(&key).ok_or_else(damaged)?;
            let recipient = Recipient::from_key(&recipient).ok_or_else(damaged)?;
            if !self.0.mailbox.contains_key(record_key(recipient, id))? {
                self.0.message_ids.remove(key)?;
            }
        }
        for key in self.0.pieces.iter().keys() {
            let key = key?;
            if !self.0.message_ids.contains_key(key.get(..8).ok_or_else(damaged)?)? {
                self.0.pieces.remove(key)?;
            }
        }
        Ok(())
    }

    /// A number that is kept under a name: 0 where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn number(&self, name: &str) -> Result<u64> {
        self.0.meta.get(name)?.map_or(Ok(0), |bytes| number(&bytes, "meta"))
    }

    /// Keeps a number under a name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn set_number(&self, name: &str, value: u64) -> Result<()> {
        self.0.meta.insert(name, &value.to_be_bytes())?;
        Ok(())
    }

    /// What was sent under an idempotency key: the message and a digest of the request.
    ///
    /// # Errors
    /// When the store fails.
    pub fn earlier(&self, key: &[u8; 32]) -> Result<Option<Earlier>> {
        self.0.idempotency.get(key)?.map(|value| Earlier::decode(&value)).transpose()
    }

    /// Forgets an idempotency key.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget(&self, key: &[u8; 32]) -> Result<()> {
        self.0.idempotency.remove(key)?;
        Ok(())
    }

    /// All remembered idempotency keys.
    pub fn remembered(&self) -> impl Iterator<Item = Result<([u8; 32], Earlier)>> + '_ {
        self.0.idempotency.iter().map(|entry| {
            let (key, value) = entry?;
            let key = key.as_ref().try_into().map_err(|_| StoreError::Damaged { tree: "idempotency" })?;
            Ok((key, Earlier::decode(&value)?))
        })
    }

    /// Whether the user or device behind a mailbox exists.
    ///
    /// # Errors
    /// When the store fails.
    pub fn knows(&self, recipient: Recipient) -> Result<bool> {
        Ok(match recipient {
            Recipient::User(id) => self.0.users.contains_key(id.to_key())?,
            Recipient::Device(id) => self.0.devices.contains_key(id.to_key())?,
            Recipient::All => true,
        })
    }

    /// The enabled accounts, and where their broadcasts begin.
    pub fn listeners(&self) -> impl Iterator<Item = Result<(UserId, MessageId)>> + '_ {
        let users = self.0.users.iter().values().map(|bytes| decode::<User>(&bytes?, "users"));
        users.filter(|user| user.as_ref().map_or(true, |u| !u.disabled)).map(|user| user.map(|u| (u.id, u.joined)))
    }

    /// The newest id there is a message of: 0 where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn newest(&self) -> Result<MessageId> {
        let last = self.0.message_ids.last()?;
        Ok(last.and_then(|(key, _)| MessageId::from_key(&key)).unwrap_or(MessageId(0)))
    }
}

/// What was sent under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The message.
    pub id: MessageId,
    /// When the key is forgotten, in seconds of the service clock.
    pub until: u64,
    /// Of the request, so that the same key on another request is noticed.
    pub digest: u64,
}

impl Earlier {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.id.to_key());
        bytes[8..16].copy_from_slice(&self.until.to_be_bytes());
        bytes[16..].copy_from_slice(&self.digest.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let wrong = || StoreError::Damaged { tree: "idempotency" };
        let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes).ok_or_else(wrong);
        Ok(Self { id: MessageId(long(0)?), until: long(8)?, digest: long(16)? })
    }
}

impl Store {
    /// The log, for reading.
    pub fn log(&self) -> Log<'_> {
        Log(&self.trees)
    }

    /// Runs `change` on the writer thread; when its effect is on disk, runs `announce` there and then returns. Changes are
    /// announced in the order in which they ran.
    ///
    /// # Errors
    /// What `change` returns, [`StoreError::Stopped`] when it did not reach the disk.
    pub async fn commit<T, E>(
        &self,
        change: impl FnOnce(Log<'_>) -> std::result::Result<T, E> + Send + 'static,
        announce: impl FnOnce(&mut T) + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        self.writer.run_then(move |trees| change(Log(trees)), announce).await
    }

    /// Runs `change` on the writer thread some time soon; it reaches the disk with the next commit, within a second or so.
    /// `false` when the queue is full or the store is closing.
    pub fn commit_later(&self, change: impl FnOnce(Log<'_>) -> Result<()> + Send + 'static) -> bool {
        self.writer.run_later(move |trees| change(Log(trees)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::*;
    use proptest::prelude::*;

    fn message(id: u64, payload: Vec<u8>) -> Stored {
        let head = Head {
            id: MessageId(id),
            sender: UserId(3),
            expires: 77,
            expired: false,
            created: Timestamp::now(),
            length: u32::try_from(payload.len()).unwrap(),
        };
        Stored { head, payload }
    }

    #[test]
    fn messages_come_back_whole_whatever_their_size() {
        let (dir, store) = fresh();
        let (log, to) = (store.log(), Recipient::User(UserId(1)));
        let sizes = [0, 1, PIECE_BYTES - HEAD_BYTES, PIECE_BYTES - HEAD_BYTES + 1, PIECE_BYTES, 3 * PIECE_BYTES, 262_144];
        for (id, size) in (1u64..).zip(sizes) {
            log.append(to, &message(id, vec![id as u8; size]), None).unwrap();
        }
        log.append(Recipient::User(UserId(2)), &message(99, vec![1]), None).unwrap();
        let all: Vec<Stored> = log.read(to, MessageId(0), MessageId(u64::MAX)).map(Result::unwrap).collect();
        assert_eq!(all.iter().map(|m| m.payload.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(log.read(to, MessageId(2), MessageId(4)).count(), 2);
        assert_eq!(log.read(to, MessageId(4), MessageId(4)).count(), 0);
        assert_eq!(log.get(MessageId(7)).unwrap().unwrap(), (to, all[6].clone()));
        log.mark_expired(to, MessageId(7)).unwrap();
        assert!(log.get(MessageId(7)).unwrap().unwrap().1.head.expired);
        assert_eq!(log.newest().unwrap(), MessageId(99));
        for id in 1..=7 {
            log.remove(to, MessageId(id)).unwrap();
        }
        assert_eq!(log.get(MessageId(7)).unwrap(), None);
        assert_eq!(store.trees.pieces.len(), 0);
        store.close().unwrap();
        let blobs = dir.path().join("store/blobs");
        assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().next().is_none(), "sled never syncs its blobs");
    }

    #[test]
    fn a_message_and_its_key_come_together() {
        let (_dir, store) = fresh();
        let (log, to, key) = (store.log(), Recipient::All, [7; 32]);
        let earlier = Earlier { id: MessageId(1), until: 9, digest: 3 };
        log.append(to, &message(1, vec![1; 100_000]), Some((&key, earlier))).unwrap();
        assert_eq!(log.earlier(&key).unwrap(), Some(earlier));
        assert_eq!(log.get(MessageId(1)).unwrap().unwrap().1.payload.len(), 100_000);
    }

    #[test]
    fn leftovers_are_found() {
        let (_dir, store) = fresh();
        let (log, to) = (store.log(), Recipient::All);
        log.append(to, &message(1, vec![0; 50_000]), None).unwrap();
        log.append(to, &message(2, vec![0; 50_000]), None).unwrap();
        store.trees.mailbox.remove(record_key(to, MessageId(1))).unwrap();
        log.sweep_leftovers().unwrap();
        assert_eq!(log.get(MessageId(1)).unwrap(), None);
        assert_eq!((store.trees.message_ids.len(), store.trees.pieces.len()), (1, 5));
        assert_eq!(log.get(MessageId(2)).unwrap().unwrap().1.payload.len(), 50_000);
    }

    proptest! {
        #[test]
        fn records_sort_by_recipient_then_id(a: (u64, u64), b: (u64, u64)) {
            let key = |p: (u64, u64)| record_key(Recipient::User(UserId(p.0)), MessageId(p.1));
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Head::decode(MessageId(1), &bytes);
            let _ = Earlier::decode(&bytes);
        }
    }
}
