//! Connections, counters and durations (guide section 7).

use serde::Serialize;

use crate::core::ids::{ConnId, DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::history::{OverviewResponse, Range, SeriesResponse};
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::hub::ConnectionFilter;
use crate::monitor::{self, ConnectionItem};
use crate::telemetry::metrics::{Label, Metrics, OperationStats, Refused};
use crate::wire::CloseCode;

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

/// Returns the connections that the query asks for.
fn filter(call: &Call) -> Result<ConnectionFilter, ApiError> {
    let id = |name: &str| {
        let text = call.parameter(name);
        text.map(|text| text.parse::<u64>().map_err(|_| ApiError::Invalid(format!("{name} must be an id")))).transpose()
    };
    let network = |text: &str| {
        let parsed = serde_json::from_value(text.into());
        parsed.map_err(|_| ApiError::Invalid("address must be an IP address or a network such as 10.0.0.0/8".into()))
    };
    Ok(ConnectionFilter {
        user_id: id("user_id")?.map(UserId),
        device_id: id("device_id")?.map(DeviceId),
        client: call.parameter("client").map(str::to_owned),
        address: call.parameter("address").map(network).transpose()?,
    })
}

/// `GET /api/monitor/connections?user_id=&device_id=&client=&address=`.
pub async fn connections(call: Call) -> Result<Reply<ConnectionsResponse>, ApiError> {
    let (after, limit) = call.page()?;
    let filter = filter(&call)?;
    // Names are looked up in the store.
    let (next, items) = call
        .blocking(move |app| {
            let (page, more) = app.hub.presence().select(ConnId(after), limit, &filter);
            let next = page.last().map(|connection| connection.id).filter(|_| more);
            Ok((next, page.iter().map(|connection| ConnectionItem::new(app, connection)).collect()))
        })
        .await?;
    let (hub, metrics) = (&call.app.hub, &*call.app.metrics);
    let response = ConnectionsResponse {
        total_connections: hub.presence().count(),
        groups: hub.group_count(),
        lagged: hub.lagged_count(),
        mailbox: metrics.into(),
        sessions: SessionCounters { started: metrics.sessions.started.get(), ended: metrics.sessions.ended.sum() },
        messages: MessageCounters { received: metrics.traffic.received.sum(), sent: metrics.traffic.sent.sum() },
        refused: metrics.refused.sum(),
        next,
        connections: items,
    };
    Ok(Reply::ok("ok", response))
}

/// `GET /api/monitor/overview`: the figures of the present moment.
pub async fn overview(call: Call) -> Result<Reply<OverviewResponse>, ApiError> {
    let overview = monitor::overview(&call.app).await;
    Ok(Reply::ok("ok", OverviewResponse::clone(&overview)))
}

/// `GET /api/monitor/series?range=hour|day`: the figures of the last hour, every ten seconds, or of the last day, every minute.
pub async fn series(call: Call) -> Result<Reply<SeriesResponse>, ApiError> {
    let range = call.parameter("range").map_or(Some(Range::Hour), Range::parse);
    let range = range.ok_or_else(|| ApiError::Invalid("range must be hour or day".into()))?;
    Ok(Reply::ok("ok", call.app.history.series(range, Timestamp::now())))
}

/// `DELETE /api/monitor/connections/{id}`: closes it with 1001, so that its client reconnects where it still may.
pub async fn disconnect(call: Call) -> Result<Reply<()>, ApiError> {
    let id = call.id(ConnId, "connection")?;
    let connection = call.app.hub.presence().connection(id).ok_or(ApiError::NotFound("connection"))?;
    connection.close(CloseCode::GoingAway);
    let (by, user) = (call.caller()?.user.id, connection.identity.user_id);
    tracing::info!(user = %by, conn = %id, of = %user, "connection closed by an administrator");
    Ok(Reply::done("connection closed"))
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
