//! `GET /api/settings`: the configuration in force.

use serde::Serialize;

use crate::config::Setting;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;

/// The configuration in force, with the source of each value.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingsResponse {
    /// The configuration file, where one was read.
    file: Option<String>,
    /// In the order of the default file.
    settings: Vec<Setting>,
}

/// `GET /api/settings`: every setting, secrets without their contents.
pub async fn list(call: Call) -> Result<Reply<SettingsResponse>, ApiError> {
    let provenance = call.app.provenance();
    let settings = call.app.config().effective(&provenance);
    let file = provenance.file.as_ref().map(|path| path.display().to_string());
    Ok(Reply::ok("ok", SettingsResponse { file, settings }))
}
