//! Readers whose connections end at the same message, again and again.
//!
//! A message that a client can't take, because it is too large for it or makes it fail, would keep everything behind it for as
//! long as it lives. It is passed over for that reader once enough connections have ended at it.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId, UserId};

/// The connections in a row that a client closes with 1009 at a message before it is passed over.
const MAX_TOO_BIG: u8 = 3;
/// The connections that end with a message alone in flight before it is passed over.
const MAX_ALONE: u8 = 10;
/// The most readers that are remembered; beyond that any of them is forgotten.
const MAX_READERS: usize = 10_000;

/// The end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The message that the client has stopped at, everything before it being proved; `None` where that is not known.
    pub stopped_at: Option<MessageId>,
    /// It alone was in flight.
    pub alone: bool,
    /// Messages were in flight, and nothing was proved on this connection.
    pub unproved: bool,
    /// The client closed because a message was too large for it.
    pub too_big: bool,
    /// The client ended the connection, or took nothing more.
    pub by_client: bool,
}

/// A reader, as its connections name it.
pub(super) type Key = (UserId, ClientName, Option<DeviceId>);

/// The trouble of one reader.
#[derive(Debug, Default)]
struct Trouble {
    message: MessageId,
    too_big: u8,
    alone: u8,
    /// Its next connection starts with one message in flight.
    cautious: bool,
}

/// The readers in trouble.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<HashMap<Key, Trouble>>);

impl Troubles {
    /// Returns whether the next connection of a reader starts with one message.
    pub(super) fn is_cautious(&self, reader: &Key) -> bool {
        self.0.lock().get(reader).is_some_and(|trouble| trouble.cautious)
    }

    /// Notes the end of a connection; returns the message that its reader passes over from now on.
    pub(super) fn note(&self, key: Key, ending: Ending) -> Option<MessageId> {
        let Ending { stopped_at, alone, unproved, too_big, by_client } = ending;
        let mut readers = self.0.lock();
        if !by_client {
            return None;
        }
        let (Some(message), true) = (stopped_at, unproved || too_big || alone) else {
            if unproved {
                Self::entry(&mut readers, key).cautious = true;
            } else {
                readers.remove(&key);
            }
            return None;
        };
        let trouble = Self::entry(&mut readers, key.clone());
        if trouble.message != message {
            *trouble = Trouble { message, ..Trouble::default() };
        }
        trouble.cautious = unproved || too_big;
        trouble.too_big = if too_big { trouble.too_big + 1 } else { 0 };
        trouble.alone += u8::from(alone);
        if trouble.too_big < MAX_TOO_BIG && trouble.alone < MAX_ALONE {
            return None;
        }
        readers.remove(&key);
        Some(message)
    }

    fn entry(readers: &mut HashMap<Key, Trouble>, key: Key) -> &mut Trouble {
        if readers.len() >= MAX_READERS
            && !readers.contains_key(&key)
            && let Some(any) = readers.keys().next().cloned()
        {
            readers.remove(&any);
        }
        readers.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(message: u64) -> Ending {
        Ending { stopped_at: Some(MessageId(message)), alone: true, unproved: true, too_big: false, by_client: true }
    }

    fn key() -> Key {
        (UserId(1), ClientName::default(), None)
    }

    #[test]
    fn three_refusals_in_a_row_pass_over_a_message() {
        let (troubles, refused) = (Troubles::default(), Ending { too_big: true, alone: false, ..ending(5) });
        assert_eq!(troubles.note(key(), refused), None);
        assert_eq!(troubles.note(key(), ending(5)), None, "not in a row");
        let passed: Vec<_> = (0..4).map(|_| troubles.note(key(), refused)).collect();
        assert_eq!(passed, [None, None, Some(MessageId(5)), None]);
    }

    #[test]
    fn ten_ends_alone_pass_over_a_message_and_progress_starts_anew() {
        let troubles = Troubles::default();
        let ends = |count, message| (0..count).map(|_| troubles.note(key(), ending(message))).collect::<Vec<_>>();
        assert_eq!(ends(9, 5), [None; 9]);
        assert_eq!(ends(9, 6), [None; 9]);
        assert_eq!(ends(1, 6), [Some(MessageId(6))]);
        assert_eq!(ends(9, 6), [None; 9]);
        assert_eq!(troubles.note(key(), Ending { unproved: false, alone: false, stopped_at: None, ..ending(6) }), None);
        assert_eq!(ends(9, 6), [None; 9]);
        assert_eq!(troubles.note(key(), Ending { by_client: false, ..ending(6) }), None, "the server's own doing");
    }
}
