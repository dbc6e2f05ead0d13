//! Whether a node is in touch with the log.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// The age of the last proof up to which a node is in touch.
const FRESH: Duration = Duration::from_secs(3);

/// How current a node's copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// In touch: entries come.
    Fresh,
    /// None has come for longer than usual, but not for longer than an election of the engine takes.
    Late,
    /// What the node knows may be too old to serve.
    Stale,
}

/// The last proof that a node is in touch: an entry that was committed and has been seen. What a server says of itself is none: one that is
/// cut off the others may say that it leads for seconds.
#[derive(Debug, Default)]
pub struct Contact(Mutex<Option<Instant>>);

impl Contact {
    /// Notes a proof from `at`.
    pub fn heard(&self, at: Instant) {
        let mut last = self.0.lock();
        *last = last.max(Some(at));
    }

    /// Returns how current the copy is at `now`; a copy is stale when it is older than `stale`.
    pub fn standing(&self, now: Instant, stale: Duration) -> Standing {
        match self.0.lock().map(|last| now.saturating_duration_since(last)) {
            Some(age) if age <= FRESH.min(stale) => Standing::Fresh,
            Some(age) if age <= stale => Standing::Late,
            _ => Standing::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_grows_stale_and_is_fresh_again() {
        let (contact, start, stale) = (Contact::default(), Instant::now(), Duration::from_secs(15));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(contact.standing(start, stale), Standing::Stale, "nothing was seen yet");
        contact.heard(start);
        let standings = [0, 3, 4, 15, 16].map(|seconds| contact.standing(after(seconds), stale));
        let expected = [Standing::Fresh, Standing::Fresh, Standing::Late, Standing::Late, Standing::Stale];
        assert_eq!(standings, expected);
        contact.heard(after(20));
        contact.heard(after(1)); // an older proof changes nothing
        assert_eq!(contact.standing(after(21), stale), Standing::Fresh);
    }
}
