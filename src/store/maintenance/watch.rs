//! The observer of a long job of maintenance, which can end it.

use std::ops::ControlFlow;

use crate::store::{Result, StoreError};

/// The records between two reports.
const REPORT_INTERVAL_RECORDS: u64 = 256;

/// The point that a job has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The name of the tree that is read.
    pub tree: &'static str,
    /// Its number, from 1.
    pub number: usize,
    /// The number of trees.
    pub of: usize,
    /// The records read so far, of all trees.
    pub records: u64,
}

/// The observer of a job, which is told its [`Progress`] from time to time and breaks to end it. What the job has written by then is
/// removed.
#[derive(Clone, Copy)]
pub struct Watch<'a>(Option<&'a dyn Fn(Progress) -> ControlFlow<()>>);

impl<'a> Watch<'a> {
    /// Nobody.
    pub const NONE: Watch<'static> = Watch(None);

    /// Returns the observer that calls `tell`.
    pub fn new(tell: &'a dyn Fn(Progress) -> ControlFlow<()>) -> Self {
        Self(Some(tell))
    }

    /// Reports the progress, unless that was done a few records before.
    ///
    /// # Errors
    /// [`StoreError::Interrupted`] where the job is to end.
    pub(super) fn at(self, tree: &'static str, number: usize, of: usize, records: u64) -> Result<()> {
        match self.0 {
            Some(tell) if records.is_multiple_of(REPORT_INTERVAL_RECORDS) => match tell(Progress { tree, number, of, records }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(StoreError::Interrupted),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn progress_is_reported_now_and_then_and_a_break_ends_the_job() {
        let seen = RefCell::new(Vec::new());
        let tell = |progress: Progress| {
            seen.borrow_mut().push(progress.records);
            if progress.records < 600 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let watch = Watch::new(&tell);
        let outcome = (0..5000).try_for_each(|records| watch.at("users", 2, 18, records));
        assert!(matches!(outcome, Err(StoreError::Interrupted)));
        assert_eq!(seen.into_inner(), [0, 256, 512, 768]);
        assert!((0..5000).try_for_each(|records| Watch::NONE.at("users", 2, 18, records)).is_ok());
    }
}
