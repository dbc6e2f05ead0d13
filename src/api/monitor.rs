//! Who is connected, and how long things take (guide section 7).

use serde::Serialize;

use crate::core::ids::{ConnId, DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::hub::Connection;
use crate::telemetry::metrics::{Label, Metrics, OperationStats, Refused};

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

/// What the mailboxes have counted since the start.
#[derive(Serialize)]
struct MailboxStats {
    accepted: u64,
    delivered: u64,
    expired: u64,
    refused_full: u64,
    refused_disk: u64,
    strange_acks: u64,
    rereads: u64,
}

impl From<&Metrics> for MailboxStats {
    fn from(metrics: &Metrics) -> Self {
        Self {
            accepted: metrics.mailbox.accepted.get(),
            delivered: metrics.mailbox.delivered.get(),
            expired: metrics.mailbox.expired.get(),
            refused_full: metrics.refused.of(Refused::MailboxFull).get(),
            refused_disk: metrics.refused.of(Refused::DiskLow).get(),
            strange_acks: metrics.mailbox.unmatched_acks.get(),
            rereads: metrics.traffic.rereads.get(),
        }
    }
}

impl From<&Connection> for ConnectionView {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            user_id: connection.identity.user_id,
            device_id: connection.identity.device_id,
            address: connection.identity.address.to_string(),
            connected_at: connection.since,
            last_activity: connection.last_activity(),
        }
    }
}

/// `GET /api/monitor/connections`: their number, a page of them, and what was counted since the start.
pub async fn connections(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Stats {
        total_connections: usize,
        groups: usize,
        lagged: u64,
        mailbox: MailboxStats,
        sessions: SessionStats,
        messages: MessageStats,
        refused: u64,
        connections: Vec<ConnectionView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<ConnId>,
    }
    #[derive(Serialize)]
    struct SessionStats {
        started: u64,
        ended: u64,
    }
    #[derive(Serialize)]
    struct MessageStats {
        received: u64,
        sent: u64,
    }
    let (after, limit) = call.page()?;
    let (hub, metrics) = (&call.app.hub, &*call.app.metrics);
    let (page, more) = hub.presence().connections(ConnId(after), limit);
    let stats = Stats {
        total_connections: hub.presence().count(),
        groups: hub.group_count(),
        lagged: hub.lagged_count(),
        mailbox: metrics.into(),
        sessions: SessionStats { started: metrics.sessions.started.get(), ended: metrics.sessions.ended.sum() },
        messages: MessageStats { received: metrics.traffic.received.sum(), sent: metrics.traffic.sent.sum() },
        refused: metrics.refused.sum(),
        next: page.last().map(|connection| connection.id).filter(|_| more),
        connections: page.iter().map(|connection| (&**connection).into()).collect(),
    };
    Reply::data("ok", &stats)
}

/// One operation: how many there were since the start, and the last hundred.
#[derive(Serialize)]
struct OperationView {
    operation: &'static str,
    total: u64,
    /// How many of the total took longer than a second.
    slow: u64,
    /// At most a hundred; the rest of the fields are about these.
    count: usize,
    success: usize,
    failure: usize,
    p50_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
    last: Option<Timestamp>,
}

impl From<&OperationStats> for OperationView {
    fn from(timed: &OperationStats) -> Self {
        let recent = timed.recent();
        Self {
            operation: timed.operation().name(),
            total: timed.total(),
            slow: timed.slow.get(),
            count: recent.count,
            success: recent.success,
            failure: recent.count - recent.success,
            p50_seconds: recent.p50.as_secs_f64(),
            p99_seconds: recent.p99.as_secs_f64(),
            max_seconds: recent.max.as_secs_f64(),
            last: recent.last,
        }
    }
}

/// `GET /api/monitor/performance`: the last hundred of each operation.
pub async fn performance(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Performance {
        operations: Vec<OperationView>,
    }
    Reply::data("ok", &Performance { operations: call.app.metrics.operations().map(Into::into).collect() })
}
