//! Lives of credentials, counted on the clock of the store and not on the wall clock, which may be wrong by years.
//!
//! The store's clock counts the milliseconds that have certainly passed. What is found out later, that a stop took longer than was
//! known when it ended, is a [`LateGap`]: it counts for what was there before the stop, and not for what was made after it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The difference between a stored end and the computed one up to which the stored one is shown, so that an answer is the same each
/// time.
const SHOWN_TOLERANCE_MILLIS: i64 = 2000;

/// The life of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The store's clock at its beginning, in milliseconds.
    pub born: u64,
    /// Its length, in milliseconds.
    pub millis: u64,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The wall clock, in milliseconds since 1970.
    pub wall: i64,
    /// The store's clock, in milliseconds.
    pub lived: u64,
}

/// Time that passed and was not known when it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateGap {
    /// The store's clock when it passed: what was made later is not older for it.
    pub at: u64,
    /// Its length, in milliseconds.
    pub millis: u64,
}

/// The present, as far as lives depend on it.
#[derive(Debug, Clone)]
pub struct Present {
    /// The wall clock.
    pub wall: Timestamp,
    /// The store's clock, in milliseconds.
    pub lived: u64,
    /// Time that was found out later.
    pub late: Arc<[LateGap]>,
    /// The moment from which ends that are known by the wall clock alone, those of earlier versions, are counted on the store's
    /// clock; `None` while the wall clock was never known to be right.
    pub adopted: Option<Point>,
}

impl Present {
    /// The present of a store that has just been made.
    #[cfg(test)]
    pub fn at(wall: Timestamp) -> Self {
        Self { wall, lived: 1000, late: Arc::new([]), adopted: None }
    }

    /// Returns the milliseconds that have passed since the store's clock showed `born`.
    pub fn age(&self, born: u64) -> u64 {
        let late = self.late.iter().filter(|gap| gap.at >= born).map(|gap| gap.millis);
        late.fold(self.lived.saturating_sub(born), u64::saturating_add)
    }

    /// Returns the milliseconds that are left of a life, negative after its end; `None` for one without an end. `end` is that end by the
    /// wall clock of the moment at which it was set.
    pub fn left(&self, life: Option<Life>, end: Option<Timestamp>) -> Option<i64> {
        let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        match (life, end, self.adopted) {
            (Some(life), _, _) => Some(signed(life.millis).saturating_sub(signed(self.age(life.born)))),
            (None, None, _) => None,
            (None, Some(end), Some(from)) => Some((end.unix_millis() - from.wall).saturating_sub(signed(self.age(from.lived)))),
            (None, Some(end), None) => Some(end.unix_millis() - self.wall.unix_millis()),
        }
    }

    /// Returns the end of a life by the present wall clock, for people: the stored one as long as that is still right.
    pub fn shown_end(&self, life: Option<Life>, end: Option<Timestamp>) -> Option<Timestamp> {
        let millis = self.wall.unix_millis().saturating_add(self.left(life, end)?);
        let stored = end.filter(|end| (end.unix_millis() - millis).abs() <= SHOWN_TOLERANCE_MILLIS);
        Some(stored.unwrap_or_else(|| Timestamp::from_unix_micros(millis.saturating_mul(1000))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    fn present(wall: i64, lived: u64, late: &[LateGap], adopted: Option<Point>) -> Present {
        Present { wall: at(wall), lived, late: late.into(), adopted }
    }

    #[test]
    fn late_gap_counts_for_what_was_there_before_it() {
        let gap = LateGap { at: 5000, millis: 60_000 };
        let now = present(0, 8000, &[gap], None);
        let life = |born| Some(Life { born, millis: 10_000 });
        assert_eq!(now.left(life(4000), None), Some(10_000 - 64_000));
        assert_eq!(now.left(life(5000), None), Some(10_000 - 63_000), "made in the last moment before it");
        assert_eq!(now.left(life(5001), None), Some(10_000 - 2999));
        assert_eq!(now.left(None, None), None);
    }

    #[test]
    fn end_of_an_earlier_version_is_counted_from_the_first_right_moment() {
        let end = Some(at(1_800_000_100));
        assert_eq!(present(1_800_000_040, 9, &[], None).left(None, end), Some(60_000), "as that version did");
        let adopted = Some(Point { wall: 1_800_000_000_000, lived: 1000 });
        for wall in [0, 1_800_000_000, 1_900_000_000] {
            assert_eq!(present(wall, 31_000, &[], adopted).left(None, end), Some(70_000), "whatever the wall clock says");
        }
    }

    #[test]
    fn shown_end_follows_the_wall_clock_and_is_the_stored_one_while_that_is_right() {
        let (life, end) = (Some(Life { born: 1000, millis: 60_000 }), Some(at(60)));
        assert_eq!(present(10, 10_400, &[], None).shown_end(life, end), end);
        assert_eq!(present(1_800_000_010, 11_000, &[], None).shown_end(life, end), Some(at(1_800_000_060)));
        assert_eq!(present(10, 1, &[], None).shown_end(None, None), None);
        let far = Some(Life { born: 0, millis: u64::MAX });
        assert!(present(10, 1, &[], None).shown_end(far, None).is_some(), "saturates");
    }
}
