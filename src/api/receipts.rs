//! Receipts and history of messages.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::accounts::policy::{Action, Denied, Relation};
use crate::admission::answers::MAX_PAGE_BYTES;
use crate::app::App;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Page, Place};
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::mailbox::{CancelError, ReaderReceipt, Receipt, Status};
use crate::store::EndState;

/// The most clients in a receipt.
const MAX_READERS: usize = 1000;

/// The receipt of a message.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReceiptResponse {
    id: MessageId,
    /// `user`, `device` or `all`.
    to: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<DeviceId>,
    sender_id: UserId,
    /// `queued`, `sent`, `acked`, `expired`, `cancelled`, `cleared` or `undeliverable`.
    status: &'static str,
    queued_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked_at: Option<Timestamp>,
    /// The end of a life that ended otherwise than by receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    expires_at: Timestamp,
    /// The number of connections that it was written to, as far as that is known.
    deliveries: u16,
    /// Of a user's message: the clients that have received it or passed over it, at most [`MAX_READERS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<Vec<ReaderResponse>>,
    /// The number of such clients that are not in `readers`, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_readers: Option<usize>,
    /// Of a broadcast: the number of users that have received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<usize>,
}

/// A client in the receipt of a message.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReaderResponse {
    client: String,
    /// `null` where the time is not known, or the client has passed over the message.
    acked_at: Option<Timestamp>,
    /// `undeliverable` where the client has passed over the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

impl From<ReaderReceipt> for ReaderResponse {
    fn from(ReaderReceipt { client, passed_over, acked_at }: ReaderReceipt) -> Self {
        Self { client: client.to_string(), acked_at, status: passed_over.then_some(EndState::Undeliverable.name()) }
    }
}

impl From<Receipt> for ReceiptResponse {
    fn from(receipt: Receipt) -> Self {
        let Receipt { head, status, deliveries, readers, received } = receipt;
        let (to, user_id, device_id) = match head.recipient {
            Recipient::User(id) => ("user", Some(id), None),
            Recipient::Device(id) => ("device", None, Some(id)),
            Recipient::All => ("all", None, None),
        };
        let (status, sent_at, acked_at, ended_at) = match status {
            Status::Queued => ("queued", None, None, None),
            Status::Sent(when) => ("sent", Some(when), None, None),
            Status::Ended(EndState::Acked, when) => ("acked", None, when, None),
            Status::Ended(end, when) => (end.name(), None, None, when),
        };
        let more_readers = readers.len().checked_sub(MAX_READERS).filter(|&more| more > 0);
        let readers = user_id.map(|_| readers.into_iter().take(MAX_READERS).map(ReaderResponse::from).collect());
        Self {
            id: head.id,
            to,
            user_id,
            device_id,
            sender_id: head.sender,
            status,
            queued_at: head.created,
            sent_at,
            acked_at,
            ended_at,
            expires_at: head.expires_at(),
            deliveries,
            readers,
            more_readers,
            received,
        }
    }
}

/// `GET /api/messages/{id}`: for its sender, its recipients, their devices and administrators; for others it does not exist.
pub async fn show(call: Call) -> Result<Reply<ReceiptResponse>, ApiError> {
    let id = call.id(MessageId, "message")?;
    let receipt = call.blocking(move |app| Ok(app.mailbox.receipt(id)?)).await?.ok_or(ApiError::NotFound("message"))?;
    let by = call.by();
    let relation = by.requester().to_message(&call.app.store, receipt.head.sender, receipt.head.recipient)?;
    call.app.accounts().permit(&by, Action::ReadReceipt, relation, "message")?;
    Ok(Reply::ok("ok", receipt.into()))
}

/// Returns whether a message can be taken back; `false` where it has been.
///
/// # Errors
/// [`ApiError::AlreadyReceived`], [`ApiError::AlreadyEnded`].
fn waits(status: Status) -> Result<bool, ApiError> {
    match status {
        Status::Queued | Status::Sent(_) => Ok(true),
        Status::Ended(EndState::Cancelled, _) => Ok(false),
        Status::Ended(EndState::Acked, _) => Err(ApiError::AlreadyReceived),
        Status::Ended(end, _) => Err(ApiError::AlreadyEnded(end.name())),
    }
}

/// `DELETE /api/messages/{id}`: takes back what no client has received; for its sender, its recipient and administrators, a broadcast
/// for its sender and administrators. A message that has been taken back is no error.
pub async fn cancel(call: Call) -> Result<Reply<()>, ApiError> {
    let id = call.id(MessageId, "message")?;
    let receipt = call.blocking(move |app| Ok(app.mailbox.receipt(id)?)).await?.ok_or(ApiError::NotFound("message"))?;
    let Receipt { head, status, .. } = receipt;
    let by = call.by();
    let mut relation = by.requester().to_message(&call.app.store, head.sender, head.recipient)?;
    if head.sender == call.caller()?.user.id && relation == Relation::Everyone {
        relation = Relation::Own; // one's own broadcast
    }
    call.app.accounts().permit(&by, Action::CancelMessage, relation, "message").map_err(|denied| match denied {
        // It is everybody's to see.
        Denied::Hidden(_) if relation == Relation::Everyone => Denied::Forbidden,
        denied => denied,
    })?;
    if waits(status)? {
        match call.app.mailbox.cancel(head.recipient, id).await {
            Ok(()) => {}
            Err(CancelError::Store(error)) => return Err(error.into()),
            // Something has ended it since the receipt was read.
            Err(CancelError::NotWaiting) => {
                let receipt = call.blocking(move |app| Ok(app.mailbox.receipt(id)?)).await?;
                waits(receipt.ok_or(ApiError::NotFound("message"))?.status)?;
            }
        }
    }
    tracing::info!(user = %call.caller()?.user.id, message = %id, "message cancelled");
    Ok(Reply::done("message cancelled"))
}

/// A message as it was pushed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct MessageResponse(#[cfg_attr(test, schemars(with = "crate::describe::types::PushedMessage"))] Box<RawValue>);

/// `GET /api/messages/history?since=&limit=`: the messages still kept of one's own mailboxes, in id order.
pub async fn history(call: Call) -> Result<Reply<List<MessageResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    let since = call.parameter("since").map_or(Ok(MessageId(0)), str::parse);
    let since = since.map_err(|_| ApiError::Invalid("since must be an id".into()))?.max(MessageId(after));
    let user = &call.caller()?.user;
    let (id, joined) = (user.id, user.joined);
    kept(&call, limit, move |app| mailboxes_of(app, id, joined, since)).await
}

/// Returns the mailboxes that a user's messages come from, each with the id that they follow.
pub fn mailboxes_of(app: &App, id: UserId, joined: MessageId, since: MessageId) -> Result<Vec<(Recipient, MessageId)>, ApiError> {
    let mut mailboxes = vec![(Recipient::User(id), since), (Recipient::All, since.max(joined))];
    for device in app.store.bound_devices(id, DeviceId(0)) {
        mailboxes.push((Recipient::Device(device?), since));
    }
    Ok(mailboxes)
}

/// Returns a page of the messages still kept of mailboxes.
pub async fn kept(
    call: &Call,
    limit: usize,
    mailboxes: impl FnOnce(&App) -> Result<Vec<(Recipient, MessageId)>, ApiError> + Send + 'static,
) -> Result<Reply<List<MessageResponse>>, ApiError> {
    let mut room = call.room(MAX_PAGE_BYTES).await?; // first: who waits holds nothing
    let selected = call.blocking(move |app| Ok(app.mailbox.history(&mailboxes(app)?, limit, MAX_PAGE_BYTES))).await?;
    // By the selection, not by what is found of it: a page of which nothing is left has a next one, too.
    let next = selected.next().map(|last| Place::Id(last.0));
    room.shrink(Page::room_for(selected.messages(), selected.bytes()));
    let mut page = Page::new(limit);
    call.app.mailbox.read_history(selected, |payload| page.push(payload)).await?;
    Ok(Reply::ok("ok", page.finish(next, room)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::client::ClientName;
    use crate::store::Head;

    #[test]
    fn receipt_names_a_thousand_readers_and_counts_the_others() {
        let shown = |readers: u64| {
            let (recipient, created) = (Recipient::User(UserId(1)), Timestamp::from_unix_micros(1));
            let head = Head { id: MessageId(1), recipient, sender: UserId(1), expires: 1, ttl: 1, created, length: 1 };
            let client = |n| ClientName::of_device(DeviceId(n));
            let readers = (0..readers).map(|n| ReaderReceipt { client: client(n), passed_over: false, acked_at: None }).collect();
            let receipt = Receipt { head, status: Status::Ended(EndState::Acked, None), deliveries: 1, readers, received: None };
            let shown = serde_json::to_value(ReceiptResponse::from(receipt)).unwrap();
            (shown["readers"].as_array().unwrap().len(), shown.get("more_readers").map(|more| more.as_u64().unwrap()))
        };
        assert_eq!([shown(0), shown(1000), shown(1003)], [(0, None), (1000, None), (1000, Some(3))]);
    }
}
