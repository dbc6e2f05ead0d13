//! `GET /control/check`: verification of every record, also with its progress.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use salvo::http::ResBody;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, channel};

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::reply::{Raw, Reply};
use crate::http::request::Call;
use crate::http::stream;
use crate::store::{Findings, Progress, Watch};

/// The number of lines that wait for the client.
const MAX_PENDING_LINES: usize = 16;
/// The time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// `GET /control/check`: verifies every record.
pub(super) async fn check(call: Call) -> Result<Reply<Findings>, ApiError> {
    Ok(Reply::ok("ok", call.blocking(|app| Ok(app.store.check(Watch::NONE)?)).await?))
}

/// `GET /control/check/watched`: verifies every record, and writes lines of JSON meanwhile: the progress, and at the end `found`, or
/// `error` with its `code` and `message`. Ends early where the client goes.
pub(super) async fn watched(call: Call) -> Result<Reply<Raw>, ApiError> {
    let (lines, taken) = channel(MAX_PENDING_LINES);
    let app = call.app.clone();
    call.app.sessions.spawn(async move {
        let progress = lines.clone();
        let outcome = tokio::task::spawn_blocking(move || verify(&app, &progress)).await;
        let last = match outcome.map_err(ApiError::internal) {
            Ok(Ok(found)) => json!({"found": found}),
            Ok(Err(error)) | Err(error) => json!({"error": {"code": error.status().1, "message": error.to_string()}}),
        };
        let _ = lines.send(line(&last)).await; // the client may have gone
    });
    Ok(Reply::ok(
        "ok",
        Raw { media_type: "application/x-ndjson", body: ResBody::stream(stream::items(taken, Ok::<_, Infallible>)) },
    ))
}

/// Verifies every record, until the client is gone or the server shuts down.
fn verify(app: &App, lines: &Sender<Bytes>) -> Result<Findings, ApiError> {
    let last = std::cell::Cell::new(None::<Instant>);
    let tell = |Progress { tree, number, of, records }: Progress| {
        if app.stopping.is_cancelled() || lines.is_closed() {
            return ControlFlow::Break(());
        }
        if last.get().is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
            return ControlFlow::Continue(());
        }
        last.set(Some(Instant::now()));
        match lines.try_send(line(&json!({"tree": tree, "number": number, "of": of, "records": records}))) {
            Err(TrySendError::Closed(_)) => ControlFlow::Break(()),
            Ok(()) | Err(TrySendError::Full(_)) => ControlFlow::Continue(()), // a later one says the same
        }
    };
    Ok(app.store.check(Watch::new(&tell))?)
}

/// Returns a line of JSON.
fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}
