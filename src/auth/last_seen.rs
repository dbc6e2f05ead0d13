//! When tokens and devices were last seen, gathered in memory and written once a minute: nobody needs the second, and a
//! write a request would cost more than the request.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;
use crate::store::TokenHash;

/// What was seen, and when.
pub(super) type Seen<K> = Vec<(K, Timestamp)>;

/// Bounded by the number of stored tokens and devices: only what exists is ever noted.
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

    /// Everything noted since the last call.
    pub(super) fn take(&self) -> (Seen<TokenHash>, Seen<DeviceId>) {
        let tokens = std::mem::take(&mut *self.tokens.lock());
        let devices = std::mem::take(&mut *self.devices.lock());
        (tokens.into_iter().collect(), devices.into_iter().collect())
    }
}
