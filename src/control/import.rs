//! `/control/import`: accounts, devices and tokens that the command line has read from another system's file.

use serde::{Deserialize, Serialize};

use crate::core::ids::{DeviceId, UserId};
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{Call, RequestBody};
use crate::store::{ImportState, Imported, TokenHash};

/// The state that an import is planned on.
#[derive(Debug, Serialize)]
pub struct ImportStateResponse {
    /// The highest user id that was given.
    users: u64,
    /// The highest device id that was given.
    devices: u64,
    /// The last import, finished or cut off.
    last: Option<ImportState>,
}

/// `GET /control/import`.
pub(super) async fn state(call: Call) -> Result<Reply<ImportStateResponse>, ApiError> {
    let (users, devices) = call.app.store.given_ids()?;
    Ok(Reply::ok("ok", ImportStateResponse { users, devices, last: call.app.store.last_import()? }))
}

/// Body of `POST /control/import/check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckImportRequest {
    rows: Vec<Imported>,
}

impl RequestBody for CheckImportRequest {}

/// A record that would take the place of another.
#[derive(Debug, Serialize)]
pub struct RefusedRowResponse {
    /// Its position in the request.
    row: usize,
    reason: String,
}

/// `POST /control/import/check`: the records that would take the place of others.
pub(super) async fn check(call: Call, body: CheckImportRequest) -> Result<Reply<Vec<RefusedRowResponse>>, ApiError> {
    let by = call.by();
    let refused = call.app.accounts().check_import(&by, &body.rows)?;
    let refused = refused.into_iter().map(|(row, error)| RefusedRowResponse { row, reason: error.to_string() });
    Ok(Reply::ok("ok", refused.collect()))
}

/// Body of `POST /control/import`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginImportRequest {
    state: ImportState,
    last_user: UserId,
    last_device: DeviceId,
}

impl RequestBody for BeginImportRequest {}

/// `POST /control/import`: begins an import, or goes on with one that was cut off.
pub(super) async fn begin(call: Call, body: BeginImportRequest) -> Result<Reply<ImportState>, ApiError> {
    let BeginImportRequest { state, last_user, last_device } = body;
    Ok(Reply::ok("ok", call.app.accounts().begin_import(&call.by(), state, (last_user, last_device)).await?))
}

/// Body of `POST /control/import/rows`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRowsRequest {
    source: TokenHash,
    from: u64,
    rows: Vec<Imported>,
}

impl RequestBody for ImportRowsRequest {}

/// The number of records that were added.
#[derive(Debug, Serialize)]
pub struct ImportRowsResponse {
    added: u64,
}

/// `POST /control/import/rows`: adds the next records of an import.
pub(super) async fn rows(call: Call, body: ImportRowsRequest) -> Result<Reply<ImportRowsResponse>, ApiError> {
    let ImportRowsRequest { source, from, rows } = body;
    let added = call.app.accounts().import(&call.by(), source, from, rows).await?;
    Ok(Reply::ok("ok", ImportRowsResponse { added }))
}
