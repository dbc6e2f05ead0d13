//! Layouts 1 to 3, which versions before 0.2 wrote: reading them, and writing their content in today's layout.
//!
//! They kept each message under its recipient and id, with a tree of recipients by id beside it; one cursor a mailbox; the times of
//! receipt by cursor; and a mark of the newest removed message. Only these differ.

use std::collections::BTreeMap;

use sled::{Db, IVec, Tree};

use crate::core::client::ClientName;
use crate::core::ids::{MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::store::log::Log;
use crate::store::meta::MetaKey;
use crate::store::records::{BlockBuilder, EndState, Head, PageNumber, Place, ReaderPlace, ReceiptPage, Stored, Token};
use crate::store::staging::StagedStore;
use crate::store::table::Value;
use crate::store::trees::Trees;
use crate::store::{Result, SCHEMA, StoreError};

/// The length of a message's record before the payload: layout, expired flag, sender, expires, created, length.
const HEAD_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 4;

/// Returns the highest message id that a store of an older layout can have given out.
///
/// # Errors
/// If the store fails.
pub fn newest_given(db: &Db) -> Result<MessageId> {
    let meta = db.open_tree("meta")?.get(MetaKey::MessageIdsReserved.name())?;
    let reserved = meta.and_then(|bytes| MessageId::from_key(&bytes));
    let last = db.open_tree("message_ids")?.last()?.and_then(|(key, _)| MessageId::from_key(&key));
    let purged = db.open_tree("purged")?.iter().values().filter_map(|value| MessageId::from_key(&value.ok()?)).max();
    Ok(reserved.max(last).max(purged).unwrap_or(MessageId(0)))
}

/// The owner of a cursor in an older layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    Mailbox(Recipient),
    Broadcasts(UserId),
}

fn cursor(key: &[u8]) -> Option<Cursor> {
    match key.split_first() {
        Some((b'b', id)) => UserId::from_key(id).map(Cursor::Broadcasts),
        _ => Recipient::from_key(key).map(Cursor::Mailbox),
    }
}

fn damaged(tree: &'static str) -> StoreError {
    StoreError::Damaged { tree }
}

/// A store of an older layout, and the one that is written from it.
struct Conversion<'a> {
    old: &'a Db,
    new: &'a mut StagedStore,
    /// The service clock, and the wall clock in seconds, when they were saved.
    saved: (u64, u64),
    places: BTreeMap<Recipient, Place>,
}

/// Writes the content of `old` into `new`, in today's layout. Blocks.
///
/// # Errors
/// If a store fails, or a record can't be read.
pub fn convert(old: &Db, new: &mut StagedStore) -> Result<()> {
    let meta = old.open_tree("meta")?;
    let number = |key: MetaKey| -> Result<u64> {
        let bytes = meta.get(key.name())?;
        Ok(bytes.and_then(|bytes| MessageId::from_key(&bytes)).map_or(0, |id| id.0))
    };
    let saved = (number(MetaKey::ServiceSeconds)?.max(1), number(MetaKey::ServiceWallSeconds)?);
    let mut conversion = Conversion { old, new, saved, places: BTreeMap::new() };
    conversion.copy_other_trees()?;
    conversion.read_places()?;
    conversion.write_messages()?;
    let log = Log::new(&conversion.new.trees);
    for (recipient, place) in &conversion.places {
        log.set_place(*recipient, place)?;
    }
    log.reserve_ids(newest_given(old)?)?;
    conversion.new.trees.set_schema(SCHEMA)
}

impl Conversion<'_> {
    fn tree(&self, name: &str) -> Result<Tree> {
        Ok(self.old.open_tree(name)?)
    }

    fn copy_other_trees(&mut self) -> Result<()> {
        let changed = ["blocks", "receipt_pages", "places"];
        for name in Trees::NAMES.iter().filter(|name| !changed.contains(name)) {
            let copy = self.new.tree(name)?;
            for entry in &self.tree(name)? {
                let (key, value) = entry?;
                self.new.put(&copy, &key, &value)?;
            }
        }
        // Layout 1 did not list tokens by their ids.
        for entry in self.new.trees.tokens.tree() {
            let (key, value) = entry?;
            let token = Token::decode(&value).ok_or_else(|| damaged("tokens"))?;
            self.new.trees.token_ids.tree().insert(token.id.to_key(), key)?;
        }
        Ok(())
    }

    /// A user that has a cursor has a default reader there.
    fn read_places(&mut self) -> Result<()> {
        for entry in &self.tree("cursors")? {
            let (key, value) = entry?;
            let (Some(cursor), Some(upto)) = (cursor(&key), MessageId::from_key(&value)) else { return Err(damaged("cursors")) };
            match cursor {
                Cursor::Mailbox(to @ Recipient::User(_)) => {
                    self.default_reader(to).cursor = upto;
                    self.places.entry(to).or_default().front = upto;
                }
                Cursor::Mailbox(to) => self.places.entry(to).or_default().front = upto,
                Cursor::Broadcasts(user) => {
                    let to = Recipient::User(user);
                    self.default_reader(to).broadcasts = upto;
                    self.places.entry(to).or_default().broadcasts = upto;
                    let all = self.places.entry(Recipient::All).or_default();
                    all.front = all.front.max(upto);
                }
            }
        }
        for entry in &self.tree("purged")? {
            let (key, value) = entry?;
            let (Some(to), Some(gone)) = (Recipient::from_key(&key), MessageId::from_key(&value)) else {
                return Err(damaged("purged"));
            };
            self.places.entry(to).or_default().gone = gone;
        }
        Ok(())
    }

    fn default_reader(&mut self, user: Recipient) -> &mut ReaderPlace {
        let place = self.places.entry(user).or_default();
        if place.readers.is_empty() {
            place.next_reader = 1;
            let zero = MessageId(0);
            place.readers.push(ReaderPlace {
                number: 0,
                client: ClientName::default(),
                cursor: zero,
                broadcasts: zero,
                told: zero,
                told_broadcasts: zero,
                connected: self.saved.0,
                connected_at: Timestamp::now().unix_micros(),
            });
        }
        &mut place.readers[0]
    }

    fn write_messages(&mut self) -> Result<()> {
        let (mailbox, pieces) = (self.tree("mailbox")?, self.tree("pieces")?);
        let (mut block, mut page) = (None::<BlockBuilder>, (PageNumber(0), ReceiptPage::default()));
        for entry in &self.tree("message_ids")? {
            let (key, to) = entry?;
            let (Some(id), Some(to)) = (MessageId::from_key(&key), Recipient::from_key(&to)) else {
                return Err(damaged("message_ids"));
            };
            let Some(record) = mailbox.get([&to.to_key()[..], &key].concat())? else { continue }; // remains of a crash
            let (message, expired) = self.message(id, to, &record, &pieces)?;
            if page.0 != PageNumber::of(id) {
                self.write_page(&page)?;
                page = (PageNumber::of(id), ReceiptPage::default());
            }
            self.write_receipt(&message.head, expired, &mut page.1)?;
            if expired {
                let place = self.places.entry(to).or_default();
                place.gone = place.gone.max(id);
                continue;
            }
            Log::new(&self.new.trees).write_pieces(&message)?;
            if let Some(full) = block.take_if(|block| !block.has_room(&message.head)) {
                self.write_block(full)?;
            }
            block.get_or_insert_with(|| BlockBuilder::new(id)).push(&message);
        }
        self.write_page(&page)?;
        block.map_or(Ok(()), |block| self.write_block(block))
    }

    fn write_block(&mut self, block: BlockBuilder) -> Result<()> {
        let (tree, first) = (self.new.trees.blocks.tree().clone(), block.first);
        self.new.put(&tree, &first.to_key(), &block.finish())
    }

    fn write_page(&mut self, (number, page): &(PageNumber, ReceiptPage)) -> Result<()> {
        if page.records().is_empty() { Ok(()) } else { Log::new(&self.new.trees).set_receipts(*number, page) }
    }

    /// Returns a message, and whether it has expired.
    fn message(&self, id: MessageId, recipient: Recipient, record: &IVec, pieces: &Tree) -> Result<(Stored, bool)> {
        let wrong = || damaged("mailbox");
        let (head, inline) = record.split_first_chunk::<HEAD_BYTES>().ok_or_else(wrong)?;
        let long = |at: usize| head[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
        let (sender, expires) = (UserId(long(2)), long(10));
        let created = Timestamp::from_unix_micros(long(18).cast_signed());
        let mut payload = inline.to_vec();
        if inline.is_empty() {
            for piece in pieces.scan_prefix(id.to_key()).values() {
                payload.extend_from_slice(&piece?);
            }
        }
        let length = u32::try_from(payload.len()).map_err(|_| wrong())?;
        if head[26..] != length.to_be_bytes() {
            return Err(wrong());
        }
        // The service clock at the moment of sending is not stored: it is worked out from the moment at which both were.
        let age = self.saved.1.saturating_sub(u64::try_from(created.unix_seconds()).unwrap_or(0));
        let ttl = expires.saturating_sub(self.saved.0.saturating_sub(age));
        let ttl = u32::try_from(ttl).unwrap_or(u32::MAX);
        Ok((Stored { head: Head { id, recipient, sender, expires, ttl, created, length }, payload }, head[1] != 0))
    }

    /// Adds the receipt of a message that has expired or been received.
    fn write_receipt(&self, head: &Head, expired: bool, page: &mut ReceiptPage) -> Result<()> {
        if expired {
            page.entry(head).finish(EndState::Expired, None, Some(head.expires_at()), head.expires);
            return Ok(());
        }
        let front = self.places.get(&head.recipient).map_or(MessageId(0), |place| place.front);
        if head.id > front {
            return Ok(());
        }
        let key = |id: MessageId| [&head.recipient.to_key()[..], &id.to_key()].concat();
        let receipts = self.tree("receipts")?;
        let found = receipts.range(key(head.id)..=key(MessageId(u64::MAX))).next().transpose()?;
        let number =
            |n: usize| found.as_ref().and_then(|(_, value)| value.get(8 * n..8 * n + 8)?.try_into().ok()).map(u64::from_be_bytes);
        let wall = number(0).map(|micros| Timestamp::from_unix_micros(micros.cast_signed()));
        // Where the time is unknown, the message is kept from now on.
        page.entry(head).finish(EndState::Acked, Some(0), wall, number(1).unwrap_or(self.saved.0));
        Ok(())
    }
}
