//! When tokens were last used and devices last seen.

use super::catalogue::encode;
use super::{Result, Store, TokenHash, devices, tokens};
use crate::core::ids::DeviceId;
use crate::core::time::Timestamp;

impl Store {
    /// Notes when tokens were last used and devices last seen. What has gone meanwhile is passed over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_seen(&self, seen: Vec<(TokenHash, Timestamp)>, devices: Vec<(DeviceId, Timestamp)>) -> Result<()> {
        self.write(move |trees| {
            for (hash, when) in seen {
                if let Some(mut token) = tokens::get(trees, hash.as_bytes())? {
                    token.last_used_at = Some(when);
                    trees.tokens.insert(hash.as_bytes(), encode(&token)?)?;
                }
            }
            devices::note_seen(trees, &devices)
        })
        .await
    }
}
