//! `/api/devices/pair` and `/api/devices/claim`: pairing of devices without a keyboard (see [`change`](crate::change)).

use serde::{Deserialize, Serialize};

use super::devices::DeviceResponse;
use crate::accounts::PairingProgress;
use crate::auth::pairings::POLL_SECONDS;
use crate::change::PAIRING_SECONDS;
use crate::core::ids::UserId;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{BodyUserId, Call, RequestBody, parse_or_default};
use crate::store::DeviceInfo;

/// Body of `POST /api/devices/pair`; may be empty. Either a description of the device, or its device code.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    device_code: Option<String>,
    name: Option<String>,
    serial: Option<String>,
    model: Option<String>,
}

impl RequestBody for PairRequest {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        parse_or_default(body)
    }
}

/// The state of a pairing.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum PairResponse {
    /// Started.
    Started {
        /// The secret to poll with.
        device_code: String,
        /// The code to show.
        code: String,
        /// In seconds.
        expires_in: u64,
        /// The least time between polls, in seconds.
        interval: u64,
    },
    /// Not claimed yet.
    Pending {
        /// `pending`.
        state: &'static str,
        /// In seconds.
        expires_in: u64,
        /// The least time between polls, in seconds.
        interval: u64,
    },
    /// Claimed.
    Paired {
        /// `paired`.
        state: &'static str,
        /// The device's token, this once.
        token: String,
        /// The owner.
        user_id: UserId,
        /// The device as its owner sees it.
        device: Box<DeviceResponse>,
    },
}

/// `POST /api/devices/pair`: starts a pairing; with `device_code`, polls it.
pub async fn pair(call: Call, body: PairRequest) -> Result<Reply<PairResponse>, ApiError> {
    let PairRequest { device_code, name, serial, model } = body;
    let info = DeviceInfo { name, serial, model };
    match device_code {
        Some(_) if info != DeviceInfo::default() => {
            Err(ApiError::Invalid("device_code: send only device_code to poll a pairing".into()))
        }
        Some(device_code) => poll(&call, &device_code).await,
        None => start(&call, info).await,
    }
}

async fn start(call: &Call, info: DeviceInfo) -> Result<Reply<PairResponse>, ApiError> {
    let started = call.app.accounts().start_pairing(&call.by(), info).await?;
    let (device_code, code) = (started.device_code.reveal().to_owned(), started.user_code);
    let data = PairResponse::Started { device_code, code, expires_in: PAIRING_SECONDS, interval: POLL_SECONDS };
    // Where it is polled: its number is a secret.
    Ok(Reply::created("show the code", data, "/api/devices/pair"))
}

async fn poll(call: &Call, device_code: &str) -> Result<Reply<PairResponse>, ApiError> {
    match call.app.accounts().poll_pairing(&call.by(), device_code).await? {
        PairingProgress::Pending(expires_in) => {
            let data = PairResponse::Pending { state: "pending", expires_in, interval: POLL_SECONDS };
            Ok(Reply::ok("nobody has claimed it yet", data))
        }
        PairingProgress::Paired { secret, user, device } => {
            let token = secret.reveal();
            let device = Box::new(DeviceResponse::new(&call.app, device, user)?);
            let data = PairResponse::Paired { state: "paired", token: token.to_owned(), user_id: user, device };
            Ok(Reply::ok("paired", data).with_token(token))
        }
    }
}

/// Body of `POST /api/devices/claim`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    code: String,
    name: Option<String>,
    /// Where it is absent, the device becomes primary if it is the only one of its user.
    primary: Option<bool>,
    /// For administrators: the user who gets the device, instead of the caller.
    user_id: Option<BodyUserId>,
}

impl RequestBody for ClaimRequest {}

/// `POST /api/devices/claim`: the device that shows the code becomes the caller's, or that user's.
pub async fn claim(call: Call, body: ClaimRequest) -> Result<Reply<DeviceResponse>, ApiError> {
    let ClaimRequest { code, name, primary, user_id } = body;
    let (accounts, user) = (call.app.accounts(), user_id.map(|id| id.0));
    let claimed = accounts.claim_device(&call.by(), &code, name, primary, user).await?;
    DeviceResponse::bound_reply(&call, "device claimed", claimed)
}
