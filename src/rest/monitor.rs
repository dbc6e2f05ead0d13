//! Who is connected (guide section 7.1).

use std::sync::atomic::{AtomicU64, Ordering};

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
        mailbox: MailboxStats,
        connections: Vec<ConnectionView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<ConnId>,
    }
    /// Since the start.
    #[derive(Serialize)]
    struct MailboxStats {
        accepted: u64,
        refused_full: u64,
        refused_disk: u64,
        strange_acks: u64,
        rereads: u64,
    }
    let counters = call.app.mailbox.counters();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mailbox = MailboxStats {
        accepted: read(&counters.accepted),
        refused_full: read(&counters.refused_full),
        refused_disk: read(&counters.refused_disk),
        strange_acks: read(&counters.strange_acks),
        rereads: read(&counters.rereads),
    };
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
        mailbox,
        connections: page.iter().map(|c| view(c)).collect(),
        next,
    };
    Reply::data("ok", &stats)
}
