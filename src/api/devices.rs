//! `/api/devices`: one's own devices; all of them for administrators. Devices of others do not exist (404).

use serde::{Deserialize, Deserializer, Serialize};

use super::auth::{CreateTokenRequest, CreatedTokenResponse};
use crate::accounts::policy::{Action, Relation};
use crate::accounts::{BoundDevice, PatchDevice};
use crate::app::App;
use crate::core::ids::{DeviceId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Place};
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call, RequestBody, parse_or_default};
use crate::store::{Device, NewDevice, SLOT_SECONDS, Slot, StoreError};

/// A device as its users see it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeviceResponse {
    id: DeviceId,
    name: String,
    serial: Option<String>,
    model: Option<String>,
    /// The longest payload that it accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u32>,
    /// Of the viewer, or, for an administrator who does not have it, of any user.
    primary: bool,
    online: bool,
    last_seen: Option<Timestamp>,
    created_at: Timestamp,
    /// The users that it is bound to.
    user_ids: Vec<UserId>,
}

impl DeviceResponse {
    /// Returns `device` as `viewer` sees it.
    pub fn new(app: &App, device: Device, viewer: UserId) -> Result<Self, ApiError> {
        let user_ids = app.store.device_users(device.id)?;
        let asked = if user_ids.contains(&viewer) { vec![viewer] } else { user_ids.clone() };
        let mut primary = false;
        for user in asked {
            primary |= app.store.primary_device(user)? == Some(device.id);
        }
        let online = app.hub.presence().device_online(device.id);
        // In this order: a connection that has just ended has noted its time before it left.
        let last_seen = if online { Some(Timestamp::now()) } else { app.auth.device_seen(&device) };
        Ok(Self {
            id: device.id,
            name: device.name,
            serial: device.serial,
            model: device.model,
            max_bytes: device.max_bytes,
            primary,
            online,
            last_seen,
            created_at: device.created_at,
            user_ids,
        })
    }

    /// Returns a device as the user that it was bound to sees it.
    pub fn bound(app: &App, BoundDevice { device, user }: BoundDevice) -> Result<Self, ApiError> {
        Self::new(app, device, user)
    }

    /// Returns the reply to a call that has created a device, or given one to that user.
    pub fn bound_reply(call: &Call, message: &str, made: BoundDevice) -> Result<Reply<Self>, ApiError> {
        let device = Self::bound(&call.app, made)?;
        let location = format!("/api/devices/{}", device.id);
        Ok(Reply::created(message, device, location))
    }
}

/// Returns the path's device, where the caller manages it.
fn managed(call: &Call) -> Result<Device, ApiError> {
    Ok(call.app.accounts().device(&call.by(), Action::ManageDevice, call.id(DeviceId, "device")?)?)
}

/// `GET /api/devices`; administrators see all, or those of `?user_id=`.
pub async fn list(call: Call) -> Result<Reply<List<DeviceResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    let (by, accounts, viewer) = (call.by(), call.app.accounts(), call.caller()?.user.id);
    let of = match call.asked_user()? {
        Some(asked) => {
            accounts.permit(&by, Action::ActForUser, by.requester().to_user(asked), "user")?;
            Some(asked)
        }
        None if accounts.permit(&by, Action::ActForUser, Relation::Everyone, "user").is_ok() => None,
        None => Some(viewer),
    };
    call.list(limit, move |app, page| {
        let item = |device: Result<Device, StoreError>| {
            let device = device?;
            Ok((Place::Id(device.id.0), DeviceResponse::new(app, device, of.unwrap_or(viewer))?))
        };
        match of {
            Some(user) => page.fill(app.store.devices_of(user, DeviceId(after)).map(item)),
            None => page.fill(app.store.devices(DeviceId(after)).map(item)),
        }
    })
    .await
}

/// Body of `POST /api/devices`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateDeviceRequest {
    name: String,
    serial: Option<String>,
    model: Option<String>,
    /// For administrators: the user that it is bound to, instead of the caller.
    user_id: Option<BodyUserId>,
    #[serde(default)]
    primary: bool,
    /// At least 1024.
    max_bytes: Option<u32>,
}

impl RequestBody for CreateDeviceRequest {}

/// `POST /api/devices`.
pub async fn create(call: Call, body: CreateDeviceRequest) -> Result<Reply<DeviceResponse>, ApiError> {
    let CreateDeviceRequest { name, serial, model, user_id, primary, max_bytes } = body;
    let new = NewDevice { name, serial, model, primary, max_bytes };
    let made = call.app.accounts().create_device(&call.by(), new, user_id.map(|id| id.0)).await?;
    DeviceResponse::bound_reply(&call, "device created", made)
}

/// `GET /api/devices/{id}`.
pub async fn show(call: Call) -> Result<Reply<DeviceResponse>, ApiError> {
    let device = managed(&call)?;
    Ok(Reply::ok("ok", DeviceResponse::new(&call.app, device, call.caller()?.user.id)?))
}

/// The online times of a device in the last day.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PresenceResponse {
    /// The length of a slot.
    slot_seconds: u64,
    /// The beginning of the first slot.
    from: Timestamp,
    /// For each slot, in order, 1 where the device was online in it. The last one is the present one.
    slots: Vec<u8>,
}

/// `GET /api/devices/{id}/presence`: the slots of the last day in which the device was online.
pub async fn presence(call: Call) -> Result<Reply<PresenceResponse>, ApiError> {
    let (device, now) = (managed(&call)?.id, Timestamp::now());
    let online = call.blocking(move |app| Ok(app.history.presence(device, now))).await?;
    let mut slots: Vec<u8> = online.into_iter().map(u8::from).collect();
    if let Some(last) = slots.last_mut()
        && call.app.hub.presence().device_seen(device)
    {
        *last = 1;
    }
    let first = Slot::of(now).before(slots.len() as u64 - 1).begin();
    let from = Timestamp::from_unix_micros(i64::try_from(first).unwrap_or(0).saturating_mul(1_000_000));
    Ok(Reply::ok("ok", PresenceResponse { slot_seconds: SLOT_SECONDS, from, slots }))
}

/// Body of `PATCH /api/devices/{id}`; absent fields stay as they are.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeDeviceRequest {
    name: Option<String>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "nullable")]
    serial: Option<Option<String>>,
    /// `null` removes it.
    #[serde(default, deserialize_with = "nullable")]
    model: Option<Option<String>>,
    /// At least 1024; `null` removes it.
    #[serde(default, deserialize_with = "nullable")]
    max_bytes: Option<Option<u32>>,
    primary: Option<bool>,
    /// For administrators: all the users that it is bound to.
    user_ids: Option<Vec<BodyUserId>>,
}

impl RequestBody for ChangeDeviceRequest {}

/// Distinguishes `null` (remove it) from absent (leave it).
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PATCH /api/devices/{id}`.
pub async fn change(call: Call, body: Result<ChangeDeviceRequest, ApiError>) -> Result<Reply<DeviceResponse>, ApiError> {
    let id = managed(&call)?.id; // a device of others does not exist, whatever the body
    let ChangeDeviceRequest { name, serial, model, max_bytes, primary, user_ids } = body?;
    let users = user_ids.map(|ids| ids.into_iter().map(|id| id.0).collect());
    let patch = PatchDevice { name, serial, model, max_bytes, primary, users };
    let device = call.app.accounts().change_device(&call.by(), id, patch).await?;
    Ok(Reply::ok("device changed", DeviceResponse::new(&call.app, device, call.caller()?.user.id)?))
}

/// `DELETE /api/devices/{id}`: unbinds it from the caller; the last user, or an administrator, deletes it altogether.
pub async fn delete(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.accounts().delete_device(&call.by(), call.id(DeviceId, "device")?).await?;
    Ok(Reply::done("device deleted"))
}

/// Body of `PUT /api/devices/{id}/primary`; may be empty.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetPrimaryRequest {
    /// For administrators: the user whose primary device it becomes, instead of the caller.
    user_id: Option<BodyUserId>,
}

impl RequestBody for SetPrimaryRequest {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        parse_or_default(body)
    }
}

/// `PUT /api/devices/{id}/primary`. Takes effect at the next connection.
pub async fn make_primary(call: Call, body: Result<SetPrimaryRequest, ApiError>) -> Result<Reply<DeviceResponse>, ApiError> {
    let (id, body) = (managed(&call)?.id, body?);
    let made = call.app.accounts().set_primary(&call.by(), id, body.user_id.map(|id| id.0)).await?;
    Ok(Reply::ok("primary device set", DeviceResponse::bound(&call.app, made)?))
}

/// `POST /api/devices/{id}/token`: a token that reaches only this device's WebSocket.
pub async fn create_token(
    call: Call,
    body: Result<CreateTokenRequest, ApiError>,
) -> Result<Reply<CreatedTokenResponse>, ApiError> {
    let (id, body) = (managed(&call)?.id, body?);
    let issued = call.app.accounts().create_device_token(&call.by(), id, body.into()).await?;
    Ok(CreatedTokenResponse::from(issued).reply())
}
