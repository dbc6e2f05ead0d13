//! Operations on queued messages: the only code that changes the log and, except for the moments of sending, the index of the
//! mailboxes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::{self, Moment};
use super::index::{Effects, Index};
use super::machine::{Event, Machine, Memory, Operation};
use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::store::{Earlier, Head, Log, Reader, ReceivedAt, Result, Severity, StoreError, Stored, Trees};
use crate::wire::JsonObject;

/// The time for which an idempotency key is kept, in seconds.
const KEY_LIFE_SECONDS: u64 = 86_400;
/// The most idempotency keys that are kept; beyond that the oldest is removed early.
const MAX_KEYS: usize = 100_000;

/// The reason for which a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The recipient has as many pending messages as it may.
    #[error("the mailbox is full")]
    Full,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for AppendError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// An idempotency key: of one sender, for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    key: [u8; 32],
    digest: u64,
}

impl IdempotencyKey {
    /// Returns the key `key` of `sender` on a request whose significant bytes are `request`.
    pub fn new(sender: UserId, key: &str, request: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(sender.to_key());
        hasher.update(key.as_bytes());
        let digest: [u8; 32] = Sha256::digest(request).into();
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self { key: hasher.finalize().into(), digest: u64::from_be_bytes(short) }
    }
}

/// Appends a message to a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The mailbox.
    pub recipient: Recipient,
    /// The sender.
    pub sender: UserId,
    /// The object that is delivered; the id is added to it.
    pub object: JsonObject,
    /// The time to live, in seconds.
    pub ttl: u64,
    /// The sender's key, so that a repeated request is sent once.
    pub key: Option<IdempotencyKey>,
}

/// A message that was accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its id.
    pub id: MessageId,
    /// The object with its id, to be announced; `None` when the same request had been accepted before.
    pub payload: Option<Vec<u8>>,
    /// Set when the same request had been accepted before.
    pub repeated: bool,
    /// The number of connections that it was announced to, which the announcer sets.
    pub recipients: usize,
}

impl Operation for Append {
    type Output = Appended;
    type Error = AppendError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Appended, AppendError> {
        let log = machine.log();
        if let Some(key) = &self.key
            && let Some(earlier) = log.earlier(&key.key)?
        {
            if earlier.digest != key.digest {
                return Err(AppendError::KeyReused);
            }
            return Ok(Appended { id: earlier.id, payload: None, repeated: true, recipients: 0 });
        }
        // The recipient may have been deleted since the sender was authorised.
        match self.recipient {
            _ if log.recipient_exists(self.recipient)? => {}
            Recipient::Device(_) => return Err(StoreError::Missing("device").into()),
            _ => return Err(StoreError::Missing("user").into()),
        }
        reserve_room(machine, self.recipient, self.object.len(), moment)?;
        let id = {
            let mut memory = machine.memory();
            memory.newest.0 += 1;
            memory.newest
        };
        let payload = self.object.with_id(id);
        let expires = moment.service.saturating_add(self.ttl);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let head = Head { id, sender: self.sender, expires, expired: false, created: moment.wall, length };
        let until = moment.service + KEY_LIFE_SECONDS;
        let remember = self.key.map(|key| (key.key, Earlier { id, until, digest: key.digest }));
        let stored = Stored { head, payload };
        log.append(self.recipient, &stored, remember.as_ref().map(|(key, earlier)| (key, *earlier)))?;
        let oldest = {
            let mut memory = machine.memory();
            memory.index.append(self.recipient, id, expires, length);
            memory.keys.extend(remember.map(|(key, _)| (until, key)));
            if memory.keys.len() > MAX_KEYS { memory.keys.pop_first() } else { None }
        };
        if let Some((_, oldest)) = oldest {
            log.forget(&oldest)?;
        }
        Ok(Appended { id, payload: Some(stored.payload), repeated: false, recipients: 0 })
    }
}

/// Checks that `recipient` has room for `bytes` more. Broadcasts leave when everybody has them; that is looked up only when
/// their room is needed.
fn reserve_room(machine: &mut Machine<'_>, recipient: Recipient, bytes: usize, moment: Moment) -> Result<(), AppendError> {
    if machine.memory().index.room(recipient, bytes).is_ok() {
        return Ok(());
    }
    if recipient == Recipient::All {
        free_broadcasts(machine, moment)?;
    }
    machine.memory().index.room(recipient, bytes).map_err(|_| AppendError::Full)
}

/// Moves cursors: everything up to a message has been received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// For each reader the highest id received, and the id at which a user without a cursor begins.
    pub acks: Vec<(Reader, MessageId, MessageId)>,
}

impl Operation for Acknowledge {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        // Messages expire first: one that was skipped because its time was up must not count as received.
        expire(machine, moment)?;
        let log = machine.log();
        for (reader, upto, joined) in self.acks {
            // The last proof of a recipient that has been deleted meanwhile.
            if !log.recipient_exists(reader.owner())? {
                continue;
            }
            let moved = {
                let mut memory = machine.memory();
                let upto = upto.min(memory.newest); // a cursor beyond every message would hide the next ones
                memory.index.receive(reader, upto, joined, moment.service).map(|(count, effects)| (upto, count, effects))
            };
            let Some((upto, count, effects)) = moved else { continue };
            log.set_cursor(reader, upto)?;
            let recipient = reader.recipient();
            if recipient != Recipient::All {
                log.note_receipt(recipient, upto, received_at(moment))?;
            }
            // Before the effects, which remove messages: these were received.
            machine.event(Event::Received { recipient, upto, count });
            follow(machine, &effects)?;
        }
        Ok(())
    }
}

fn received_at(moment: Moment) -> ReceivedAt {
    ReceivedAt { wall: moment.wall, service: Some(moment.service) }
}

/// Expires messages, and removes history that has been kept for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {}

impl Operation for Expire {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        expire(machine, moment)
    }
}

/// Does the work of every minute: expires messages and idempotency keys, frees broadcasts that everybody has received, saves the
/// clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {}

impl Operation for Tick {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        expire(machine, moment)?;
        free_broadcasts(machine, moment)?;
        let over = {
            let mut memory = machine.memory();
            let later = memory.keys.split_off(&(moment.service.saturating_add(1), [0; 32]));
            std::mem::replace(&mut memory.keys, later)
        };
        for (_, key) in over {
            machine.log().forget(&key)?;
        }
        clock::save(machine.trees, moment)
    }
}

/// Removes the pending messages of one mailbox, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// The mailbox; `None`: all.
    pub recipient: Option<Recipient>,
}

impl Operation for Clear {
    /// The number of messages removed.
    type Output = usize;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<usize> {
        let recipients = self.recipient.map_or_else(|| machine.memory().index.waiting_recipients(), |one| vec![one]);
        let mut count = 0;
        for recipient in recipients {
            let effects = machine.memory().index.clear(recipient);
            count += effects.purged.len();
            follow(machine, &effects)?;
        }
        Ok(count)
    }
}

/// Sets the limits of mailboxes and history. What is kept beyond them is removed by the next sweep; pending messages stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The limits of pending messages.
    pub mailbox: MailboxConfig,
    /// The limits of history.
    pub history: HistoryConfig,
}

impl Operation for Settings {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        machine.memory().index.reload(self.mailbox, self.history, moment.service);
        Ok(())
    }
}

fn expire(machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
    let effects = machine.memory().index.sweep(moment.service);
    follow(machine, &effects)
}

/// Moves broadcasts that every enabled account has received to the history.
fn free_broadcasts(machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
    // Nobody joins meanwhile: operations run one at a time.
    let users: Vec<_> = machine.log().listeners().collect::<Result<_>>()?;
    let freed = machine.memory().index.free_broadcasts(users.into_iter(), moment.service);
    let Some((upto, effects)) = freed else { return Ok(()) };
    machine.log().note_receipt(Recipient::All, upto, received_at(moment))?;
    follow(machine, &effects)
}

/// Makes the log follow the index.
fn follow(machine: &mut Machine<'_>, effects: &Effects) -> Result<()> {
    let log = machine.log();
    for &(recipient, id) in &effects.expired {
        log.note_purged(recipient, id)?; // never delivered any more: a client that asks what it missed must learn of it
        log.mark_expired(recipient, id)?;
        machine.event(Event::Expired { recipient, id });
    }
    let mut touched: Vec<Recipient> = Vec::new();
    for &(recipient, id) in &effects.purged {
        log.note_purged(recipient, id)?;
        log.remove(recipient, id)?;
        machine.event(Event::Removed { recipient, id });
        if touched.last() != Some(&recipient) {
            touched.push(recipient);
        }
    }
    for recipient in touched {
        let oldest = machine.memory().index.oldest_kept(recipient);
        log.forget_receipts(recipient, oldest.unwrap_or(MessageId(u64::MAX)))?;
    }
    Ok(())
}

/// Removes everything that belongs to a deleted recipient.
pub(super) fn remove_mailbox(machine: &mut Machine<'_>, recipient: Recipient) -> Result<()> {
    let (effects, newest) = {
        let mut memory = machine.memory();
        (memory.index.forget(recipient), memory.newest)
    };
    // The marks of removed messages go with the recipient: its ids must not be given again.
    machine.log().reserve_ids(newest)?;
    follow(machine, &effects)?;
    machine.log().forget_recipient(recipient)
}

/// Loads the part of the state that is in memory, after removing remains of a crash.
///
/// # Errors
/// If the store fails, or holds a record that can't be read.
pub(super) fn load(trees: &Trees, settings: Settings, moment: Moment) -> Result<Memory> {
    let log = Log::new(trees);
    log.remove_leftovers()?;
    let mut index = Index::new(settings.mailbox, settings.history);
    let mut newest_loaded = log.newest_kept()?;
    for cursor in log.cursors() {
        let (reader, upto) = cursor?;
        index.load_cursor(reader, upto);
        newest_loaded = newest_loaded.max(upto);
    }
    let newest = newest_loaded.max(log.reserved()?);
    if let Some(upto) = log.broadcasts_received()? {
        index.load_broadcasts_received(upto);
    }
    for entry in log.heads() {
        let (recipient, head, received) = entry?;
        // Records of layout 2 lack the time of receipt: these messages are kept from now on.
        index.load(recipient, &head, received.and_then(|when| when.service).unwrap_or(moment.service));
    }
    let keys = log.remembered().map(|entry| entry.map(|(key, earlier)| (earlier.until, key))).collect::<Result<_>>()?;
    remove_orphans(trees, Memory { index, keys, newest, newest_loaded })
}

/// Removes mailboxes of recipients that were deleted just before a crash.
fn remove_orphans(trees: &Trees, memory: Memory) -> Result<Memory> {
    let (log, recipients) = (Log::new(trees), memory.index.recipients());
    let memory = parking_lot::Mutex::new(memory);
    for recipient in recipients {
        if !log.recipient_exists(recipient)? {
            remove_mailbox(&mut Machine::new(trees, &memory), recipient)?;
        }
    }
    Ok(memory.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_differ_by_sender_and_request() {
        let key = |sender, key: &str, request: &[u8]| IdempotencyKey::new(UserId(sender), key, request);
        assert_eq!(key(1, "a", b"x"), key(1, "a", b"x"));
        assert_ne!(key(1, "a", b"x").key, key(2, "a", b"x").key);
        assert_ne!(key(1, "a", b"x").key, key(1, "b", b"x").key);
        assert_ne!(key(1, "a", b"x").digest, key(1, "a", b"y").digest);
    }
}
