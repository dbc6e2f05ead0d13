//! Receipts and history of messages.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::accounts::policy::Action;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::mailbox::{Receipt, Status};

/// The receipt of a message.
#[derive(Debug, Serialize)]
pub struct ReceiptResponse {
    id: MessageId,
    /// `user`, `device` or `all`.
    to: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<DeviceId>,
    sender_id: UserId,
    /// `queued`, `sent`, `acked` or `expired`.
    status: &'static str,
    queued_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked_at: Option<Timestamp>,
    expires_at: Timestamp,
    /// Of a broadcast: the number of users that have received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<usize>,
}

impl From<Receipt> for ReceiptResponse {
    fn from(receipt: Receipt) -> Self {
        let (to, user_id, device_id) = match receipt.recipient {
            Recipient::User(id) => ("user", Some(id), None),
            Recipient::Device(id) => ("device", None, Some(id)),
            Recipient::All => ("all", None, None),
        };
        let (status, sent_at, acked_at) = match receipt.status {
            Status::Queued => ("queued", None, None),
            Status::Sent(when) => ("sent", Some(when), None),
            Status::Acked(when) => ("acked", None, when),
            Status::Expired => ("expired", None, None),
        };
        Self {
            id: receipt.head.id,
            to,
            user_id,
            device_id,
            sender_id: receipt.head.sender,
            status,
            queued_at: receipt.head.created,
            sent_at,
            acked_at,
            expires_at: receipt.expires_at,
            received: receipt.received,
        }
    }
}

/// `GET /api/messages/{id}`: for its sender, its recipients, their devices and administrators; for others it does not exist.
pub async fn show(call: Call) -> Result<Reply<ReceiptResponse>, ApiError> {
    let id = call.id(MessageId, "message")?;
    let receipt = call.blocking(move |app| Ok(app.mailbox.receipt(id)?)).await?.ok_or(ApiError::NotFound("message"))?;
    let by = call.by();
    let relation = by.requester().to_message(&call.app.store, receipt.head.sender, receipt.recipient)?;
    call.app.accounts().permit(&by, Action::ReadReceipt, relation, "message")?;
    Ok(Reply::ok("ok", receipt.into()))
}

/// A message as it was pushed.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct MessageResponse(Box<RawValue>);

/// `GET /api/messages/history?since=&limit=`: the messages still kept of one's own mailboxes, in id order.
pub async fn history(call: Call) -> Result<Reply<Vec<MessageResponse>>, ApiError> {
    let (_, limit) = call.page()?;
    let since = call.parameter("since").map_or(Ok(MessageId(0)), str::parse);
    let since = since.map_err(|_| ApiError::Invalid("since must be an id".into()))?;
    let user = &call.caller()?.user;
    let (id, joined) = (user.id, user.joined);
    let (messages, more) = call
        .blocking(move |app| {
            let devices = app.store.devices(Some(id), DeviceId(0), usize::MAX)?.items;
            let mut recipients = vec![Recipient::User(id)];
            recipients.extend(devices.iter().map(|d| Recipient::Device(d.id)));
            let mut found = app.mailbox.history(&recipients, since, limit)?;
            let broadcasts = app.mailbox.history(&[Recipient::All], since.max(joined), limit)?;
            found.1 |= broadcasts.1;
            found.0.extend(broadcasts.0);
            found.0.sort_by_key(|m| m.head.id);
            found.1 |= found.0.len() > limit;
            found.0.truncate(limit);
            Ok(found)
        })
        .await?;
    let last = messages.last().map(|m| m.head.id.0);
    let texts = messages.into_iter().map(|message| serde_json::from_slice(&message.payload).map(MessageResponse));
    Ok(Reply::page(texts.collect::<Result<_, _>>().map_err(ApiError::internal)?, last, more))
}
