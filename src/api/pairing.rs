//! `/api/devices/pair` and `/api/devices/claim`: how a device without a keyboard gets its token (see
//! [`auth::pairing`](crate::accounts::pairing)).

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::devices::{DeviceView, check_text, owner, view};
use crate::accounts::pairing::{About, PAIRING_SECONDS, POLL_SECONDS, PairingError, Polled};
use crate::accounts::revocation::close_stale;
use crate::core::ids::{DeviceId, UserId};
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call};
use crate::store::{Authority, Device, DeviceChange, NewDevice, NewToken, TokenKind};
use crate::telemetry::audit::{self, AuditEvent};
use crate::telemetry::metrics::Refused;

/// `POST /api/devices/pair {name?, serial?, model?}` begins; `{device_code}` asks how it stands.
pub async fn pair(call: Call) -> Result<Reply, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        device_code: Option<String>,
        name: Option<String>,
        serial: Option<String>,
        model: Option<String>,
    }
    let body: Body = call.json_or_empty()?;
    let about = About { name: body.name, serial: body.serial, model: body.model };
    match body.device_code {
        Some(_) if about != About::default() => {
            Err(ApiError::Invalid("device_code: to ask how a pairing stands, send nothing else".into()))
        }
        Some(device_code) => ask(&call, &device_code).await,
        None => begin(&call, about),
    }
}

fn begin(call: &Call, about: About) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Begun<'a> {
        device_code: &'a str,
        code: &'a str,
        expires_in: u64,
        interval: u64,
    }
    check_text("name", about.name.as_deref(), 1)?;
    check_text("serial", about.serial.as_deref(), 1)?;
    check_text("model", about.model.as_deref(), 0)?;
    let too_many = |wait| ApiError::TooMany(Refused::PairingsRate, wait);
    call.app.admission.pairings.check(&call.address.into()).map_err(too_many)?;
    let begun = call.app.pairings.begin(about, Instant::now())?;
    call.audit(AuditEvent::PairingBegun);
    let (device_code, code) = (begun.device_code.reveal(), begun.code.as_str());
    Reply::created("show the code", &Begun { device_code, code, expires_in: PAIRING_SECONDS, interval: POLL_SECONDS })
}

/// How a pairing stands; the token, once it is claimed.
async fn ask(call: &Call, device_code: &str) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Pending {
        state: &'static str,
        expires_in: u64,
        interval: u64,
    }
    #[derive(Serialize)]
    struct Paired<'a> {
        state: &'static str,
        token: &'a str,
        user_id: UserId,
        device: DeviceView,
    }
    // A device code can't be guessed; who tries all the same is counted like who shows a wrong credential.
    let polled = call.app.pairings.poll(device_code, Instant::now());
    if matches!(polled, Err(PairingError::Unknown)) {
        let too_many = |wait| ApiError::TooMany(Refused::RefusalsRate, wait);
        call.app.admission.refusals.check(&call.address.into(), Instant::now()).map_err(too_many)?;
    }
    let handout = match polled? {
        Polled::Pending(left) => {
            let pending = Pending { state: "pending", expires_in: left.as_secs(), interval: POLL_SECONDS };
            return Reply::data("nobody has claimed it yet", &pending);
        }
        Polled::Claimed(handout) => handout,
    };
    let user = handout.user;
    let (secret, record) = match token(call, user, handout.device).await {
        Ok(made) => {
            handout.done();
            made
        }
        // The device or its owner has gone meanwhile: there is nothing to come back for.
        Err(ApiError::NotFound(_)) => {
            handout.done();
            return Err(ApiError::PairingOver);
        }
        Err(error) => return Err(error),
    };
    let token = secret.reveal();
    let view = Paired { state: "paired", token, user_id: user, device: view(&call.app, record, user)? };
    Ok(Reply::data("paired", &view)?.with_token(token))
}

/// Makes the device's token; those that it had before from the same user end.
async fn token(call: &Call, user: UserId, device: DeviceId) -> Result<(crate::auth::Secret, Device), ApiError> {
    let app = &call.app;
    let record = app.store.device(device)?.ok_or(ApiError::NotFound("device"))?;
    if app.store.revoke_device_tokens(user, device).await? > 0 {
        close_stale(app, user)?;
    }
    let (kind, device_id, label) = (TokenKind::Device, Some(device), "pairing".to_owned());
    let new = |hash| NewToken {
        user_id: user,
        device_id,
        kind,
        label,
        expires_at: None,
        hash,
        make_room: false,
        because: Authority::System,
    };
    let issued = app.auth.issue(new).await?;
    audit::record(AuditEvent::PairingDone(device, issued.token.id), Some(user), Some(call.address));
    Ok((issued.secret, record))
}

/// `POST /api/devices/claim {code, name?, primary?, user_id? (administrators)}`: the device that shows the code becomes the
/// caller's, or that user's.
pub async fn claim(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        code: String,
        name: Option<String>,
        #[serde(default)]
        primary: bool,
        user_id: Option<BodyUserId>,
    }
    let body: Body = call.json()?;
    check_text("name", body.name.as_deref(), 1)?;
    let user = owner(&call, body.user_id)?;
    let claim = call.app.pairings.claim(&body.code, call.caller()?.user.id, Instant::now()).map_err(|error| {
        call.audit_refusal(AuditEvent::PairingFailed);
        match error {
            PairingError::Unknown => ApiError::NotFound("code"),
            other => other.into(),
        }
    })?;
    let device = adopt(&call, claim.about(), user, body.name, body.primary).await?;
    claim.succeed(user, device.id);
    call.audit(AuditEvent::PairingClaimed(device.id));
    Reply::created("device claimed", &view(&call.app, device, user)?)
}

/// The device's record: the one that `user` has of it, by its serial, or a new one.
async fn adopt(call: &Call, about: &About, user: UserId, name: Option<String>, primary: bool) -> Result<Device, ApiError> {
    let store = &call.app.store;
    let known = match &about.serial {
        Some(serial) => store.device_by_serial(serial)?,
        None => None,
    };
    match known {
        Some(known) if store.owns(user, known.id)? => {
            let what = DeviceChange { name, model: about.model.clone().map(Some), ..DeviceChange::default() };
            let device = store.change_device(known.id, what).await?;
            if primary {
                store.set_primary(user, device.id, true).await?;
            }
            Ok(device)
        }
        _ => {
            let name = name.or_else(|| about.name.clone()).unwrap_or_else(|| "device".into());
            let new = NewDevice { name, serial: about.serial.clone(), model: about.model.clone(), primary };
            Ok(store.create_device(new, user, call.app.config().limits.devices_per_user).await?)
        }
    }
}
