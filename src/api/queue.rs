//! `/api/queue` and `/api/queues`: list, measure, look into and clear mailboxes (the guide's `MessageQueue`, section 4.2).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::accounts::policy::{Action, Relation};
use crate::admission::answers::MAX_PAGE_BYTES;
use crate::app::App;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Page, Place};
use crate::http::reply::Reply;
use crate::http::request::{Call, MAX_PAGE};
use crate::mailbox::{Queued, Size};
use crate::store::StoreError;

/// The bytes that a message takes in a list of queued ones, without its contents, at most. A page of the longest such list fits into
/// [`MAX_PAGE_BYTES`].
const ITEM_BYTES: usize = 1024;

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

/// A mailbox that is not empty.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MailboxResponse {
    /// `user:7`, `device:3` or `all`.
    recipient: String,
    /// `user`, `device` or `all`.
    to: &'static str,
    /// The user's or device's; `null` for all.
    id: Option<u64>,
    /// The name of the user or the device.
    name: Option<String>,
    messages: usize,
    /// Of payloads.
    bytes: u64,
    /// The time at which the oldest message was accepted.
    oldest: Option<Timestamp>,
    /// The number of clients of a user, of all users for a broadcast; a device is one.
    readers: usize,
}

impl MailboxResponse {
    /// Returns the mailbox of `recipient`, which has that size.
    fn new(app: &App, recipient: Recipient, size: Size) -> Result<Self, StoreError> {
        let (to, id, name) = match recipient {
            Recipient::User(id) => ("user", Some(id.0), app.store.user(id)?.map(|user| user.username.clone())),
            Recipient::Device(id) => ("device", Some(id.0), app.store.device(id)?.map(|device| device.name)),
            Recipient::All => ("all", None, None),
        };
        let Size { messages, bytes, oldest } = size;
        let oldest = oldest.map_or(Ok(None), |id| app.mailbox.taken_at(id))?;
        let readers = app.mailbox.readers_of(recipient);
        Ok(Self { recipient: recipient.to_string(), to, id, name, messages, bytes, oldest, readers })
    }
}

/// `GET /api/queues?after=user:7`: the mailboxes that are not empty, in the order users, devices, all, and of their ids.
pub async fn list(call: Call) -> Result<Reply<List<MailboxResponse>>, ApiError> {
    all(&call)?;
    let unknown = || ApiError::Invalid("after must be a mailbox, such as user:7, device:3 or all".into());
    let after = call.parameter("after").map(|text| Recipient::parse(text).ok_or_else(unknown)).transpose()?;
    let limit = call.limit(MAX_PAGE)?;
    call.list(limit, move |app, page| {
        page.fill(app.mailbox.sizes(after, limit + 1).into_iter().map(|(recipient, size)| {
            let mailbox = MailboxResponse::new(app, recipient, size)?;
            Ok((Place::Name(mailbox.recipient.clone()), mailbox))
        }))
    })
    .await
}

/// A queued message.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QueuedResponse {
    id: MessageId,
    #[serde(rename = "type")]
    kind: String,
    sender_id: UserId,
    queued_at: Timestamp,
    expires_at: Timestamp,
    /// Of the payload.
    bytes: u32,
    /// `queued`, or `sent` where it was written to a connection.
    status: &'static str,
    /// As it is pushed, where the caller may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<crate::describe::types::PushedMessage>"))]
    message: Option<Box<RawValue>>,
}

impl QueuedResponse {
    /// Returns a message with this payload; `None` where that is no JSON object, which is damage.
    fn new(queued: &Queued, payload: &[u8], with_message: bool) -> Option<Self> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type", default)]
            kind: String,
        }
        let Queued { head, waiting } = queued;
        let Typed { kind } = serde_json::from_slice(payload).ok()?;
        Some(Self {
            id: head.id,
            kind,
            sender_id: head.sender,
            queued_at: head.created,
            expires_at: head.expires_at(),
            bytes: head.length,
            status: if waiting.deliveries > 0 { "sent" } else { "queued" },
            message: if with_message { Some(serde_json::from_slice(payload).ok()?) } else { None },
        })
    }
}

/// Answers with the messages that wait in a mailbox; with what is in them where `with_messages`. Nothing is marked or acknowledged.
async fn messages(call: &Call, of: Recipient, with_messages: bool) -> Result<Reply<List<QueuedResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    let room = call.room(MAX_PAGE_BYTES).await?; // first: who waits holds nothing
    // Payloads are read in any case, for the types of the messages.
    let cost = |queued: &Queued| ITEM_BYTES + queued.waiting.bytes as usize;
    let mailbox = &call.app.mailbox;
    let peek = mailbox.peek(of, MessageId(after), limit, MAX_PAGE_BYTES, cost);
    let next = peek.next().map(|last| Place::Id(last.0));
    let mut page = Page::new(limit);
    mailbox
        .read_peek(peek, |queued, payload| {
            let item = QueuedResponse::new(queued, &payload, with_messages);
            if let Some(item) = item.and_then(|item| serde_json::to_vec(&item).ok()) {
                page.push(item);
            }
        })
        .await?;
    Ok(Reply::ok("ok", page.finish(next, room)))
}

/// Returns whether the caller may read what is in the messages of a mailbox that it manages: its own, or any where the configuration
/// shows administrators everything.
fn may_read(call: &Call, mailbox: Recipient) -> Result<bool, ApiError> {
    let user = call.caller()?.user.id;
    let own = match mailbox {
        Recipient::User(id) => id == user,
        Recipient::Device(id) => call.app.store.owns(user, id)?,
        Recipient::All => false,
    };
    Ok(own || call.app.config().server.console_contents)
}

/// `GET /api/queue/user/{id}/messages`: what no reader of the user has received, its share of the broadcasts included.
pub async fn messages_of_user(call: Call) -> Result<Reply<List<QueuedResponse>>, ApiError> {
    let mailbox = user(&call)?;
    let with_messages = may_read(&call, mailbox)?;
    messages(&call, mailbox, with_messages).await
}

/// `GET /api/queue/device/{id}/messages`
pub async fn messages_of_device(call: Call) -> Result<Reply<List<QueuedResponse>>, ApiError> {
    let mailbox = device(&call)?;
    let with_messages = may_read(&call, mailbox)?;
    messages(&call, mailbox, with_messages).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_without_contents_is_not_longer_than_reserved() {
        let (recipient, created) = (Recipient::User(UserId(u64::MAX)), Timestamp::from_unix_micros(1_700_000_000_000_001));
        let head = crate::store::Head {
            id: MessageId(u64::MAX),
            recipient,
            sender: UserId(u64::MAX),
            expires: u64::MAX,
            ttl: u32::MAX,
            created,
            length: u32::MAX,
        };
        let waiting = crate::change::Waiting {
            id: head.id,
            block: head.id,
            bytes: u32::MAX,
            deliveries: 0,
            received: false,
            expires: u64::MAX,
        };
        let kind = "\u{1}".repeat(crate::api::messages::MAX_TYPE_CHARS);
        let payload = serde_json::to_vec(&serde_json::json!({"type": kind, "message": "x".repeat(5000)})).unwrap();
        let item =
            |with| serde_json::to_vec(&QueuedResponse::new(&Queued { head, waiting }, &payload, with).unwrap()).unwrap().len();
        assert!(item(false) < ITEM_BYTES, "{}", item(false));
        assert!(item(true) > payload.len() && item(true) < ITEM_BYTES + payload.len());
        assert!(MAX_PAGE * ITEM_BYTES <= MAX_PAGE_BYTES);
    }
}
