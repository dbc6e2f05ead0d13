//! Operations on queued messages: the only code that changes the log and, with the operations on readers, the index of the
//! mailboxes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::{self, Moment, Observed};
use super::index::{Ack, Effects, Full, MAX_OPERATION_MESSAGES};
use super::keys::{self, StoredKey};
use super::machine::{Event, Machine, Operation};
use super::stage::Due;
use super::{pairings, passes};
use crate::config::{HistoryConfig, MailboxConfig};
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::store::{Answer, Earlier, Head, Result, Severity, StoreError, Stored};
use crate::wire::JsonObject;

/// The time for which an idempotency key is kept, in seconds.
const KEY_LIFE_SECONDS: u64 = 86_400;
/// The most idempotency keys, and pages of receipts, that one operation removes.
const MAX_REMOVALS: usize = 512;

/// The most pages of receipts that one operation looks at and removes nothing of, beside those: more than there are where nodes could differ
/// in which they have looked at.
const MAX_LOOKS: usize = 8192;

/// The most messages that one operation clears, which takes about two milliseconds.
const MAX_CLEARED_MESSAGES: usize = 512;

/// The reason for which a message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The recipient has as many pending messages as it may, or as this sender may add to.
    #[error("the mailbox is full")]
    Full,
    /// As many bytes as one sender may cause to wait do, over all mailboxes.
    #[error("too much of what you have sent waits to be received")]
    SenderFull,
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

/// An idempotency key: of one sender, for one request, with what a repeat is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    key: [u8; 32],
    digest: u64,
    answer: Answer,
}

impl IdempotencyKey {
    /// Returns the key `key` of `sender` on a request whose significant bytes are `request`; a repeat gets `answer`.
    pub fn new(sender: UserId, key: &str, request: &[u8], answer: Answer) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(sender.to_key());
        hasher.update(key.as_bytes());
        let digest: [u8; 32] = Sha256::digest(request).into();
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self { key: hasher.finalize().into(), digest: u64::from_be_bytes(short), answer }
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
    /// Sent by an administrator or a service, for which the last tenth of a mailbox is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
}

impl From<Full> for AppendError {
    fn from(full: Full) -> Self {
        match full {
            Full::Mailbox => Self::Full,
            Full::Sender => Self::SenderFull,
        }
    }
}

/// A message that was accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its id.
    pub id: MessageId,
    /// The object with its id, to be announced; `None` when the same request had been accepted before.
    pub payload: Option<Vec<u8>>,
    /// The answer to the same request, where that had been accepted before.
    pub repeated: Option<Answer>,
    /// The number of connections that it was announced to, which the announcer sets.
    pub recipients: usize,
}

impl Operation for Append {
    type Output = Appended;
    type Error = AppendError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Appended, AppendError> {
        let log = machine.log();
        if let Some(key) = &self.key
            && let Some(earlier) = earlier(machine, self.sender, key)?
        {
            if earlier.digest != key.digest {
                return Err(AppendError::KeyReused);
            }
            return Ok(Appended { id: earlier.id, payload: None, repeated: Some(earlier.answer), recipients: 0 });
        }
        // The recipient may have been deleted since the sender was authorised.
        match self.recipient {
            Recipient::User(user) if machine.memory().index.has_user(user) => {}
            Recipient::Device(_) | Recipient::All if log.recipient_exists(self.recipient)? => {}
            Recipient::Device(_) => return Err(StoreError::Missing("device").into()),
            _ => return Err(StoreError::Missing("user").into()),
        }
        let expires = moment.service.saturating_add(self.ttl);
        let ttl = u32::try_from(self.ttl).unwrap_or(u32::MAX);
        let (head, payload) = {
            let mut memory = machine.memory();
            memory.index.room(self.recipient, self.sender, self.object.len(), self.privileged)?;
            memory.newest.0 += 1;
            let id = memory.newest;
            let payload = self.object.with_id(id);
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let head = Head { id, recipient: self.recipient, sender: self.sender, expires, ttl, created: moment.wall, length };
            memory.index.append(&head);
            (head, payload)
        };
        let id = head.id;
        let until = moment.service + KEY_LIFE_SECONDS;
        let remember = self
            .key
            .map(|key| (keys::stored(self.sender, &key.key), Earlier { id, until, digest: key.digest, answer: key.answer }));
        machine.stage.append(Stored { head, payload: payload.clone() }, remember);
        if let Some((key, _)) = remember {
            let excess = {
                let mut memory = machine.memory();
                memory.keys.insert(key, until);
                memory.keys.excess(&key, !self.privileged)
            };
            if let Some(excess) = excess {
                machine.forget_key(&excess)?;
            }
        }
        Ok(Appended { id, payload: Some(payload), repeated: None, recipients: 0 })
    }
}

/// Returns what `sender` sent under `key`; also where an earlier version has stored the key, under its hash alone.
fn earlier(machine: &Machine<'_>, sender: UserId, key: &IdempotencyKey) -> Result<Option<Earlier>> {
    let current: StoredKey = keys::stored(sender, &key.key);
    Ok(match machine.earlier(&current)? {
        Some(earlier) => Some(earlier),
        None => machine.earlier(&key.key)?,
    })
}

/// Moves the places of readers: everything up to a message has been received. Works on a bounded number of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The proofs.
    pub acks: Vec<Ack>,
    /// The mailboxes that live connections read, with the id up to which all of them have passed.
    pub keep: Vec<(Recipient, Option<MessageId>)>,
}

impl Operation for Acknowledge {
    /// The proofs that are left, for another operation.
    type Output = Vec<Ack>;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Vec<Ack>> {
        let (mut effects, mut left, mut count) = (Effects::default(), Vec::new(), 0);
        // Those of recipients that have been deleted meanwhile have no place any more.
        let mut keep = self.keep;
        keep.retain(|&(recipient, _)| match recipient {
            Recipient::All => true,
            Recipient::User(user) => machine.memory().index.has_user(user),
            Recipient::Device(_) => {
                machine.memory().index.has_place(recipient) || machine.log().recipient_exists(recipient).unwrap_or(false)
            }
        });
        for &(recipient, id) in &keep {
            machine.memory().index.keep(recipient, id);
        }
        for mut ack in self.acks {
            if count >= MAX_OPERATION_MESSAGES {
                left.push(ack);
                continue;
            }
            // The last proof of a device that has been deleted meanwhile.
            let device = ack.device.map(|id| machine.log().recipient_exists(Recipient::Device(id))).transpose()?;
            let mut memory = machine.memory();
            ack.device = ack.device.filter(|_| device == Some(true));
            ack.upto = ack.upto.min(memory.newest); // a cursor beyond every message would hide the next ones
            let budget = MAX_OPERATION_MESSAGES - count;
            let (n, more) = memory.index.acknowledge(&ack, budget, moment.service, moment.wall, &mut effects);
            count += n;
            if more {
                left.push(ack);
            }
        }
        for (recipient, _) in keep {
            machine.memory().index.keep_no_longer(recipient, moment.service, &mut effects);
        }
        machine.follow_by(&effects, moment, Due::Later)?;
        Ok(left)
    }
}

/// Expires messages, and removes history and receipts that have been kept for long enough: a bounded number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {}

impl Operation for Expire {
    /// Set when there is more to do.
    type Output = bool;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<bool> {
        let effects = machine.memory().index.sweep(moment.service);
        machine.follow(&effects, moment)?;
        Ok(expire_receipts(machine, moment)? | effects.more)
    }
}

/// Removes receipts; returns whether there are more to remove.
fn expire_receipts(machine: &mut Machine<'_>, moment: Moment) -> Result<bool> {
    let (mut removals, mut looks) = (0, 0);
    while removals < MAX_REMOVALS && looks < MAX_LOOKS {
        let (number, excess, last) = {
            let memory = machine.memory();
            let Some((number, excess)) = memory.index.removable_receipts(moment.service) else { return Ok(false) };
            (number, excess, (memory.index.receipts.last() == Some(number)).then_some(memory.newest))
        };
        let evicted = machine.evict_receipts(number, excess)?;
        // Those of which nothing could be removed are counted apart: how many of them are looked at is not the same on all nodes.
        *if evicted > 0 { &mut removals } else { &mut looks } += 1;
        // Nothing else is left of the newest ids.
        if let Some(newest) = last.filter(|_| evicted > 0) {
            machine.stage.reserve(newest);
        }
        if excess.is_some() && evicted > 0 {
            machine.event(Event::ReceiptsEvicted(evicted));
        }
    }
    Ok(true)
}

/// Does the work of every minute: removes idempotency keys, readers, passes and pairings whose time is over, saves the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The clock to save; that of the moment where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
}

impl Operation for Tick {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        let (over, readers) = {
            let mut memory = machine.memory();
            let over = memory.keys.expire(moment.service, MAX_REMOVALS);
            (over, memory.index.expire_readers(moment.service))
        };
        for key in over {
            machine.forget_key(&key)?;
        }
        for effects in readers {
            machine.follow(&effects, moment)?;
        }
        passes::expire(machine, moment)?;
        pairings::expire(machine, moment)?;
        clock::save(machine.trees, moment, self.observed)
    }
}

/// Clears a mailbox: what waits there is not delivered. That of a user includes its share of the broadcasts. Works on a bounded
/// number of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// The mailbox.
    pub recipient: Recipient,
}

impl Operation for Clear {
    /// The number of messages, and whether some are left, for another operation.
    type Output = (usize, bool);
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<(usize, bool)> {
        if !machine.log().recipient_exists(self.recipient)? {
            return Ok((0, false));
        }
        let (count, left, effects) = machine.memory().index.clear(self.recipient, MAX_CLEARED_MESSAGES, moment.service);
        machine.follow(&effects, moment)?;
        Ok((count, left))
    }
}

/// The reason for which a message can't be taken back.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// It is not waiting any more.
    #[error("the message is not waiting")]
    NotWaiting,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for CancelError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// Takes back a message that no reader has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The mailbox.
    pub recipient: Recipient,
    /// The message.
    pub id: MessageId,
}

impl Operation for Cancel {
    type Output = ();
    type Error = CancelError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<(), CancelError> {
        let effects = {
            let mut memory = machine.memory();
            if !memory.index.is_pending(self.recipient, self.id) {
                return Err(CancelError::NotWaiting);
            }
            memory.index.cancel(self.recipient, self.id)
        };
        Ok(machine.follow(&effects, moment)?)
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

/// Removes everything that belongs to a deleted recipient. What waits there is cleared.
pub(super) fn remove_mailbox(machine: &mut Machine<'_>, recipient: Recipient, moment: Moment) -> Result<()> {
    let exists = machine.log().recipient_exists(recipient)?;
    let effects = {
        let mut memory = machine.memory();
        let kept = exists.then_some(memory.newest);
        memory.index.forget(recipient, kept, moment.service)
    };
    machine.follow(&effects, moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_differ_by_sender_and_request() {
        let answer = Answer { timestamp: None, recipients: 0 };
        let key = |sender, key: &str, request: &[u8]| IdempotencyKey::new(UserId(sender), key, request, answer);
        assert_eq!(key(1, "a", b"x"), key(1, "a", b"x"));
        assert_ne!(key(1, "a", b"x").key, key(2, "a", b"x").key);
        assert_ne!(key(1, "a", b"x").key, key(1, "b", b"x").key);
        assert_ne!(key(1, "a", b"x").digest, key(1, "a", b"y").digest);
    }
}
