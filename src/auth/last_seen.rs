//! Times of last use of tokens and devices, collected in memory and written once a minute: a write per request would cost more than the
//! request. Until they are written, answers have them from here.

use std::hash::Hash;

use parking_lot::Mutex;

use crate::core::ids::DeviceId;
use crate::core::map::IdMap;
use crate::core::time::Timestamp;
use crate::store::TokenHash;

/// Keys with their times of last use.
pub(super) type Seen<K> = Vec<(K, Timestamp)>;

/// The times since the last write. Bounded by the number of stored tokens and devices: only existing ones are recorded.
#[derive(Default)]
pub(super) struct LastSeen {
    tokens: Mutex<Times<TokenHash>>,
    devices: Mutex<Times<DeviceId>>,
}

/// Times that are not in the store yet.
struct Times<K> {
    fresh: IdMap<K, Timestamp>,
    /// Those that are being written. After a write that failed, the next one repeats them.
    leaving: IdMap<K, Timestamp>,
}

impl<K> Default for Times<K> {
    fn default() -> Self {
        Self { fresh: IdMap::default(), leaving: IdMap::default() }
    }
}

impl<K: Copy + Eq + Hash> Times<K> {
    /// Records a use at `when`. Of two connections, the one that was silent for longer may end last.
    fn insert(&mut self, key: K, when: Timestamp) {
        self.fresh.entry(key).and_modify(|known| *known = when.max(*known)).or_insert(when);
    }

    fn get(&self, key: &K) -> Option<Timestamp> {
        self.fresh.get(key).or_else(|| self.leaving.get(key)).copied()
    }

    fn take(&mut self) -> Seen<K> {
        self.leaving.extend(self.fresh.drain());
        self.leaving.iter().map(|(key, when)| (*key, *when)).collect()
    }
}

impl LastSeen {
    pub(super) fn note_token(&self, hash: TokenHash, when: Timestamp) {
        self.tokens.lock().insert(hash, when);
    }

    pub(super) fn note_device(&self, id: DeviceId, when: Timestamp) {
        self.devices.lock().insert(id, when);
    }

    /// Returns the time of a use that may not be in the store yet.
    pub(super) fn token(&self, hash: &TokenHash) -> Option<Timestamp> {
        self.tokens.lock().get(hash)
    }

    /// Returns the time of a use that may not be in the store yet.
    pub(super) fn device(&self, id: DeviceId) -> Option<Timestamp> {
        self.devices.lock().get(&id)
    }

    /// Returns the times to write.
    pub(super) fn take(&self) -> (Seen<TokenHash>, Seen<DeviceId>) {
        (self.tokens.lock().take(), self.devices.lock().take())
    }

    /// Forgets what [`take`](Self::take) has returned: it is in the store.
    pub(super) fn written(&self) {
        self.tokens.lock().leaving.clear();
        self.devices.lock().leaving.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        let start: Timestamp = serde_json::from_str("\"2026-11-22T08:15:30.000125+00:00\"").unwrap();
        start.plus_seconds(seconds)
    }

    #[test]
    fn time_is_known_from_its_use_until_it_is_written() {
        let seen = LastSeen::default();
        let device = DeviceId(1);
        assert_eq!(seen.device(device), None);
        seen.note_device(device, at(5));
        assert_eq!(seen.device(device), Some(at(5)));
        seen.note_device(device, at(3));
        assert_eq!(seen.device(device), Some(at(5)), "another connection had been silent before");
        assert_eq!(seen.take().1, [(device, at(5))]);
        assert_eq!(seen.device(device), Some(at(5)), "while it is written");
        seen.note_device(device, at(7));
        assert_eq!(seen.device(device), Some(at(7)));
        assert_eq!(seen.take().1, [(device, at(7))], "the first write has failed");
        seen.note_device(DeviceId(2), at(1));
        seen.written();
        assert_eq!((seen.device(device), seen.device(DeviceId(2))), (None, Some(at(1))));
        assert_eq!(seen.take().1, [(DeviceId(2), at(1))]);
    }

    #[test]
    fn time_after_a_clock_that_was_set_back_follows_the_clock() {
        let seen = LastSeen::default();
        seen.note_token(TokenHash::of("qlt_x"), at(900));
        seen.take();
        seen.written();
        seen.note_token(TokenHash::of("qlt_x"), at(1));
        assert_eq!(seen.token(&TokenHash::of("qlt_x")), Some(at(1)));
    }
}
