//! `/api/devices`: one's own devices; everybody's for administrators. What is not one's own does not exist (404).

use serde::{Deserialize, Deserializer, Serialize};

use super::auth::issue;
use crate::accounts::revocation::device_taken;
use crate::app::App;
use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::core::text::is_plain;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call};
use crate::store::{Device, DeviceChange, NewDevice, Role};
use crate::telemetry::audit::AuditEvent;

/// The longest name, serial or model, and the longest name of anything else that users name, in characters.
const MAX_TEXT_CHARS: usize = 100;
/// How many users can share a device.
const MAX_USERS: usize = 100;

/// A device as its owners see it.
#[derive(Serialize)]
pub struct DeviceView {
    id: DeviceId,
    name: String,
    serial: Option<String>,
    model: Option<String>,
    /// Of the viewer, or, for an administrator who does not have it, of any user.
    primary: bool,
    online: bool,
    last_seen: Option<Timestamp>,
    created_at: Timestamp,
    /// Whom it is bound to.
    user_ids: Vec<UserId>,
}

pub fn view(app: &App, device: Device, viewer: UserId) -> Result<DeviceView, ApiError> {
    let user_ids = app.store.device_users(device.id)?;
    let judges = if user_ids.contains(&viewer) { vec![viewer] } else { user_ids.clone() };
    let mut primary = false;
    for user in judges {
        primary |= app.store.primary_device(user)? == Some(device.id);
    }
    let online = app.hub.presence().device_online(device.id);
    Ok(DeviceView {
        id: device.id,
        name: device.name,
        serial: device.serial,
        model: device.model,
        primary,
        online,
        last_seen: if online { Some(Timestamp::now()) } else { device.last_seen },
        created_at: device.created_at,
        user_ids,
    })
}

/// The path's device, when the caller may see it.
fn device(call: &Call) -> Result<Device, ApiError> {
    let (id, user) = (call.id(DeviceId, "device")?, &call.caller()?.user);
    if user.role != Role::Admin && !call.app.store.owns(user.id, id)? {
        return Err(ApiError::NotFound("device"));
    }
    call.app.store.device(id)?.ok_or(ApiError::NotFound("device"))
}

/// Refuses a given text that is too short, too long, or not what it looks like.
pub fn check_text(field: &str, text: Option<&str>, least: usize) -> Result<(), ApiError> {
    match text {
        Some(t) if !(least..=MAX_TEXT_CHARS).contains(&t.chars().count()) || !is_plain(t) => Err(ApiError::Invalid(format!(
            "{field} must have {least} to {MAX_TEXT_CHARS} characters, no control or invisible ones"
        ))),
        _ => Ok(()),
    }
}

/// The user that is meant: the caller, or, for administrators, whom they name.
pub fn owner(call: &Call, named: Option<BodyUserId>) -> Result<UserId, ApiError> {
    let caller = &call.caller()?.user;
    let owner = named.map_or(caller.id, |id| id.0);
    let allowed = owner == caller.id || caller.role == Role::Admin;
    if allowed && call.app.store.user(owner)?.is_some() { Ok(owner) } else { Err(ApiError::NotFound("user")) }
}

/// `GET /api/devices`; administrators see all, or those of `?user_id=`.
pub async fn list(call: Call) -> Result<Reply, ApiError> {
    let (after, limit) = call.page()?;
    let user = &call.caller()?.user;
    let asked = call.parameter("user_id").map(|text| text.parse().map_err(|_| ApiError::Invalid("user_id must be an id".into())));
    let (viewer, of) = match (user.role, asked.transpose()?) {
        (Role::Admin, asked) => (user.id, asked),
        (Role::User, None) => (user.id, Some(user.id)),
        (Role::User, Some(asked)) if asked == user.id => (user.id, Some(asked)),
        (Role::User, Some(_)) => return Err(ApiError::NotFound("user")),
    };
    let (views, more) = call
        .blocking(move |app| {
            let page = app.store.devices(of, DeviceId(after), limit)?;
            let views = page.items.into_iter().map(|d| view(app, d, of.unwrap_or(viewer))).collect::<Result<Vec<_>, _>>()?;
            Ok((views, page.more))
        })
        .await?;
    Reply::page(&views, views.last().map(|d| d.id.0), more)
}

/// `POST /api/devices {name, serial?, model?, user_id? (administrators), primary?}`: bound to the caller or to `user_id`.
pub async fn create(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: String,
        serial: Option<String>,
        model: Option<String>,
        user_id: Option<BodyUserId>,
        #[serde(default)]
        primary: bool,
    }
    let body: Body = call.json()?;
    check_text("name", Some(&body.name), 1)?;
    check_text("serial", body.serial.as_deref(), 1)?;
    check_text("model", body.model.as_deref(), 0)?;
    let owner = owner(&call, body.user_id)?;
    let new = NewDevice { name: body.name, serial: body.serial, model: body.model, primary: body.primary };
    let device = call.app.store.create_device(new, owner, call.app.config().limits.devices_per_user).await?;
    Reply::created("device created", &view(&call.app, device, owner)?)
}

/// `GET /api/devices/{id}`.
pub async fn show(call: Call) -> Result<Reply, ApiError> {
    let device = device(&call)?;
    Reply::data("ok", &view(&call.app, device, call.caller()?.user.id)?)
}

/// Tells `null` (take it away) from absent (leave it).
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PATCH /api/devices/{id} {name?, serial?, model?, primary?, user_ids? (administrators)}`: `user_ids` are all the users it
/// shall be bound to.
pub async fn change(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: Option<String>,
        #[serde(default, deserialize_with = "nullable")]
        serial: Option<Option<String>>,
        #[serde(default, deserialize_with = "nullable")]
        model: Option<Option<String>>,
        primary: Option<bool>,
        user_ids: Option<Vec<BodyUserId>>,
    }
    let (id, body): (DeviceId, Body) = (device(&call)?.id, call.json()?);
    let (app, caller) = (&call.app, &call.caller()?.user);
    check_text("name", body.name.as_deref(), 1)?;
    check_text("serial", body.serial.as_ref().and_then(Option::as_deref), 1)?;
    check_text("model", body.model.as_ref().and_then(Option::as_deref), 0)?;
    if let Some(users) = &body.user_ids {
        if caller.role != Role::Admin {
            return Err(ApiError::Forbidden);
        }
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(ApiError::Invalid(format!("user_ids must hold 1 to {MAX_USERS} ids; DELETE removes the device")));
        }
        for user in users {
            app.store.user(user.0)?.ok_or(ApiError::NotFound("user"))?;
        }
    }
    let users: Option<Vec<UserId>> = body.user_ids.map(|users| users.into_iter().map(|id| id.0).collect());
    // Before anything is changed: one's primary device is one of one's own.
    let owns = match &users {
        Some(users) => users.contains(&caller.id),
        None => app.store.owns(caller.id, id)?,
    };
    if body.primary.is_some() && !owns {
        return Err(ApiError::Invalid("primary: the device is not bound to you; PUT its primary with a user_id".into()));
    }
    let before = app.store.device_users(id)?;
    let what = DeviceChange { name: body.name, serial: body.serial, model: body.model, users };
    let device = app.store.change_device(id, what).await?;
    let after = app.store.device_users(id)?;
    let handed_on = !before.iter().any(|user| after.contains(user));
    if before != after {
        call.audit(AuditEvent::DeviceBound(id));
    }
    for user in before.into_iter().filter(|user| !after.contains(user)) {
        device_taken(app, user, id)?; // first: nobody hears what is not for them any more
    }
    if handed_on {
        app.mailbox.remove(Recipient::Device(id)).await?; // the new owners get the device, not the old ones' mail
    }
    if let Some(primary) = body.primary {
        app.store.set_primary(caller.id, id, primary).await?;
    }
    Reply::data("device changed", &view(app, device, caller.id)?)
}

/// `DELETE /api/devices/{id}`: takes it from the caller; the last owner, or an administrator, removes it altogether.
pub async fn delete(call: Call) -> Result<Reply, ApiError> {
    let (id, caller) = (device(&call)?.id, &call.caller()?.user);
    let leaving = if caller.role == Role::Admin {
        let users = call.app.store.device_users(id)?;
        call.app.store.delete_device(id).await?;
        users
    } else {
        call.app.store.unbind_device(caller.id, id).await?;
        vec![caller.id]
    };
    for user in leaving {
        device_taken(&call.app, user, id)?;
    }
    call.audit(AuditEvent::DeviceDeleted(id));
    if call.app.store.device(id)?.is_none() {
        call.app.mailbox.remove(Recipient::Device(id)).await?;
    }
    Ok(Reply::done("device deleted"))
}

/// `PUT /api/devices/{id}/primary`: of the caller, or of `{user_id}` for administrators. Takes effect at the next connection.
pub async fn make_primary(call: Call) -> Result<Reply, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        user_id: Option<BodyUserId>,
    }
    let (device, body): (Device, Body) = (device(&call)?, call.json_or_empty()?);
    let user = owner(&call, body.user_id)?;
    call.app.store.set_primary(user, device.id, true).await?;
    Reply::data("primary device set", &view(&call.app, device, user)?)
}

/// `POST /api/devices/{id}/token {label?, expires_in?}`: a token that reaches only this device's WebSocket. It belongs to the
/// caller, or, where an administrator does not have the device, to the first who has.
pub async fn create_token(call: Call) -> Result<Reply, ApiError> {
    let (device, body) = (device(&call)?.id, call.json_or_empty()?);
    let (users, caller) = (call.app.store.device_users(device)?, call.caller()?.user.id);
    let owner = users.iter().copied().find(|&user| user == caller).or(users.first().copied());
    issue(&call, body, owner.ok_or(ApiError::NotFound("device"))?, Some(device)).await
}
