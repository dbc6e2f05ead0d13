//! Live connections with the names that people know them by.

use std::sync::Arc;

use serde::Serialize;

use crate::app::App;
use crate::core::client::ClientName;
use crate::core::ids::{ConnId, DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::hub::Connection;

/// The `proof` of a client whose pings go unanswered while messages are in flight.
const NO_PROOF: &str = "none";

/// A live connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionItem {
    /// Its id in this run of the server.
    pub id: ConnId,
    /// The user.
    pub user_id: UserId,
    /// The user's name; `null` where the user has just been deleted.
    pub username: Option<Arc<str>>,
    /// The device that it stands for.
    pub device_id: Option<DeviceId>,
    /// The device's name.
    pub device_name: Option<Arc<str>>,
    /// The reader that it is; `null` for one that only looks on.
    pub client: Option<ClientName>,
    /// The client's address.
    pub address: String,
    /// The start of the session.
    pub connected_at: Timestamp,
    /// The time of the client's last activity.
    pub last_activity: Timestamp,
    /// The number of messages that wait to be written to it.
    pub lag: usize,
    /// [`NO_PROOF`] where the client's pings go unanswered while messages are in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<&'static str>,
}

impl ConnectionItem {
    /// Describes `connection`. Looks names up in the store: a record that can't be read has none.
    pub fn new(app: &App, connection: &Connection) -> Self {
        let identity = &connection.identity;
        let user = app.store.user(identity.user_id).ok().flatten();
        let device = identity.device_id.and_then(|device| app.store.device(device).ok().flatten());
        Self {
            id: connection.id,
            user_id: identity.user_id,
            username: user.map(|user| user.username.as_str().into()),
            device_id: identity.device_id,
            device_name: device.map(|device| device.name.into()),
            client: connection.reader.clone(),
            address: identity.address.to_string(),
            connected_at: connection.since,
            last_activity: connection.last_activity(),
            lag: app.mailbox.lag(connection),
            proof: connection.unproved().then_some(NO_PROOF),
        }
    }
}
