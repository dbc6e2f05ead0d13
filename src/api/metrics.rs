//! `/metrics`: for collectors, on the main listener and, where the configuration has one, on a listener of its own.

use std::sync::Arc;

use salvo::catcher::Catcher;
use salvo::http::{Request, Response};
use salvo::{Depot, FlowCtrl, Router, Service, async_trait};

use crate::app::App;
use crate::core::time::Timestamp;
use crate::data_dir::free_bytes;
use crate::http::AsJson;
use crate::http::error::ApiError;
use crate::http::headers::Headers;
use crate::http::pages::Guard;
use crate::http::reply::{Payload, Raw, Reply};
use crate::http::request::Call;
use crate::telemetry::metrics::process::Process;
use crate::telemetry::metrics::{CONTENT_TYPE, Snapshot};

/// `GET /metrics`: all metrics, in Prometheus' text format.
pub async fn metrics(call: Call) -> Result<Reply<Raw>, ApiError> {
    page(call.app.clone()).await
}

/// Returns the service of a listener that has only `/metrics`, for anyone who reaches it.
pub fn collector(app: &Arc<App>) -> Service {
    let router = || Router::with_path("metrics").get(Collect(app.clone())).head(Collect(app.clone()));
    Service::new(router()).catcher(Catcher::default().hoop(AsJson)).hoop(Headers { https_only: false }).hoop(Guard(app.clone()))
}

/// Serves `/metrics` without authentication.
struct Collect(Arc<App>);

#[async_trait]
impl salvo::Handler for Collect {
    async fn handle(&self, _: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        match page(self.0.clone()).await.and_then(Payload::encode) {
            Ok(answer) => match answer.with_room(&self.0.admission.answers, None).await {
                Ok(answer) => answer.render(res),
                Err(_) => ApiError::NO_ROOM.render(res),
            },
            Err(error) => error.render(res),
        }
    }
}

async fn page(app: Arc<App>) -> Result<Reply<Raw>, ApiError> {
    // Not on the runtime's threads: this reads directories and waits for locks.
    let ready = app.health().await.not_ready_reason().is_none();
    let text =
        tokio::task::spawn_blocking(move || app.metrics.expose(&snapshot(&app, ready))).await.map_err(ApiError::internal)?;
    Ok(Reply::ok("ok", Raw { media_type: CONTENT_TYPE, body: text.into_bytes().into() }))
}

/// Reads the gauges of all parts. Blocks.
fn snapshot(app: &App, ready: bool) -> Snapshot {
    let config = &app.config();
    let data = &config.server.data_dir;
    let (mailboxes, waiting) = app.mailbox.total();
    let taken = waiting.oldest.and_then(|id| app.mailbox.taken_at(id).ok().flatten());
    let age = taken.map_or(0, |taken| Timestamp::now().unix_micros().saturating_sub(taken.unix_micros()).max(0));
    Snapshot {
        ready,
        connections: app.hub.presence().count(),
        connections_limit: config.limits.connections,
        http_connections: app.admission.gate.connections(),
        http_connections_limit: config.limits.sockets,
        groups: app.hub.group_sizes(),
        lagged: app.hub.lagged_count(),
        mailboxes,
        readers: app.mailbox.reader_count(),
        receipts: app.mailbox.receipt_count(),
        messages: waiting.messages,
        bytes: waiting.bytes,
        oldest_seconds: age as f64 / 1e6,
        store_bytes: app.store.disk_bytes().unwrap_or(0),
        free_bytes: free_bytes(data).unwrap_or(0),
        min_free_bytes: config.storage.min_free_bytes,
        lost_records: app.store.loss().map_or(0, |loss| loss.records + loss.altered),
        lost_commits: app.store.loss().map_or(0, |loss| loss.commits),
        memory_budget: config.storage.memory_budget,
        index_bytes: app.mailbox.index_bytes(),
        index_limit_bytes: config.storage.max_index_bytes(),
        process: Process::read(),
    }
}
