//! What runs on the store's writer thread, one at a time: the only code that changes the books and the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::message::{Accepted, Outgoing};
use super::state::Effects;
use super::watch::Outcome;
use super::{MailboxError, Shared};
use crate::core::ids::{MessageId, Recipient};
use crate::core::time::Timestamp;
use crate::hub::Announcement;
use crate::store::{Earlier, Head, Log, Reader, StoreError, Stored};

/// How many ids are reserved on disk at once; as many are skipped by a crash at most.
const RESERVE: u64 = 4096;
/// Names of the numbers in the store.
pub(super) const RESERVED: &str = "message_ids_reserved";
/// How long an idempotency key is remembered, in seconds.
const REMEMBER: u64 = 86_400;
/// How many are remembered at most; beyond that the oldest goes early.
const MAX_REMEMBERED: usize = 100_000;

/// Gives an id, writes the record, keeps the books. On the writer thread.
pub(super) fn append(shared: &Shared, log: Log<'_>, message: Outgoing) -> Result<Accepted, MailboxError> {
    if let Some(key) = &message.key
        && let Some(earlier) = log.earlier(&key.key)?
    {
        if earlier.digest != key.digest {
            return Err(MailboxError::KeyReused);
        }
        return Ok(Accepted { id: earlier.id, recipients: 0, repeated: true, announcement: None });
    }
    // Whoever it is for may have gone since the sender was let through.
    match message.recipient {
        _ if log.knows(message.recipient)? => {}
        Recipient::Device(_) => return Err(StoreError::Missing("device").into()),
        _ => return Err(StoreError::Missing("user").into()),
    }
    let now = shared.clock.now();
    let mut books = shared.books();
    if books.state.room(message.recipient, message.object.len()).is_err() {
        drop(books);
        // Broadcasts leave when everybody has them; that is looked up only when their room is needed.
        if message.recipient == Recipient::All {
            free_broadcasts(shared, log)?;
        }
        books = shared.books();
        books.state.room(message.recipient, message.object.len()).map_err(|_| MailboxError::Full)?;
    }
    let id = MessageId(books.next);
    if id.0 > books.reserved {
        // Durable with this very batch, so before any id of it is told to anyone.
        log.set_number(RESERVED, id.0 + RESERVE)?;
        books.reserved = id.0 + RESERVE;
    }
    books.next += 1;
    drop(books);

    let payload = message.object.with_id(id);
    let expires = now + message.ttl.unwrap_or_else(|| shared.ttl.load(Ordering::Relaxed));
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let head = Head { id, sender: message.sender, expires, expired: false, created: Timestamp::now(), length };
    let until = now + REMEMBER;
    let remember = message.key.map(|key| (key.key, Earlier { id, until, digest: key.digest }));
    let stored = Stored { head, payload };
    log.append(message.recipient, &stored, remember.as_ref().map(|(key, earlier)| (key, *earlier)))?;
    let mut books = shared.books();
    if let Some((key, _)) = remember {
        books.remembered.push_back((until, key));
        if books.remembered.len() > MAX_REMEMBERED
            && let Some((_, oldest)) = books.remembered.pop_front()
        {
            log.forget(&oldest)?;
        }
    }
    books.state.append(message.recipient, id, expires, length);
    if let Some(teller) = message.teller {
        shared.watches.add(message.recipient, id, teller);
    }
    let announcement = Some(Arc::new(Announcement::new(message.recipient, Some(id), stored.payload)));
    Ok(Accepted { id, recipients: 0, repeated: false, announcement })
}

/// Moves the cursors that have been waiting to be moved. On the writer thread.
pub(super) fn take_acks(shared: &Shared, log: Log<'_>) -> Result<(), StoreError> {
    // First the flag: an acknowledgement that comes from here on submits anew.
    shared.acks_submitted.store(false, Ordering::Release);
    let acks = std::mem::take(&mut *shared.acks.lock());
    // Lives end first: what was passed over because its time was up must not count as received.
    end_lives(shared, log)?;
    let (now, when) = (shared.clock.now(), Timestamp::now());
    for (reader, (upto, joined)) in acks {
        // The last proof of somebody who has been removed meanwhile.
        let owner = if let Reader::Broadcasts(user) = reader { Recipient::User(user) } else { reader.recipient() };
        if !log.knows(owner)? {
            continue;
        }
        let moved = shared.books().state.receive(reader, upto, joined, now);
        let Some((received, effects)) = moved else { continue };
        shared.metrics.mailbox.delivered.add(received as u64);
        log.set_cursor(reader, upto)?;
        if reader.recipient() != Recipient::All {
            log.note_receipt(reader.recipient(), upto, when)?;
        }
        // Before what this lets go of is called expired: it was received.
        shared.watches.received(reader.recipient(), upto);
        apply(shared, log, &effects)?;
    }
    Ok(())
}

/// Ends lives and lets go of history. On the writer thread.
pub(super) fn end_lives(shared: &Shared, log: Log<'_>) -> Result<(), StoreError> {
    let effects = shared.books().state.sweep(shared.clock.now());
    apply(shared, log, &effects)
}

/// Lets go of the broadcasts that every enabled account has received. On the writer thread, so that nobody joins meanwhile.
pub(super) fn free_broadcasts(shared: &Shared, log: Log<'_>) -> Result<(), StoreError> {
    let users: Vec<_> = log.listeners().collect::<Result<_, _>>()?;
    let effects = shared.books().state.free_broadcasts(users.into_iter(), shared.clock.now());
    apply(shared, log, &effects)
}

/// Makes the log agree with the books. On the writer thread.
pub(super) fn apply(shared: &Shared, log: Log<'_>, effects: &Effects) -> Result<(), StoreError> {
    shared.metrics.mailbox.expired.add(effects.expired.len() as u64);
    for &(recipient, id) in &effects.expired {
        log.note_purged(recipient, id)?; // nobody will get it any more: who asks what is missing must be told
        log.mark_expired(recipient, id)?;
        shared.watches.tell(recipient, id, Outcome::Expired);
    }
    let mut touched: Vec<Recipient> = Vec::new();
    for &(recipient, id) in &effects.purged {
        log.note_purged(recipient, id)?;
        log.remove(recipient, id)?;
        shared.watches.tell(recipient, id, Outcome::Expired);
        if touched.last() != Some(&recipient) {
            touched.push(recipient);
        }
    }
    for recipient in touched {
        let oldest = shared.books().state.oldest_kept(recipient);
        log.forget_receipts(recipient, oldest.unwrap_or(MessageId(u64::MAX)))?;
    }
    Ok(())
}

/// Forgets idempotency keys whose time is over. On the writer thread.
pub(super) fn forget_keys(shared: &Shared, log: Log<'_>, now: u64) -> Result<(), StoreError> {
    let mut books = shared.books();
    while let Some(&(until, key)) = books.remembered.front()
        && until <= now
    {
        books.remembered.pop_front();
        log.forget(&key)?;
    }
    Ok(())
}
