//! `/api/users`: accounts, for administrators.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::accounts::policy::{Action, Relation};
use crate::accounts::{NewAccount, PatchAccount};
use crate::core::ids::UserId;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Place};
use crate::http::reply::Reply;
use crate::http::request::{Call, RequestBody};
use crate::hub::OnlineUser;
use crate::store::{Role, User};

/// An account without its password hash.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UserResponse {
    id: UserId,
    username: String,
    role: Role,
    disabled: bool,
    created_at: Timestamp,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        let User { id, username, role, disabled, created_at, .. } = user;
        Self { id, username, role, disabled, created_at }
    }
}

/// Returns the path of an account.
pub fn user_path(id: UserId) -> String {
    format!("/api/users/{id}")
}

/// `GET /api/users`; with `?username=`, that one, for all who may send to it.
pub async fn list(call: Call) -> Result<Reply<List<UserResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    let (by, accounts) = (call.by(), call.app.accounts());
    let named = call.parameter("username").map(|name| call.app.store.user_by_name(name)).transpose()?;
    match &named {
        Some(Some(user)) => drop(accounts.user(&by, Action::SendToUser, user.id)?),
        Some(None) => {}
        None => accounts.permit(&by, Action::ManageAccounts, Relation::Everyone, "user")?,
    }
    let item = |user: User| (Place::Id(user.id.0), UserResponse::from(user));
    call.list(limit, move |app, page| match named {
        Some(user) => page.fill(user.map(|user| Ok(item(user)))),
        None => page.fill(app.store.users(UserId(after)).map(|user| Ok(item(user?)))),
    })
    .await
}

/// Body of `POST /api/users`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    username: String,
    password: String,
    /// `user` where none is given.
    role: Option<Role>,
}

impl RequestBody for CreateUserRequest {}

/// `POST /api/users`.
pub async fn create(call: Call, body: CreateUserRequest) -> Result<Reply<UserResponse>, ApiError> {
    let CreateUserRequest { username, password, role } = body;
    let new = NewAccount { username, password, role: role.unwrap_or(Role::User) };
    let user = call.app.accounts().create_user(&call.by(), new).await?;
    let location = user_path(user.id);
    Ok(Reply::created("user created", user.into(), location))
}

/// `GET /api/users/{id}`.
pub async fn show(call: Call) -> Result<Reply<UserResponse>, ApiError> {
    let user = call.app.accounts().user(&call.by(), Action::ManageAccounts, call.id(UserId, "user")?)?;
    Ok(Reply::ok("ok", Arc::unwrap_or_clone(user).into()))
}

/// Body of `PATCH /api/users/{id}`; absent fields stay as they are.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeUserRequest {
    disabled: Option<bool>,
    role: Option<Role>,
    password: Option<String>,
}

impl RequestBody for ChangeUserRequest {}

/// `PATCH /api/users/{id}`: takes effect at once, also on live connections.
pub async fn change(call: Call, body: ChangeUserRequest) -> Result<Reply<UserResponse>, ApiError> {
    let ChangeUserRequest { disabled, role, password } = body;
    let patch = PatchAccount { disabled, role, password };
    let user = call.app.accounts().change_user(&call.by(), call.id(UserId, "user")?, patch).await?;
    Ok(Reply::ok("user changed", user.into()))
}

/// `DELETE /api/users/{id}`: with tokens, bindings and mailboxes; live connections are closed at once.
pub async fn delete(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.accounts().delete_user(&call.by(), call.id(UserId, "user")?).await?;
    Ok(Reply::done("user deleted"))
}

/// A user with at least one live connection.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OnlineUserResponse {
    user_id: UserId,
    username: Option<String>,
    connections: usize,
    connected_since: Timestamp,
    last_activity: Timestamp,
}

/// `GET /api/users/online`.
pub async fn online(call: Call) -> Result<Reply<List<OnlineUserResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    call.list(limit, move |app, page| {
        let users = app.hub.presence().online_users(UserId(after), limit + 1);
        page.fill(users.into_iter().map(|online| {
            let username = app.store.user(online.user_id)?.map(|user| user.username.clone());
            let OnlineUser { user_id, connections, since: connected_since, last_activity } = online;
            let response = OnlineUserResponse { user_id, username, connections, connected_since, last_activity };
            Ok((Place::Id(user_id.0), response))
        }))
    })
    .await
}
