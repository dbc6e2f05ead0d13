//! Records of messages and of idempotency keys.

use sled::IVec;

use super::Log;
use crate::core::ids::{MessageId, Recipient};
use crate::store::records::{Earlier, HEAD_BYTES, Head, ReceivedAt, Stored};
use crate::store::table::{DecodeKey, Key, WriteSet};
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

/// The longest value, in bytes; sled keeps values of that size in its log as long as segments have 1 MiB.
pub(super) const PIECE_BYTES: usize = 12 * 1024;
/// For fuzzers: a key and a record of the mailbox; a readable one is written the same way.
pub fn fuzz_key(bytes: &[u8]) {
    if let Some(key) = <(Recipient, MessageId)>::decode(bytes) {
        assert_eq!(key.encode(), bytes);
    }
    if let Some(head) = Head::decode(MessageId(1), bytes) {
        assert_eq!(Head::decode(MessageId(1), &head.encode()), Some(head));
    }
}

/// Returns the payload of a record: `inline` where it is in the record, else its pieces.
///
/// # Errors
/// If the store fails.
pub fn read_payload(trees: &Trees, id: MessageId, inline: &[u8]) -> Result<Vec<u8>> {
    if !inline.is_empty() {
        return Ok(inline.to_vec());
    }
    let mut payload = Vec::new();
    for piece in trees.pieces.values_of(&id) {
        payload.extend_from_slice(&piece?);
    }
    Ok(payload)
}

fn damaged() -> StoreError {
    StoreError::Damaged { tree: "mailbox" }
}

impl Log<'_> {
    /// Adds a message and, with it, what its idempotency key stands for.
    ///
    /// # Errors
    /// If the store fails.
    pub fn append(&self, recipient: Recipient, message: &Stored, remember: Option<(&[u8; 32], Earlier)>) -> Result<()> {
        let id = message.head.id;
        let mut record = message.head.encode();
        if message.payload.len() + HEAD_BYTES <= PIECE_BYTES {
            record.extend_from_slice(&message.payload);
        } else {
            for (n, piece) in (0u16..).zip(message.payload.chunks(PIECE_BYTES)) {
                self.0.pieces.insert_bytes(&(id, n), piece)?;
            }
        }
        let Some((key, earlier)) = remember else {
            self.0.message_ids.insert(&id, &recipient)?;
            return self.0.mailbox.insert_bytes(&(recipient, id), record);
        };
        // The key and the message are one: else a crash between the two could have a repeated request sent twice.
        let mut writes = WriteSet::default();
        writes.put(&self.0.message_ids, &id, &recipient)?;
        writes.put(&self.0.mailbox, &(recipient, id), &IVec::from(record))?;
        writes.put(&self.0.idempotency, key, &earlier)?;
        writes.apply()
    }

    /// Returns the whole message of a record. `None` when it is being removed at this moment: its pieces go after its record.
    fn load(&self, recipient: Recipient, id: MessageId, record: &[u8]) -> Result<Option<Stored>> {
        let (head, inline) = Head::read(id, record).ok_or_else(damaged)?;
        let payload = read_payload(self.0, id, inline)?;
        if payload.len() == head.length as usize {
            return Ok(Some(Stored { head, payload }));
        }
        if self.0.mailbox.contains(&(recipient, id))? { Err(damaged()) } else { Ok(None) }
    }

    /// Returns the messages of `recipient` above `after` up to and including `upto`, in id order.
    pub fn read(&self, recipient: Recipient, after: MessageId, upto: MessageId) -> impl Iterator<Item = Result<Stored>> + '_ {
        let range = (recipient, MessageId(after.0.saturating_add(1)))..=(recipient, upto);
        let records = (after < upto).then(|| self.0.mailbox.range(range)).into_iter().flatten();
        records.filter_map(move |entry| entry.and_then(|((_, id), record)| self.load(recipient, id, &record)).transpose())
    }

    /// Returns all messages without payloads, in the order of their keys, each with the moment at which the cursor of its recipient
    /// passed it, if it has.
    pub fn heads(&self) -> impl Iterator<Item = Result<(Recipient, Head, Option<ReceivedAt>)>> + '_ {
        // Both trees have the same keys: the moment that covers a message is the first one at its key or behind it.
        let mut receipts = self.0.receipts.iter().peekable();
        self.0.mailbox.iter().map(move |entry| {
            let ((recipient, id), record) = entry?;
            let head = Head::decode(id, &record).ok_or_else(damaged)?;
            let key = (recipient, id).encode();
            while receipts.next_if(|receipt| receipt.as_ref().is_ok_and(|(at, _)| at.encode() < key)).is_some() {}
            let received = match receipts.peek() {
                Some(Ok(((of, _), when))) if *of == recipient => Some(*when),
                Some(Err(_)) => return Err(StoreError::Damaged { tree: "receipts" }),
                _ => None,
            };
            Ok((recipient, head, received))
        })
    }

    /// Returns the recipient of a message.
    ///
    /// # Errors
    /// If the store fails.
    pub fn recipient(&self, id: MessageId) -> Result<Option<Recipient>> {
        self.0.message_ids.get(&id)
    }

    /// Returns one message and its recipient.
    ///
    /// # Errors
    /// If the store fails.
    pub fn get(&self, id: MessageId) -> Result<Option<(Recipient, Stored)>> {
        let Some(recipient) = self.recipient(id)? else { return Ok(None) };
        match self.0.mailbox.get(&(recipient, id))? {
            Some(record) => Ok(self.load(recipient, id, &record)?.map(|message| (recipient, message))),
            None => Ok(None),
        }
    }

    /// Marks a message whose life ended before it was received.
    ///
    /// # Errors
    /// If the store fails.
    pub fn mark_expired(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        if let Some(record) = self.0.mailbox.get(&(recipient, id))? {
            let mut record = record.to_vec();
            *record.get_mut(1).ok_or_else(damaged)? = 1;
            self.0.mailbox.insert_bytes(&(recipient, id), record)?;
        }
        Ok(())
    }

    /// Removes a message.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove(&self, recipient: Recipient, id: MessageId) -> Result<()> {
        self.0.mailbox.remove(&(recipient, id))?;
        self.0.message_ids.remove(&id)?;
        for key in self.0.pieces.keys_of(&id) {
            self.0.pieces.remove(&key?)?;
        }
        Ok(())
    }

    /// Removes entries that a crash in the middle of [`append`](Self::append) or [`remove`](Self::remove) may have left.
    ///
    /// # Errors
    /// If the store fails.
    pub fn remove_leftovers(&self) -> Result<()> {
        for entry in self.0.message_ids.iter() {
            let (id, recipient) = entry?;
            if !self.0.mailbox.contains(&(recipient, id))? {
                self.0.message_ids.remove(&id)?;
            }
        }
        for key in self.0.pieces.keys() {
            let (id, n) = key?;
            if !self.0.message_ids.contains(&id)? {
                self.0.pieces.remove(&(id, n))?;
            }
        }
        Ok(())
    }

    /// Returns what was sent under an idempotency key: the message and a digest of the request.
    ///
    /// # Errors
    /// If the store fails.
    pub fn earlier(&self, key: &[u8; 32]) -> Result<Option<Earlier>> {
        self.0.idempotency.get(key)
    }

    /// Removes an idempotency key.
    ///
    /// # Errors
    /// If the store fails.
    pub fn forget(&self, key: &[u8; 32]) -> Result<()> {
        self.0.idempotency.remove(key)
    }

    /// Returns all idempotency keys.
    pub fn remembered(&self) -> impl Iterator<Item = Result<([u8; 32], Earlier)>> + '_ {
        self.0.idempotency.iter()
    }

    /// Returns the newest id of a message that is there: 0 where there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn newest(&self) -> Result<MessageId> {
        Ok(self.0.message_ids.last()?.map_or(MessageId(0), |(id, _)| id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;
    use crate::core::time::Timestamp;
    use crate::store::Store;
    use crate::store::tests::fresh;

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

    fn log(store: &Store) -> Log<'_> {
        store.log()
    }

    #[test]
    fn messages_of_every_size_are_read_back_whole() {
        let (dir, store) = fresh();
        let (log, to) = (log(&store), Recipient::User(UserId(1)));
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
        assert!(store.trees.pieces.is_empty().unwrap());
        store.close().unwrap();
        let blobs = dir.path().join("store/blobs");
        assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().next().is_none(), "sled never syncs its blobs");
    }

    #[test]
    fn message_and_idempotency_key_are_written_together() {
        let (_dir, store) = fresh();
        let (log, to, key) = (log(&store), Recipient::All, [7; 32]);
        let earlier = Earlier { id: MessageId(1), until: 9, digest: 3 };
        log.append(to, &message(1, vec![1; 100_000]), Some((&key, earlier))).unwrap();
        assert_eq!(log.earlier(&key).unwrap(), Some(earlier));
        assert_eq!(log.get(MessageId(1)).unwrap().unwrap().1.payload.len(), 100_000);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed() {
        let (_dir, store) = fresh();
        let (log, to) = (log(&store), Recipient::All);
        log.append(to, &message(1, vec![0; 50_000]), None).unwrap();
        log.append(to, &message(2, vec![0; 50_000]), None).unwrap();
        store.trees.mailbox.remove(&(to, MessageId(1))).unwrap();
        log.remove_leftovers().unwrap();
        assert_eq!(log.get(MessageId(1)).unwrap(), None);
        assert_eq!((store.trees.message_ids.keys().count(), store.trees.pieces.keys().count()), (1, 5));
        assert_eq!(log.get(MessageId(2)).unwrap().unwrap().1.payload.len(), 50_000);
    }

    #[test]
    fn every_given_id_leaves_a_trace() {
        let (_dir, store) = fresh();
        let (log, to) = (log(&store), Recipient::User(UserId(1)));
        assert_eq!(log.newest_given().unwrap(), MessageId(0));
        log.append(to, &message(5, vec![1]), None).unwrap();
        assert_eq!(log.newest_given().unwrap(), MessageId(5));
        log.note_purged(to, MessageId(5)).unwrap();
        log.remove(to, MessageId(5)).unwrap();
        assert_eq!(log.newest_given().unwrap(), MessageId(5));
        log.reserve_ids(MessageId(5)).unwrap();
        log.forget_recipient(to).unwrap();
        log.reserve_ids(MessageId(4)).unwrap();
        assert_eq!(log.newest_given().unwrap(), MessageId(5));
    }
}
