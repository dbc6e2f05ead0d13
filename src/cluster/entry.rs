//! The form of entries.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chain::Link;
use super::{BootId, LEVEL, NodeName, Position};
use crate::core::time::Timestamp;

/// The version of the form.
const VERSION: u32 = 1;
/// The most operations of an entry.
pub const MAX_OPERATIONS: usize = 512;
/// The most bytes of the operations of an entry, where they are several.
pub const MAX_BYTES: usize = 512 << 10;

/// An error of an entry that can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It is of no known form.
    #[error("the log has something at {0} that is no entry: {1}")]
    Malformed(Position, serde_json::Error),
    /// A later version made it.
    #[error(
        "the log has an entry at {position} that needs a newer version (level {level}, this one knows {LEVEL}): update qy-lty on this node"
    )]
    Newer {
        /// Its position.
        position: Position,
        /// Its level.
        level: u32,
    },
}

/// The name of an entry, by which a repetition is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The run of the author.
    pub boot: BootId,
    /// The number in that run: rising, not dense.
    pub n: u64,
}

/// A place in the log, with the chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The position.
    pub position: Position,
    /// The link behind its entry.
    pub chain: Link,
}

/// An entry of the log: operations of one node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The version of the form.
    v: u32,
    /// The author.
    pub node: NodeName,
    /// The run of the author.
    boot: BootId,
    /// Its number in that run.
    n: u64,
    /// The highest level that the author knows.
    pub level: u32,
    /// Where the author's copy was.
    pub at: At,
    /// The service clock for credentials as the author counts it, in milliseconds; `None` where it has applied nothing since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lived: Option<u64>,
    /// Something that concerns the cluster itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// The operations, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<Box<RawValue>>,
}

/// What concerns the cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The author makes the next snapshot, unless another has said so before.
    SnapshotTurn,
    /// The author has made a snapshot of the copy at a position.
    Snapshot(Position),
    /// From here on, entries may have this level.
    Raise(u32),
}

impl Entry {
    /// An entry of this version without operations.
    pub fn new(node: NodeName, EntryId { boot, n }: EntryId, at: At, lived: Option<u64>) -> Self {
        Self { v: VERSION, node, boot, n, level: LEVEL, at, lived, control: None, ops: Vec::new() }
    }

    /// Its name.
    pub const fn id(&self) -> EntryId {
        EntryId { boot: self.boot, n: self.n }
    }

    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into() // numbers, names and texts that have been encoded
    }

    /// Decodes one that stands at `position`.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn decode(bytes: &[u8], position: Position) -> Result<Self, EntryError> {
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| EntryError::Malformed(position, error))?;
        let raised = if let Some(Control::Raise(level)) = entry.control { level } else { 0 };
        if entry.v > VERSION || raised > LEVEL {
            return Err(EntryError::Newer { position, level: entry.level.max(raised) });
        }
        Ok(entry)
    }
}

/// An entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its position.
    pub position: Position,
    /// The engine's clock when it was appended.
    pub time: Timestamp,
    /// The entry itself.
    pub bytes: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let at = At { position: Position(7), chain: Link::default() };
        Entry::new(NodeName("a".into()), EntryId { boot: BootId(3), n: 4 }, at, Some(12))
    }

    #[test]
    fn encoded_form_is_stable() {
        let mut entry = entry();
        entry.ops = vec![RawValue::from_string(r#"{"Expire":{ }}"#.into()).unwrap()];
        entry.control = Some(Control::Snapshot(Position(5)));
        let zeros = "0".repeat(64);
        let expected = [
            r#"{"v":1,"node":"a","boot":3,"n":4,"level":1,"at":{"position":7,"chain":""#,
            &zeros,
            r#""},"lived":12,"control":{"snapshot":5},"ops":[{"Expire":{ }}]}"#,
        ];
        let bytes = entry.encode();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected.concat());
        let decoded = Entry::decode(&bytes, Position(8)).unwrap();
        assert_eq!(decoded.encode(), bytes, "operations byte for byte");
    }

    #[test]
    fn entry_of_later_version_is_refused() {
        let bytes = Entry { v: 2, level: 9, ..entry() }.encode();
        let refused = Entry::decode(&bytes, Position(8));
        assert!(matches!(refused, Err(EntryError::Newer { position: Position(8), level: 9 })));
        assert!(matches!(Entry::decode(b"{}", Position(8)), Err(EntryError::Malformed(..))));
    }
}
