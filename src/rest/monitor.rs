//! Who is connected (guide section 7.1).

use serde::Serialize;

use super::call::{Call, Reply};
use crate::error::ApiError;
use crate::ids::{ConnId, DeviceId, UserId};
use crate::wire::Timestamp;

/// One live connection.
#[derive(Serialize)]
struct ConnectionView {
    id: ConnId,
    user_id: UserId,
    device_id: Option<DeviceId>,
    address: String,
    connected_at: Timestamp,
    last_activity: Timestamp,
}

/// `GET /api/monitor/connections`: their number, and a page of them.
pub(super) async fn connections(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Stats {
        total_connections: usize,
        groups: usize,
        lagged: u64,
        connections: Vec<ConnectionView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<ConnId>,
    }
    let (after, limit) = call.page()?;
    let hub = &call.app.hub;
    let (page, more) = hub.presence().connections(ConnId(after), limit);
    let next = page.last().map(|c| c.id).filter(|_| more);
    let view = |c: &crate::hub::Connection| ConnectionView {
        id: c.id,
        user_id: c.identity.user_id,
        device_id: c.identity.device_id,
        address: c.identity.address.to_string(),
        connected_at: c.since,
        last_activity: c.last_activity(),
    };
    let stats = Stats {
        total_connections: hub.presence().count(),
        groups: hub.group_count(),
        lagged: hub.lagged_count(),
        connections: page.iter().map(|c| view(c)).collect(),
        next,
    };
    Reply::data("ok", &stats)
}
