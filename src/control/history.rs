//! `GET /control/history`: the messages that are queued or kept for a user or a device.

use crate::api::receipts::{MessageResponse, kept, mailboxes_of};
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::http::error::ApiError;
use crate::http::list::List;
use crate::http::reply::Reply;
use crate::http::request::Call;

/// `GET /control/history?user=` or `?device=`, with `&since=&after=&limit=`: in id order. A user's are those of the user, of their devices,
/// and broadcasts.
pub(super) async fn history(call: Call) -> Result<Reply<List<MessageResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    let number = |name: &'static str| {
        let wrong = move |_| ApiError::Invalid(format!("{name} must be an id"));
        call.parameter(name).map(|text| text.parse::<u64>().map_err(wrong)).transpose()
    };
    let since = MessageId(number("since")?.unwrap_or(0).max(after));
    match (number("user")?.map(UserId), number("device")?.map(DeviceId)) {
        (Some(id), _) => {
            let user = call.app.store.user(id)?.ok_or(ApiError::NotFound("user"))?;
            let joined = user.joined;
            kept(&call, limit, move |app| mailboxes_of(app, id, joined, since)).await
        }
        (None, Some(id)) => {
            call.app.store.device(id)?.ok_or(ApiError::NotFound("device"))?;
            kept(&call, limit, move |_| Ok(vec![(Recipient::Device(id), since)])).await
        }
        (None, None) => Err(ApiError::Invalid("user or device is required".into())),
    }
}
