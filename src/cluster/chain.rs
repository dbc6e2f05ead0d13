//! The chain: what proves that all copies are the same.
//!
//! Each link is a hash over the one before, the entry, and what the entry has changed in the records. Authors write theirs into their
//! entries, and each reader compares it with its own of that position.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::At;
use super::{NodeName, Position};
use crate::change::Delta;
use crate::core::hex::{hex, unhex};

/// The positions that an entry's author may be behind, for its link to be compared.
const MAX_KEPT: usize = 4096;
/// The authors that must differ from a copy for it to be the wrong one.
const MIN_ACCUSERS: usize = 2;

/// A link of the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Link([u8; 32]);

impl From<Link> for String {
    fn from(link: Link) -> Self {
        hex(&link.0)
    }
}

impl TryFrom<String> for Link {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        unhex(&text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or("not 64 hexadecimal digits")
    }
}

impl Link {
    /// The hash of an entry alone.
    pub fn of_entry(entry: &[u8]) -> Self {
        Self(Sha256::digest(entry).into())
    }

    /// The link behind an entry, by its hash, that has made this change.
    pub fn next(self, entry: Self, delta: Delta) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(entry.0);
        hasher.update(delta.records.to_be_bytes());
        hasher.update(delta.checksums.to_be_bytes());
        Self(hasher.finalize().into())
    }
}

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The hash of the entry alone.
    pub entry: Link,
    /// The link behind it.
    pub link: Link,
}

/// The marks of the last entries, and the authors who have other links.
#[derive(Debug)]
pub struct Chain {
    /// The position of the newest one.
    position: Position,
    /// Oldest first.
    marks: VecDeque<Mark>,
    /// Whether the link of each author, when it was compared last, was this copy's.
    authors: BTreeMap<NodeName, bool>,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The links are equal, or there is none to compare with.
    Equal,
    /// They differ: one of both copies is wrong.
    Differs,
    /// They differ, and more authors differ from this copy than agree with it: it is taken for the wrong one.
    Wrong,
}

impl Chain {
    /// The chain of a copy at `position`.
    pub fn new(position: Position, mark: Mark) -> Self {
        Self { position, marks: VecDeque::from([mark]), authors: BTreeMap::new() }
    }

    /// Returns what is known of the entry at `position`, where that is one of the last ones.
    pub fn at(&self, position: Position) -> Option<Mark> {
        let behind = usize::try_from(self.position.0.checked_sub(position.0)?).ok()?;
        self.marks.get(self.marks.len().checked_sub(behind + 1)?).copied()
    }

    /// The newest link.
    pub fn newest(&self) -> At {
        At { position: self.position, chain: self.at(self.position).map(|mark| mark.link).unwrap_or_default() }
    }

    /// Adds that of the next entry.
    pub fn push(&mut self, mark: Mark) {
        self.position = self.position.next();
        self.marks.push_back(mark);
        if self.marks.len() > MAX_KEPT {
            self.marks.pop_front();
        }
    }

    /// Compares the link that an author had at `at`, when it made the entry that is applied next.
    pub fn compare(&mut self, author: &NodeName, at: At) -> Comparison {
        let Some(own) = self.at(at.position) else { return Comparison::Equal };
        let agrees = own.link == at.chain;
        self.authors.insert(author.clone(), agrees);
        let differing = self.authors.values().filter(|agrees| !**agrees).count();
        match agrees {
            true => Comparison::Equal,
            false if differing >= MIN_ACCUSERS && 2 * differing > self.authors.len() => Comparison::Wrong,
            false => Comparison::Differs,
        }
    }

    /// Returns whether some author's link differed when it was compared last.
    pub fn is_contradicted(&self) -> bool {
        self.authors.values().any(|agrees| !agrees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: Delta = Delta { records: 1, checksums: 7 };

    fn link(n: u64) -> Link {
        Link::default().next(Link::of_entry(&n.to_be_bytes()), DELTA)
    }

    fn mark(n: u64) -> Mark {
        Mark { entry: Link::of_entry(&n.to_be_bytes()), link: link(n) }
    }

    #[test]
    fn link_depends_on_everything() {
        let link = Link::default().next(Link::of_entry(b"a"), DELTA);
        for other in [
            Link::default().next(Link::of_entry(b"b"), DELTA),
            Link::default().next(Link::of_entry(b"a"), Delta { records: 2, ..DELTA }),
            Link::default().next(Link::of_entry(b"a"), Delta { checksums: 8, ..DELTA }),
            link.next(Link::of_entry(b"a"), DELTA),
        ] {
            assert_ne!(other, link);
        }
        let text = serde_json::to_string(&link).unwrap();
        assert_eq!(serde_json::from_str::<Link>(&text).unwrap(), link);
        assert!(serde_json::from_str::<Link>("\"12\"").is_err());
    }

    #[test]
    fn number_of_links_is_bounded_and_the_last_ones_are_found() {
        let mut chain = Chain::new(Position(5), mark(5));
        for n in 6..=10_000 {
            chain.push(mark(n));
        }
        assert_eq!(chain.newest(), At { position: Position(10_000), chain: link(10_000) });
        let oldest = 10_000 - MAX_KEPT as u64 + 1;
        for n in [oldest, 9000, 10_000] {
            assert_eq!(chain.at(Position(n)), Some(mark(n)));
        }
        assert_eq!((chain.at(Position(oldest - 1)), chain.at(Position(10_001))), (None, None));
    }

    #[test]
    fn copy_is_wrong_when_most_others_say_so() {
        let mut chain = Chain::new(Position(5), mark(5));
        let (a, b) = (NodeName("a".into()), NodeName("b".into()));
        let at = |position, n| At { position: Position(position), chain: link(n) };
        assert_eq!(chain.compare(&a, at(4, 9)), Comparison::Equal, "not known");
        assert_eq!(chain.compare(&a, at(5, 5)), Comparison::Equal);
        assert_eq!(chain.compare(&a, at(5, 9)), Comparison::Differs);
        assert_eq!(chain.compare(&a, at(5, 9)), Comparison::Differs, "the same one");
        assert_eq!(chain.compare(&a, at(5, 5)), Comparison::Equal, "it has a right copy now");
        assert_eq!(chain.compare(&b, at(5, 9)), Comparison::Differs);
        assert!(chain.is_contradicted());
        assert_eq!(chain.compare(&a, at(5, 9)), Comparison::Wrong);
        for agreeing in ["c", "d"] {
            assert_eq!(chain.compare(&NodeName(agreeing.into()), at(5, 5)), Comparison::Equal);
        }
        assert_eq!(chain.compare(&a, at(5, 9)), Comparison::Differs, "as many agree");
    }
}
