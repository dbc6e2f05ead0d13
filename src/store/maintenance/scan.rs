//! Reading a damaged store as far as possible.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sled::{IVec, Tree};

use crate::core::ids::MessageId;
use crate::store::Result;
use crate::store::meta::MetaKey;
use crate::store::quiet::quietly;
use crate::store::records::{EndState, Head, PageNumber, Place, ReceiptPage, read_block};
use crate::store::table::Value;
use crate::store::trees::Trees;

/// The first bytes of a key, as a number, by which the next readable page is looked for.
const PROBED_BYTES: usize = 16;

/// The bytes of an id.
const ID_BYTES: usize = 8;

/// Returns all entries of a tree that can be reached, page by page; and the reason for which some can't be.
pub(super) fn readable(tree: &Tree) -> (Option<String>, impl Iterator<Item = (IVec, IVec)>) {
    // First the keys alone: an iterator of sled's stays at a page that can't be read.
    let (mut parts, mut broken, mut from) = (Vec::new(), None, Some(IVec::default()));
    while let Some(start) = from.take() {
        let (last, end) = keys(tree, &start);
        let reached = last.clone().unwrap_or_else(|| start.clone());
        parts.extend(last.map(|last| (start, last)));
        if let Some(end) = end {
            from = behind(tree, &reached, end.finest(&reached));
            broken.get_or_insert_with(|| format!("can't be read in the middle: {}", end.reason()));
        }
    }
    let entries = parts.into_iter().flat_map(|(first, last)| tree.range(first..=last).map_while(std::result::Result::ok));
    (broken, entries)
}

/// A page at which reading ends.
enum Unread {
    /// It can't be read.
    Damaged(sled::Error),
    /// Another page knows of it, and the log has none.
    Missing,
}

impl Unread {
    fn reason(self) -> String {
        match self {
            Self::Damaged(error) => error.to_string(),
            Self::Missing => "a page is missing".to_owned(),
        }
    }

    /// The bits of a probed number below which nothing is looked for. For a missing page sled looks a million times before it gives up, so
    /// that there the steps are whole keys; where `reached` is shorter than an id, of an id's bytes.
    fn finest(&self, reached: &IVec) -> u32 {
        match self {
            Self::Damaged(_) => 0,
            Self::Missing => 8 * (PROBED_BYTES - reached.len().clamp(ID_BYTES, PROBED_BYTES)) as u32,
        }
    }
}

/// Returns the last key that can be reached from `start` on, and the page at which that ends before the tree does.
fn keys(tree: &Tree, start: &IVec) -> (Option<IVec>, Option<Unread>) {
    let mut last = None;
    let walk = || tree.range(start.clone()..).keys().try_for_each(|key| key.map(|key| last = Some(key)));
    let end = match reading(walk) {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(Unread::Damaged(error)),
        None => Some(Unread::Missing),
    };
    (last, end)
}

/// Runs `job`, which reads a tree; `None` where a page is missing of which another one knows, at which sled panics instead of returning
/// an error.
fn reading<T>(job: impl FnOnce() -> T) -> Option<T> {
    quietly(|| catch_unwind(AssertUnwindSafe(job))).ok()
}

/// Returns a key behind the unreadable page that follows `reached`, from which on the tree can be read; `None` where there is none.
/// `finest` bits of a number are not looked at.
fn behind(tree: &Tree, reached: &IVec, finest: u32) -> Option<IVec> {
    let key = |number: u128| IVec::from(&number.to_be_bytes());
    let first_of = |number: u128| tree.range(key(number)..).keys().next();
    let opens = |number: u128| reading(|| first_of(number)).is_some_and(|found| found.is_none_or(|found| found.is_ok()));
    let mut first = [0; PROBED_BYTES];
    let known = reached.len().min(PROBED_BYTES);
    first[..known].copy_from_slice(&reached[..known]);
    let first = u128::from_be_bytes(first);
    // Twice as far each time, and then back to the end of the page.
    let (mut bad, mut good) = (first, None);
    for step in finest..u128::BITS {
        let Some(number) = first.checked_add(1 << step) else { break };
        if opens(number) {
            good = Some(number);
            break;
        }
        bad = number;
    }
    let mut good = good?;
    while good - bad > 1 << finest {
        let middle = bad + (good - bad) / 2;
        *(if opens(middle) { &mut good } else { &mut bad }) = middle;
    }
    Some(key(good))
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
