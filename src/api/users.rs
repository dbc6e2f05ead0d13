//! `/api/users`: accounts, for administrators.

use serde::{Deserialize, Serialize};

use crate::accounts::revocation::close_stale;
use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::core::text::is_plain;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::store::{Role, User, UserChange};
use crate::telemetry::audit::{AuditEvent, UserChanges};

/// The longest name, in characters (Django's limit, from which accounts may come).
const MAX_USERNAME_CHARS: usize = 150;

/// An account without its password hash.
#[derive(Serialize)]
pub struct UserView<'a> {
    id: UserId,
    username: &'a str,
    role: Role,
    disabled: bool,
    created_at: Timestamp,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(u: &'a User) -> Self {
        Self { id: u.id, username: &u.username, role: u.role, disabled: u.disabled, created_at: u.created_at }
    }
}

/// Refuses names that would break a log line or hide what they are.
pub fn check_username(name: &str) -> Result<(), ApiError> {
    let good = (1..=MAX_USERNAME_CHARS).contains(&name.chars().count()) && name.trim() == name && is_plain(name);
    if good {
        return Ok(());
    }
    let what = format!(
        "username must have 1 to {MAX_USERNAME_CHARS} characters, no control or invisible characters, no blanks at the ends"
    );
    Err(ApiError::Invalid(what))
}

/// `GET /api/users`; with `?username=`, that one.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let (after, limit) = call.page()?;
    if let Some(name) = call.parameter("username") {
        let user = call.app.store.user_by_name(name)?;
        return Reply::page(&user.iter().map(UserView::from).collect::<Vec<_>>(), None, false);
    }
    let page = call.blocking(move |app| Ok(app.store.users(UserId(after), limit)?)).await?;
    let views: Vec<UserView<'_>> = page.items.iter().map(Into::into).collect();
    Reply::page(&views, page.items.last().map(|u| u.id.0), page.more)
}

/// `POST /api/users {username, password, role?}`.
pub async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        username: String,
        password: String,
        role: Option<Role>,
    }
    let body: Body = call.json()?;
    check_username(&body.username)?;
    let (role, because) = (body.role.unwrap_or(Role::User), call.caller()?.office());
    let user = call.app.auth.create_user(&body.username, &body.password, role, because).await?;
    call.audit(AuditEvent::UserCreated(user.id, role.name()));
    Reply::created("user created", &UserView::from(&user))
}

/// `GET /api/users/{id}`.
pub async fn show(call: Call) -> Result<Reply, ApiError> {
    let user = call.app.store.user(call.id(UserId, "user")?)?.ok_or(ApiError::NotFound("user"))?;
    Reply::data("ok", &UserView::from(&user))
}

/// `PATCH /api/users/{id} {disabled?, role?, password?}`: bites at once, also on live connections.
pub async fn change(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        disabled: Option<bool>,
        role: Option<Role>,
        password: Option<String>,
    }
    let (id, body): (UserId, Body) = (call.id(UserId, "user")?, call.json()?);
    if call.app.store.user(id)?.is_none() {
        return Err(ApiError::NotFound("user"));
    }
    let new_password = body.password.is_some();
    let password_hash = match body.password {
        Some(password) => Some(call.app.auth.hash_password(&password).await?),
        None => None,
    };
    let change = UserChange { disabled: body.disabled, role: body.role, password_hash };
    let user = call.app.store.change_user(id, change, call.caller()?.office()).await?;
    close_stale(&call.app, id)?;
    let role = body.role.map(|_| user.role.name());
    call.audit(AuditEvent::UserChanged(id, UserChanges { role, disabled: body.disabled, password: new_password }));
    Reply::data("user changed", &UserView::from(&user))
}

/// `DELETE /api/users/{id}`: with tokens and bindings; live connections end at once.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let id = call.id(UserId, "user")?;
    let devices = call.app.store.devices(Some(id), DeviceId(0), usize::MAX)?.items;
    call.app.store.delete_user(id).await?;
    call.audit(AuditEvent::UserDeleted(id));
    close_stale(&call.app, id)?;
    call.app.mailbox.remove(Recipient::User(id)).await?;
    for device in devices {
        if call.app.store.device(device.id)?.is_none() {
            call.app.mailbox.remove(Recipient::Device(device.id)).await?; // nobody else has it: gone with its user
        }
    }
    Ok(Reply::done("user deleted"))
}

/// `GET /api/users/online`.
pub async fn online(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Online {
        user_id: UserId,
        username: Option<String>,
        connections: usize,
        connected_since: Timestamp,
        last_activity: Timestamp,
    }
    let (after, limit) = call.page()?;
    let (views, more) = call
        .blocking(move |app| {
            let (users, more) = app.hub.presence().online_users(UserId(after), limit);
            let view = |u: crate::hub::presence::OnlineUser| {
                let username = app.store.user(u.user_id)?.map(|u| u.username);
                let (connections, connected_since, last_activity) = (u.connections, u.since, u.last_activity);
                Ok(Online { user_id: u.user_id, username, connections, connected_since, last_activity })
            };
            Ok((users.into_iter().map(view).collect::<Result<Vec<_>, ApiError>>()?, more))
        })
        .await?;
    Reply::page(&views, views.last().map(|u| u.user_id.0), more)
}
