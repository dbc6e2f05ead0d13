//! Reading a damaged store as far as possible.

use sled::Tree;

use crate::core::ids::MessageId;
use crate::store::Result;
use crate::store::meta::MetaKey;
use crate::store::records::{EndState, Head, PageNumber, Place, ReceiptPage, read_block};
use crate::store::table::Value;
use crate::store::trees::Trees;

/// Returns all entries of a tree that can be reached, from its beginning and, where that breaks off, from its end; and the reason
/// for which it broke off.
pub(super) fn readable(tree: &Tree) -> (Option<String>, impl Iterator<Item = (sled::IVec, sled::IVec)>) {
    // First the keys alone: an unreadable page is approached from both sides.
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

/// Returns the highest message id of which the store has a trace, records that are damaged or of deleted recipients included. Reads
/// all messages and receipts. An entry that can't be read has no part in it, but for the first message of a block.
pub(super) fn newest_message(trees: &Trees) -> MessageId {
    let reserved = trees.meta.number(MetaKey::MessageIdsReserved).unwrap_or(0);
    let messages = readable(trees.blocks.tree()).1.filter_map(|(key, block)| {
        let last = read_block(&block).and_then(|messages| messages.flatten().last()).map(|(head, _)| head.id);
        last.max(MessageId::from_key(&key))
    });
    let receipts = readable(trees.receipt_pages.tree()).1;
    let receipts = receipts.filter_map(|(_, page)| Some(ReceiptPage::decode(&page)?.records().last()?.id));
    // Not the fronts, which are verified against this.
    let removed = readable(trees.places.tree()).1.filter_map(|(_, place)| Some(Place::decode(&place)?.gone));
    messages.chain(receipts).chain(removed).max().unwrap_or(MessageId(0)).max(MessageId(reserved))
}

/// Returns whether a message has been removed, and is only in the block of others that are of use still.
///
/// # Errors
/// If the store fails.
pub(super) fn is_over(trees: &Trees, head: &Head) -> Result<bool> {
    let page = trees.receipt_pages.get(&PageNumber::of(head.id))?;
    let end = page.as_ref().and_then(|page| page.get(head.id)?.end);
    // Without a place, the mailbox was deleted.
    let trimmed = trees.places.get(&head.recipient)?.map_or(MessageId(u64::MAX), |place| place.trimmed);
    Ok(end.is_some_and(|end| end != EndState::Acked || head.id <= trimmed))
}
