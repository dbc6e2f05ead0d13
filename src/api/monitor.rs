//! Connections, counters and durations (guide section 7).

use serde::Serialize;

use crate::core::ids::{ConnId, DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::hub::Connection;
use crate::telemetry::metrics::{Label, Metrics, OperationStats, Refused};

/// A live connection.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionItem {
    id: ConnId,
    user_id: UserId,
    device_id: Option<DeviceId>,
    address: String,
    connected_at: Timestamp,
    last_activity: Timestamp,
    /// `none` where the client's pings go unanswered while messages are in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
}

/// Counters of the mailboxes since the start.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MailboxCounters {
    accepted: u64,
    delivered: u64,
    expired: u64,
    refused_full: u64,
    refused_disk: u64,
    strange_acks: u64,
    rereads: u64,
}

impl From<&Metrics> for MailboxCounters {
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

impl From<&Connection> for ConnectionItem {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            user_id: connection.identity.user_id,
            device_id: connection.identity.device_id,
            address: connection.identity.address.to_string(),
            connected_at: connection.since,
            last_activity: connection.last_activity(),
            proof: connection.unproved().then_some("none"),
        }
    }
}

/// Live connections, a page of them, and counters since the start.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionsResponse {
    total_connections: usize,
    groups: usize,
    lagged: u64,
    mailbox: MailboxCounters,
    sessions: SessionCounters,
    messages: MessageCounters,
    refused: u64,
    connections: Vec<ConnectionItem>,
    /// The `after` of the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<ConnId>,
}

/// Counters of sessions since the start.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SessionCounters {
    started: u64,
    ended: u64,
}

/// Counters of WebSocket messages since the start.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MessageCounters {
    received: u64,
    sent: u64,
}

/// `GET /api/monitor/connections`.
pub async fn connections(call: Call) -> Result<Reply<ConnectionsResponse>, ApiError> {
    let (after, limit) = call.page()?;
    let (hub, metrics) = (&call.app.hub, &*call.app.metrics);
    let (page, more) = hub.presence().connections(ConnId(after), limit);
    let response = ConnectionsResponse {
        total_connections: hub.presence().count(),
        groups: hub.group_count(),
        lagged: hub.lagged_count(),
        mailbox: metrics.into(),
        sessions: SessionCounters { started: metrics.sessions.started.get(), ended: metrics.sessions.ended.sum() },
        messages: MessageCounters { received: metrics.traffic.received.sum(), sent: metrics.traffic.sent.sum() },
        refused: metrics.refused.sum(),
        next: page.last().map(|connection| connection.id).filter(|_| more),
        connections: page.iter().map(|connection| (&**connection).into()).collect(),
    };
    Ok(Reply::ok("ok", response))
}

/// An operation: its number since the start, and the last hundred.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OperationItem {
    operation: &'static str,
    total: u64,
    /// The number, of the total, that took longer than a second.
    slow: u64,
    /// At most a hundred; the fields below are about these.
    count: usize,
    success: usize,
    failure: usize,
    p50_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
    last: Option<Timestamp>,
}

impl From<&OperationStats> for OperationItem {
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

/// Durations and outcomes of operations.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PerformanceResponse {
    operations: Vec<OperationItem>,
}

/// `GET /api/monitor/performance`: the last hundred of each operation.
pub async fn performance(call: Call) -> Result<Reply<PerformanceResponse>, ApiError> {
    let operations = call.app.metrics.operations().map(Into::into).collect();
    Ok(Reply::ok("ok", PerformanceResponse { operations }))
}
