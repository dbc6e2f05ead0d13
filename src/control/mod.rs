//! The control socket: what the command line speaks to, through a socket in the data directory. Whoever can connect owns the
//! directory, so every caller acts as its operator.

pub mod server;
pub mod socket;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use salvo::catcher::Catcher;
use salvo::http::ResBody;
use salvo::{Router, Service};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use crate::accounts::revocation::close_stale;
use crate::api;
use crate::api::auth::{NewTokenBody, TokenView, issue};
use crate::app::App;
use crate::core::ids::{DeviceId, MessageId, Recipient, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::http::Route;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::http::{AsJson, mount, routes};
use crate::hub::Announcement;
use crate::store::BackupError;
use crate::telemetry::audit::AuditEvent;

/// The routes of the control socket alone. Their form may change with every version: they are for this program's command line.
pub static ROUTES: &[Route] = routes! {
    Get    "/control/status"             ADMINS status;
    Get    "/control/backup"             ADMINS backup;
    Get    "/control/check"              ADMINS check;
    Get    "/control/queue"              ADMINS queue;
    Get    "/control/tail"               ADMINS tail;
    Get    "/control/users/{id}/tokens"  ADMINS tokens;
    Post   "/control/users/{id}/tokens"  ADMINS create_token;
    Delete "/control/tokens/{id}"        ADMINS revoke_token;
};

/// Returns the service of the control socket: the REST API, every caller being the data directory's owner, and the routes above.
/// Never to be served on a network.
pub fn service(app: &Arc<App>) -> Service {
    let root = mount(mount(Router::new(), app, api::ROUTES, true), app, ROUTES, true);
    Service::new(root).catcher(Catcher::default().hoop(AsJson))
}

/// How long the taker of a backup may take for one piece of it.
const TAKE: Duration = Duration::from_secs(30);
/// Bytes in one piece, and how many pieces wait for the taker.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 4;
/// How many messages wait for who looks on.
const SEEN: usize = 256;

/// How the server is.
async fn status(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Status {
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
        mailboxes: usize,
        messages: usize,
        bytes: u64,
        oldest: Option<Timestamp>,
        store_bytes: u64,
        free_bytes: u64,
        min_free_bytes: u64,
    }
    let status = call.blocking(|app| {
        let (mailboxes, size) = app.mailbox.total();
        let data = &app.config().server.data_dir.clone();
        Ok(Status {
            running: app.address.get().is_some(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: app.started.elapsed().as_secs(),
            listen: app.address.get().map(ToString::to_string),
            data_dir: shown(data).display().to_string(),
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
    Reply::data("ok", &status.await?)
}

/// A path as people know it, also where it is one of the system's ways to name a directory.
fn shown(data: &Path) -> PathBuf {
    std::fs::read_link(data).or_else(|_| std::path::absolute(data)).unwrap_or_else(|_| data.to_owned())
}

/// Everything, as a file: see [`Store::backup`](crate::store::Store::backup).
async fn backup(call: Call) -> Result<Reply, ApiError> {
    let (pieces, taken) = channel(PIECES);
    let app = call.app.clone();
    // A task of its own, since a backup that has begun must be driven to its end, also when its taker has gone.
    call.app.sessions.spawn(async move {
        let failed = pieces.clone();
        let sink = Pieces { pieces, gathered: Vec::with_capacity(PIECE), app: app.clone(), runtime: Handle::current() };
        let floor = app.config().storage.min_free_bytes;
        match app.store.backup(sink, floor).await {
            Ok((_, amount)) => tracing::info!(records = amount.records, bytes = amount.bytes, "backup made"),
            Err(error) => {
                tracing::error!(%error, "the backup failed");
                let _ = failed.try_send(Err(error));
            }
        }
    });
    Ok(Reply::other("application/gzip", streamed(taken)))
}

/// A body that is what comes out of a channel.
fn streamed<E: std::error::Error + Send + Sync + 'static>(taken: Receiver<Result<Bytes, E>>) -> ResBody {
    ResBody::stream(stream::unfold(taken, |mut taken| async move { taken.recv().await.map(|piece| (piece, taken)) }))
}

/// Hands what is written to whoever takes the backup. Blocks while that one is busy, but not for ever.
struct Pieces {
    pieces: Sender<Result<Bytes, BackupError>>,
    gathered: Vec<u8>,
    app: Arc<App>,
    runtime: Handle,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        self.runtime.block_on(async {
            tokio::select! {
                sent = timeout(TAKE, self.pieces.send(Ok(piece.into()))) => match sent {
                    Ok(sent) => sent.map_err(|_| io::Error::other("whoever took the backup has gone")),
                    Err(_) => Err(io::Error::other("whoever takes the backup is too slow")),
                },
                () = self.app.stopping.cancelled() => Err(io::Error::other("the server stops")),
            }
        })
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PIECE {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.hand_over() }
    }
}

/// Looks at every record.
async fn check(call: Call) -> Result<Reply, ApiError> {
    Reply::data("ok", &call.blocking(|app| Ok(app.store.check()?)).await?)
}

/// `?after=user:7&limit=`: the mailboxes with something in them.
async fn queue(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Waiting {
        recipient: String,
        messages: usize,
        bytes: u64,
        oldest: Option<Timestamp>,
    }
    const MOST: usize = 1000;
    let after = call.parameter("after").map(|text| recipient(text).ok_or(ApiError::NotFound("mailbox"))).transpose()?;
    let waiting = call.blocking(move |app| {
        let view = |(recipient, size): (Recipient, crate::mailbox::Size)| {
            let oldest = size.oldest.map_or(Ok(None), |id| app.mailbox.taken_at(id))?;
            Ok(Waiting { recipient: name(recipient), messages: size.messages, bytes: size.bytes, oldest })
        };
        app.mailbox.sizes(after, MOST).into_iter().map(view).collect::<Result<Vec<_>, ApiError>>()
    });
    Reply::data("ok", &waiting.await?)
}

/// `user:7`, `device:3`, `all`.
fn name(recipient: Recipient) -> String {
    match recipient {
        Recipient::User(id) => format!("user:{id}"),
        Recipient::Device(id) => format!("device:{id}"),
        Recipient::All => "all".into(),
    }
}

/// Back from that.
fn recipient(name: &str) -> Option<Recipient> {
    match name.split_once(':') {
        Some(("user", id)) => id.parse().ok().map(Recipient::User),
        Some(("device", id)) => id.parse().ok().map(Recipient::Device),
        _ => (name == "all").then_some(Recipient::All),
    }
}

/// `?user=`, `?device=` or neither: what is sent to them, or to anybody, from now on, a line of JSON each. Nobody's mailbox
/// notices.
async fn tail(call: Call) -> Result<Reply, ApiError> {
    let id = |name: &'static str| {
        let wrong = move |_| ApiError::Invalid(format!("{name} must be an id"));
        call.parameter(name).map(|text| text.parse::<u64>().map_err(wrong)).transpose()
    };
    let wanted = match (id("user")?.map(UserId), id("device")?.map(DeviceId)) {
        (Some(user), _) if call.app.store.user(user)?.is_none() => return Err(ApiError::NotFound("user")),
        (_, Some(device)) if call.app.store.device(device)?.is_none() => return Err(ApiError::NotFound("device")),
        (user, device) => user.map(Recipient::User).or(device.map(Recipient::Device)),
    };
    let (lines, taken) = channel::<Result<Bytes, io::Error>>(SEEN);
    let (mut tap, stopping) = (call.app.hub.tap(), call.app.stopping.clone());
    call.app.sessions.spawn(async move {
        let mut missed = false;
        loop {
            let heard = tokio::select! {
                heard = tap.next() => heard,
                () = stopping.cancelled() => return,
                () = lines.closed() => return,
            };
            let Ok(announced) = heard else {
                missed = true;
                continue;
            };
            if wanted.is_some_and(|wanted| !concerns(&announced, wanted)) {
                continue;
            }
            let Some(line) = line(&announced, missed) else { continue };
            match lines.try_send(Ok(line)) {
                Ok(()) => missed = false,
                Err(TrySendError::Full(_)) => missed = true, // who looks on slowly is told, with the next there is room for
                Err(TrySendError::Closed(_)) => return,
            }
        }
    });
    Ok(Reply::other("application/x-ndjson", streamed(taken)))
}

/// Whether `recipient` hears it: its own, and what is for everybody.
fn concerns(announced: &Announcement, recipient: Recipient) -> bool {
    announced.recipient == recipient || announced.recipient == Recipient::All
}

/// What is said of one; `missed`: whether there were others before it.
fn line(announced: &Announcement, missed: bool) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        missed: bool,
        recipient: String,
        id: Option<MessageId>,
        message: &'a RawValue,
    }
    let message = serde_json::from_slice(announced.payload()).ok()?;
    let mut line = serde_json::to_vec(&Line { missed, recipient: name(announced.recipient), id: announced.id, message }).ok()?;
    line.push(b'\n');
    Some(line.into())
}

/// A user's tokens, all of them.
async fn tokens(call: Call) -> Result<Reply, ApiError> {
    let user = user(&call)?;
    let (after, limit) = call.page()?;
    let page = call.blocking(move |app| Ok(app.store.tokens(user, TokenId(after), limit)?)).await?;
    let views: Vec<TokenView<'_>> = page.items.iter().map(Into::into).collect();
    Reply::page(&views, page.items.last().map(|t| t.id.0), page.more)
}

/// `{label?, kind?, expires_in?}`: a token that acts as the user, or as a service of theirs.
async fn create_token(call: Call) -> Result<Reply, ApiError> {
    let (owner, body): (UserId, NewTokenBody) = (user(&call)?, call.json_or_empty()?);
    issue(&call, body, owner, None).await
}

/// Takes a token away from whomever; its connections end at once.
async fn revoke_token(call: Call) -> Result<Reply, ApiError> {
    let id = call.id(TokenId, "token")?;
    let token = call.app.store.token_by_id(id)?.ok_or(ApiError::NotFound("token"))?;
    call.app.store.delete_token(token.user_id, id).await?;
    close_stale(&call.app, token.user_id)?;
    call.audit(AuditEvent::TokenRevoked(id));
    Ok(Reply::done("token revoked"))
}

/// The path's user.
fn user(call: &Call) -> Result<UserId, ApiError> {
    let id = call.id(UserId, "user")?;
    call.app.store.user(id)?.map(|user| user.id).ok_or(ApiError::NotFound("user"))
}
