//! `/api/queue`: what waits, and letting go of it (the guide's `MessageQueue`, section 4.2).

use serde::Serialize;

use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::mailbox::Size;
use crate::store::Role;

#[derive(Serialize)]
struct SizeView {
    /// How many mailboxes have something in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailboxes: Option<usize>,
    messages: usize,
    bytes: u64,
    /// When the oldest message was taken.
    oldest: Option<Timestamp>,
}

fn view(call: &Call, mailboxes: Option<usize>, size: Size) -> Result<Reply, ApiError> {
    let oldest = size.oldest.map_or(Ok(None), |id| call.app.mailbox.taken_at(id))?;
    Reply::data("ok", &SizeView { mailboxes, messages: size.messages, bytes: size.bytes, oldest })
}

/// The path's user, when it is the caller or the caller an administrator.
fn user(call: &Call) -> Result<Recipient, ApiError> {
    let (id, caller) = (call.id(UserId, "user")?, &call.caller()?.user);
    let allowed = id == caller.id || caller.role == Role::Admin;
    if allowed && call.app.store.user(id)?.is_some() { Ok(Recipient::User(id)) } else { Err(ApiError::NotFound("user")) }
}

/// The path's device, when it is the caller's or the caller an administrator.
fn device(call: &Call) -> Result<Recipient, ApiError> {
    let (id, caller) = (call.id(DeviceId, "device")?, &call.caller()?.user);
    let allowed = caller.role == Role::Admin || call.app.store.owns(caller.id, id)?;
    if allowed && call.app.store.device(id)?.is_some() { Ok(Recipient::Device(id)) } else { Err(ApiError::NotFound("device")) }
}

async fn clear(call: &Call, which: Option<Recipient>) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Cleared {
        messages: usize,
    }
    let messages = call.app.mailbox.clear(which).await?;
    tracing::info!(user = %call.caller()?.user.id, ?which, messages, "queue cleared");
    Reply::data("queue cleared", &Cleared { messages })
}

/// `GET /api/queue`: all mailboxes together.
pub async fn total(call: Call) -> Result<Reply, ApiError> {
    let (mailboxes, size) = call.app.mailbox.total();
    view(&call, Some(mailboxes), size)
}

/// `DELETE /api/queue`: everything that waits anywhere.
pub async fn clear_all(call: Call) -> Result<Reply, ApiError> {
    clear(&call, None).await
}

/// `GET /api/queue/user/{id}`
pub async fn of_user(call: Call) -> Result<Reply, ApiError> {
    let size = call.app.mailbox.size(user(&call)?);
    view(&call, None, size)
}

/// `DELETE /api/queue/user/{id}`
pub async fn clear_user(call: Call) -> Result<Reply, ApiError> {
    clear(&call, Some(user(&call)?)).await
}

/// `GET /api/queue/device/{id}`
pub async fn of_device(call: Call) -> Result<Reply, ApiError> {
    let size = call.app.mailbox.size(device(&call)?);
    view(&call, None, size)
}

/// `DELETE /api/queue/device/{id}`
pub async fn clear_device(call: Call) -> Result<Reply, ApiError> {
    clear(&call, Some(device(&call)?)).await
}
