//! `/api/clients`: the clients of a user, each with a place of its own in the user's messages.

use serde::Serialize;

use crate::accounts::policy::Action;
use crate::core::client::ClientName;
use crate::core::ids::{MessageId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Place};
use crate::http::reply::Reply;
use crate::http::request::{Call, MAX_PAGE};

/// A client of a user.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientResponse {
    name: String,
    /// It has received everything up to here.
    cursor: MessageId,
    /// The messages that wait for it.
    waiting: usize,
    /// The time of its last connection, to the hour.
    last_connected: Timestamp,
    online: bool,
}

/// Returns the user whose clients the call is about: the caller, or for administrators that of `?user_id=`.
fn owner(call: &Call) -> Result<UserId, ApiError> {
    let user = call.asked_user()?.unwrap_or(call.caller()?.user.id);
    call.app.accounts().user(&call.by(), Action::ManageClients, user)?;
    Ok(user)
}

/// `GET /api/clients?after=<name>`, for administrators also with `?user_id=`: in the order of their names.
pub async fn list(call: Call) -> Result<Reply<List<ClientResponse>>, ApiError> {
    let user = owner(&call)?;
    // Those that have no `limit` know no pages, and `mailbox.readers` is seldom more than one.
    let limit = call.limit(MAX_PAGE)?;
    let after = call.parameter("after").unwrap_or_default().to_owned();
    call.list(limit, move |app, page| {
        let online = app.hub.presence().readers_of(user);
        page.fill(app.mailbox.readers(user, &after, limit + 1).into_iter().map(|reader| {
            let name = reader.client.to_string();
            let online = online.contains(&reader.client);
            let last_connected = if online { Timestamp::now() } else { reader.connected };
            let (cursor, waiting) = (reader.cursor, reader.waiting);
            Ok((Place::Name(name.clone()), ClientResponse { name, cursor, waiting, last_connected, online }))
        }))
    })
    .await
}

/// `DELETE /api/clients/{name}`: forgets a client; its connections are closed, and one that returns is a new client.
pub async fn delete(call: Call) -> Result<Reply<()>, ApiError> {
    let user = owner(&call)?;
    let name = call.name.as_deref().and_then(ClientName::parse).ok_or(ApiError::NotFound("client"))?;
    call.app.accounts().forget_client(&call.by(), user, name).await?;
    Ok(Reply::done("client forgotten"))
}
