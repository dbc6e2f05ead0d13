//! The start: the part of the state that is in memory, from the trees.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::Trail;
use super::clock::Moment;
use super::index::{Effects, Index};
use super::keys::Keys;
use super::log::{Settings, remove_mailbox};
use super::machine::{Machine, State};
use super::memory::Memory;
use super::pairings::Pairings;
use super::passes::Passes;
use super::stage::Due;
use crate::core::ids::{MessageId, Recipient};
use crate::store::{Log, PageNumber, Place, Result, Trees};

/// Loads the part of the state that is in memory, and removes remains of a crash.
///
/// # Errors
/// If the store fails, or holds a record that can't be read.
pub(super) fn load(trees: &Trees, settings: Settings, moment: Moment) -> Result<State> {
    let log = Log::new(trees);
    let mut index = Index::new(settings.mailbox, settings.history);
    let mut newest = MessageId(0);
    for user in log.users() {
        let (user, joined) = user?;
        newest = newest.max(joined);
        index.add_user(user, joined);
    }
    let handed_over = handed_over(trees)?;
    let mut behind = handed_over.clone();
    for place in log.places() {
        let (recipient, place) = place?;
        if behind.get(&recipient).is_some_and(|&upto| upto <= place.front) {
            behind.remove(&recipient);
        }
        newest = newest.max(place.front).max(place.gone);
        index.load_place(recipient, place);
    }
    for (&recipient, &upto) in &behind {
        index.load_place(recipient, Place { front: upto, trimmed: upto, gone: upto, ..Place::default() });
    }
    newest = newest.max(load_messages(log, &mut index, &handed_over)?);
    // After the blocks, which hold them.
    for page in log.all_receipts() {
        let (number, page) = page?;
        newest = newest.max(page.records().last().map_or(MessageId(0), |record| record.id));
        index.receipts.set(number, &page);
        if index.holds_all(&page) {
            index.receipts.hold(number);
        }
    }
    let newest_loaded = newest;
    log.written_up_to(newest);
    let newest = newest.max(log.reserved()?);
    let mut keys = Keys::default();
    for entry in log.remembered() {
        let (key, earlier) = entry?;
        keys.insert(key, earlier.until);
    }
    let (trail, passes, pairings) = (Trail::load(trees)?, Passes::load(trees)?, Pairings::load(trees)?);
    let state = State::new(Memory { index, keys, newest, newest_loaded, trail, passes, pairings });
    let places = behind.into_keys().collect();
    Machine::new(trees, &state).follow(&Effects { places, ..Effects::default() }, moment)?;
    remove_orphans(trees, &state, moment)?;
    Ok(state)
}

/// Returns the devices that were handed over, each with the newest message of that moment: none up to it is for the present users, even
/// where a crash came between the hand-over and the removal of the mailbox.
fn handed_over(trees: &Trees) -> Result<BTreeMap<Recipient, MessageId>> {
    let mut found = BTreeMap::new();
    for device in trees.devices.values() {
        let device = device?;
        found.extend(device.emptied.map(|upto| (Recipient::Device(device.id), upto)));
    }
    Ok(found)
}

/// Loads the messages but those that are no longer for their mailbox, by `handed_over`; returns the newest one. Blocks and pieces that are of no use, remains of a crash, are removed.
fn load_messages(log: Log<'_>, index: &mut Index, handed_over: &BTreeMap<Recipient, MessageId>) -> Result<MessageId> {
    let (mut newest, mut useless, mut with_pieces) = (MessageId(0), Vec::new(), BTreeSet::new());
    let mut page = (PageNumber(u64::MAX), Default::default());
    for block in log.heads() {
        let (first, heads) = block?;
        let mut used = 0;
        for head in &heads {
            let number = PageNumber::of(head.id);
            if page.0 != number {
                page = (number, log.receipts(number)?);
            }
            let is_foreign = handed_over.get(&head.recipient).is_some_and(|&upto| head.id <= upto);
            if !is_foreign && index.load(head, page.1.get(head.id)) {
                used += 1;
                with_pieces.extend(Some(head.id).filter(|_| !head.is_inline()));
            }
        }
        let last = heads.last().map_or(first, |head| head.id);
        newest = newest.max(last);
        if used == 0 {
            useless.push(first);
        } else {
            index.add_block(first, last, used, u32::try_from(heads.len()).unwrap_or(u32::MAX));
        }
    }
    for first in useless {
        log.remove_block(first)?;
    }
    let leftovers: Vec<MessageId> =
        log.with_pieces().filter(|id| id.as_ref().map_or(true, |id| !with_pieces.contains(id))).collect::<Result<_>>()?;
    for id in leftovers {
        log.remove_pieces(id)?;
    }
    Ok(newest)
}

/// Removes mailboxes of recipients that were deleted just before a crash.
fn remove_orphans(trees: &Trees, state: &State, moment: Moment) -> Result<()> {
    let recipients: Vec<Recipient> = state.memory.lock().index.recipients().into_iter().collect();
    for recipient in recipients {
        if !Log::new(trees).recipient_exists(recipient)? {
            remove_mailbox(&mut Machine::new(trees, state), recipient, moment)?;
        }
    }
    state.write(trees, Due::Now).map(drop)
}
