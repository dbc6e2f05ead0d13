//! Times of last use of tokens and devices, collected in memory and written once a minute: nobody needs the second, and a write per
//! request would cost more than the request.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;
use crate::store::TokenHash;

/// Keys with their times of last use.
pub(super) type Seen<K> = Vec<(K, Timestamp)>;

/// The times since the last write. Bounded by the number of stored tokens and devices: only existing ones are recorded.
#[derive(Default)]
pub(super) struct LastSeen {
    tokens: Mutex<HashMap<TokenHash, Timestamp>>,
    devices: Mutex<HashMap<DeviceId, Timestamp>>,
}

impl LastSeen {
    pub(super) fn token(&self, hash: TokenHash, now: Timestamp) {
        self.tokens.lock().insert(hash, now);
    }

    pub(super) fn device(&self, id: DeviceId, now: Timestamp) {
        self.devices.lock().insert(id, now);
    }

    /// Returns the times since the last call.
    pub(super) fn take(&self) -> (Seen<TokenHash>, Seen<DeviceId>) {
        let tokens = std::mem::take(&mut *self.tokens.lock());
        let devices = std::mem::take(&mut *self.devices.lock());
        (tokens.into_iter().collect(), devices.into_iter().collect())
    }
}
