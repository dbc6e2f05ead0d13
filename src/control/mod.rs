//! The control socket: HTTP for the command line, through a socket in the data directory. Every client that can connect owns the
//! directory, so every caller acts as its operator.

mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod history;
mod import;
pub mod server;
pub mod socket;
mod tail;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use salvo::Service;
use salvo::catcher::Catcher;
use serde::Serialize;

use crate::accounts::policy::Action;
use crate::api;
use crate::api::auth::{CreateTokenRequest, CreatedTokenResponse, TokenResponse, tokens_of};
use crate::api::queue::MailboxResponse;
use crate::api::receipts::MessageResponse;
use crate::app::App;
use crate::auth::Secret;
use crate::change::LINK_SECONDS;
use crate::core::ids::{TokenId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::List;
use crate::http::reply::{Raw, Reply};
use crate::http::request::Call;
use crate::http::{AsJson, Route, mount, routes};
use crate::store::{Findings, ImportState};
use import::{
    BeginImportRequest, CheckImportRequest, ImportRowsRequest, ImportRowsResponse, ImportStateResponse, RefusedRowResponse,
};
use tail::tail;

/// The routes of the control socket alone. They may change with every version: they are for this program's command line.
pub static ROUTES: &[Route] = routes! {
    Get    "/control/status"             ADMINS status() -> StatusResponse;
    Get    "/control/backup"             ADMINS api::backup::download() -> Raw;
    Get    "/control/check"              ADMINS check::check() -> Findings;
    Get    "/control/check/watched"      ADMINS check::watched() -> Raw;
    Delete "/control/loss"               ADMINS acknowledge_loss() -> ();
    Get    "/control/import"             ADMINS import::state() -> ImportStateResponse;
    Post   "/control/import"             ADMINS import::begin(BeginImportRequest) -> ImportState;
    Post   "/control/import/check"       ADMINS import::check(CheckImportRequest) -> Vec<RefusedRowResponse>;
    Post   "/control/import/rows"        ADMINS import::rows(ImportRowsRequest) -> ImportRowsResponse;
    Get    "/control/queue"              ADMINS api::queue::list() -> List<MailboxResponse>;
    Get    "/control/history"            ADMINS history::history() -> List<MessageResponse>;
    Get    "/control/tail"               ADMINS tail() -> Raw;
    Get    "/control/users/{id}/tokens"  ADMINS tokens() -> List<TokenResponse>;
    Post   "/control/users/{id}/tokens"  ADMINS create_token(try CreateTokenRequest) -> CreatedTokenResponse;
    Post   "/control/users/{id}/link"    ADMINS create_link() -> LinkResponse;
    Delete "/control/tokens/{id}"        ADMINS revoke_token() -> ();
};

/// Returns the service of the control socket: the REST API, every caller being the data directory's owner, and the routes above.
/// Never to be served on a network.
pub fn service(app: &Arc<App>) -> Service {
    let tables = [
        api::ROUTES,
        ROUTES,
        #[cfg(feature = "cluster")]
        cluster::ROUTES,
    ];
    let root = mount(app, &tables, true);
    Service::new(root).catcher(Catcher::default().hoop(AsJson))
}

/// The state of the server.
#[derive(Debug, Serialize)]
pub struct StatusResponse {
    /// True when it listens; else the command line works on the data directory itself.
    running: bool,
    version: &'static str,
    pid: u32,
    uptime_seconds: u64,
    listen: Option<String>,
    data_dir: String,
    epoch: String,
    disk_ok: bool,
    connections: usize,
    groups: usize,
    /// The number of mailboxes that are not empty.
    mailboxes: usize,
    messages: usize,
    bytes: u64,
    oldest: Option<Timestamp>,
    store_bytes: u64,
    free_bytes: u64,
    min_free_bytes: u64,
}

/// `GET /control/status`.
async fn status(call: Call) -> Result<Reply<StatusResponse>, ApiError> {
    let status = call.blocking(|app| {
        let (mailboxes, size) = app.mailbox.total();
        let data = &app.config().server.data_dir.clone();
        Ok(StatusResponse {
            running: app.address.get().is_some(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: app.started.elapsed().as_secs(),
            listen: app.address.get().map(ToString::to_string),
            data_dir: absolute(data).display().to_string(),
            epoch: app.store.epoch().to_owned(),
            disk_ok: app.mailbox.disk_ok(),
            connections: app.hub.presence().count(),
            groups: app.hub.group_count(),
            mailboxes,
            messages: size.messages,
            bytes: size.bytes,
            oldest: size.oldest.map_or(Ok(None), |id| app.mailbox.taken_at(id))?,
            store_bytes: app.store.disk_bytes().map_err(ApiError::internal)?,
            free_bytes: crate::data_dir::free_bytes(data).unwrap_or(0),
            min_free_bytes: app.config().storage.min_free_bytes,
        })
    });
    Ok(Reply::ok("ok", status.await?))
}

/// Returns a path that people know, also where it is one of the system's aliases of a directory.
fn absolute(data: &Path) -> PathBuf {
    std::fs::read_link(data).or_else(|_| std::path::absolute(data)).unwrap_or_else(|_| data.to_owned())
}

/// `DELETE /control/loss`: the operator knows of the loss that was noticed.
async fn acknowledge_loss(call: Call) -> Result<Reply<()>, ApiError> {
    call.blocking(|app| Ok(app.store.acknowledge_loss()?)).await?;
    Ok(Reply::done("acknowledged"))
}

/// `GET /control/users/{id}/tokens`: a user's tokens.
async fn tokens(call: Call) -> Result<Reply<List<TokenResponse>>, ApiError> {
    let user = user(&call)?;
    tokens_of(&call, user).await
}

/// `POST /control/users/{id}/tokens`: a token that acts as the user, or as a service of an administrator.
async fn create_token(call: Call, body: Result<CreateTokenRequest, ApiError>) -> Result<Reply<CreatedTokenResponse>, ApiError> {
    let (owner, body) = (user(&call)?, body?);
    let issued = call.app.accounts().create_token(&call.by(), owner, body.into()).await?;
    Ok(CreatedTokenResponse::from(issued).reply())
}

/// A one-time link.
#[derive(Debug, Serialize)]
pub struct LinkResponse {
    url: String,
    /// In seconds.
    expires_in: u64,
}

/// `POST /control/users/{id}/link`: a link that logs a browser on this machine in as the user, once.
async fn create_link(call: Call) -> Result<Reply<LinkResponse>, ApiError> {
    let server = call.app.url().ok_or_else(|| ApiError::Invalid("no server is running that a link could lead to".into()))?;
    let user = call.id(UserId, "user")?;
    let code = call.app.accounts().make_link(&call.by(), user).await?;
    let link = LinkResponse { url: link_url(&server, &code), expires_in: LINK_SECONDS };
    Ok(Reply::created("link made", link, format!("/control/users/{user}/link")))
}

/// Returns the one-time link to the page of `server`, its URL without a path. Browsers send the fragment, and so the code, to nobody.
pub fn link_url(server: &str, code: &Secret) -> String {
    format!("{server}/#link={}", code.reveal())
}

/// `DELETE /control/tokens/{id}`: revokes any token; its connections are closed at once.
async fn revoke_token(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.accounts().revoke_token(&call.by(), call.id(TokenId, "token")?).await?;
    Ok(Reply::done("token revoked"))
}

/// Returns the path's user.
fn user(call: &Call) -> Result<UserId, ApiError> {
    Ok(call.app.accounts().user(&call.by(), Action::ManageTokens, call.id(UserId, "user")?)?.id)
}
