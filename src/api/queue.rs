//! `/api/queue`: measure and clear mailboxes (the guide's `MessageQueue`, section 4.2).

use serde::Serialize;

use crate::accounts::policy::{Action, Relation};
use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::mailbox::Size;

/// The size of one mailbox, or of all.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QueueResponse {
    /// Of all: the number of mailboxes that are not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailboxes: Option<usize>,
    messages: usize,
    /// Of payloads.
    bytes: u64,
    /// The time at which the oldest message was accepted.
    oldest: Option<Timestamp>,
}

fn measured(call: &Call, mailboxes: Option<usize>, size: Size) -> Result<Reply<QueueResponse>, ApiError> {
    let oldest = size.oldest.map_or(Ok(None), |id| call.app.mailbox.taken_at(id))?;
    Ok(Reply::ok("ok", QueueResponse { mailboxes, messages: size.messages, bytes: size.bytes, oldest }))
}

/// Returns the path's user, where the caller manages its mailbox.
fn user(call: &Call) -> Result<Recipient, ApiError> {
    let id = call.id(UserId, "user")?;
    call.app.accounts().user(&call.by(), Action::ManageUserQueue, id)?;
    Ok(Recipient::User(id))
}

/// Returns the path's device, where the caller manages its mailbox.
fn device(call: &Call) -> Result<Recipient, ApiError> {
    let id = call.id(DeviceId, "device")?;
    call.app.accounts().device(&call.by(), Action::ManageDeviceQueue, id)?;
    Ok(Recipient::Device(id))
}

/// A cleared mailbox.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClearedResponse {
    /// The number of messages that were deleted.
    messages: usize,
}

async fn clear(call: &Call, recipient: Option<Recipient>) -> Result<Reply<ClearedResponse>, ApiError> {
    let messages = call.app.mailbox.clear(recipient).await?;
    let mailbox = recipient.map_or_else(|| "every".to_owned(), |recipient| recipient.to_string());
    tracing::info!(user = %call.caller()?.user.id, mailbox, messages, "queue cleared");
    Ok(Reply::ok("queue cleared", ClearedResponse { messages }))
}

/// Checks that the caller manages all mailboxes.
fn all(call: &Call) -> Result<(), ApiError> {
    Ok(call.app.accounts().permit(&call.by(), Action::ManageAllQueues, Relation::Everyone, "mailbox")?)
}

/// `GET /api/queue`: all mailboxes together.
pub async fn total(call: Call) -> Result<Reply<QueueResponse>, ApiError> {
    all(&call)?;
    let (mailboxes, size) = call.app.mailbox.total();
    measured(&call, Some(mailboxes), size)
}

/// `DELETE /api/queue`: the queued messages of all mailboxes.
pub async fn clear_all(call: Call) -> Result<Reply<ClearedResponse>, ApiError> {
    all(&call)?;
    clear(&call, None).await
}

/// `GET /api/queue/user/{id}`
pub async fn of_user(call: Call) -> Result<Reply<QueueResponse>, ApiError> {
    let size = call.app.mailbox.size(user(&call)?);
    measured(&call, None, size)
}

/// `DELETE /api/queue/user/{id}`
pub async fn clear_user(call: Call) -> Result<Reply<ClearedResponse>, ApiError> {
    clear(&call, Some(user(&call)?)).await
}

/// `GET /api/queue/device/{id}`
pub async fn of_device(call: Call) -> Result<Reply<QueueResponse>, ApiError> {
    let size = call.app.mailbox.size(device(&call)?);
    measured(&call, None, size)
}

/// `DELETE /api/queue/device/{id}`
pub async fn clear_device(call: Call) -> Result<Reply<ClearedResponse>, ApiError> {
    clear(&call, Some(device(&call)?)).await
}
