//! Records of places: how far a mailbox has been received, by each of its readers.

use serde::{Deserialize, Serialize};

use crate::core::client::ClientName;
use crate::core::ids::MessageId;
use crate::store::checked::checked_values;

/// The state of a mailbox that is not its messages. A user's also holds the place of the user in the broadcasts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Up to here some reader has received everything that was for it. New readers start here.
    pub front: MessageId,
    /// Of a user: the same of the broadcasts.
    pub broadcasts: MessageId,
    /// Of a user: the broadcasts that were cleared last, above the first id up to the second: nobody received them.
    pub cleared: (MessageId, MessageId),
    /// Received messages up to here have been removed.
    pub trimmed: MessageId,
    /// The newest message that is no longer there, for whatever reason.
    pub gone: MessageId,
    /// Received messages above are kept for live connections that have not passed them; `None`: all have.
    pub keep: Option<MessageId>,
    /// Messages that were removed before every reader had them, in the order of their ids.
    pub missed: Vec<Missed>,
    /// Of a user: its readers.
    pub readers: Vec<ReaderPlace>,
    /// The number of the next reader.
    pub next_reader: u16,
}

/// Messages that were removed although some readers had not received them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The last of them.
    pub upto: MessageId,
    /// Their number, from behind the entry before.
    pub count: u64,
}

/// The place of one reader of a user's messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderPlace {
    /// Its number, unique in the place; receipts name it.
    pub number: u16,
    /// Its name.
    pub client: ClientName,
    /// It has received the user's messages up to here.
    pub cursor: MessageId,
    /// It has received the broadcasts up to here.
    pub broadcasts: MessageId,
    /// It has been told of the user's messages that it has missed up to here.
    pub told: MessageId,
    /// The same of the broadcasts.
    pub told_broadcasts: MessageId,
    /// The time of its last connection, in seconds of the service clock, to the hour.
    pub connected: u64,
    /// The same in microseconds since 1970.
    pub connected_at: i64,
}

impl Place {
    /// Returns the reader of that name.
    pub fn reader(&self, client: &ClientName) -> Option<&ReaderPlace> {
        self.readers.iter().find(|reader| reader.client == *client)
    }
}

impl ReaderPlace {
    /// The user's messages up to here are not missed: they have been received, or the reader has been told.
    pub fn mark(&self) -> MessageId {
        self.cursor.max(self.told)
    }
}

checked_values!(Place);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Value;

    #[test]
    fn places_are_read_as_written_and_damaged_ones_not_at_all() {
        let reader = ReaderPlace {
            number: 3,
            client: ClientName::chosen("phone").unwrap(),
            cursor: MessageId(7),
            broadcasts: MessageId(u64::MAX),
            told: MessageId(0),
            told_broadcasts: MessageId(5),
            connected: 9,
            connected_at: -1,
        };
        let place = Place { front: MessageId(7), next_reader: 4, readers: vec![reader], ..Place::default() };
        let bytes = place.encode().unwrap().into_owned();
        assert_eq!(Place::decode(&bytes), Some(place.clone()));
        assert!(bytes.len() < 70, "{}", bytes.len());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(Place::decode(&bytes), None);
        }
    }
}
