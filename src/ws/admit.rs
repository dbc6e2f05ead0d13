//! The checks of a handshake: credential, device, permits.

use std::borrow::Cow;
use std::time::Instant;

use salvo::http::Request;
use salvo::http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};

use crate::admission::{AddressPermit, Permit};
use crate::app::App;
use crate::auth::credential::Places;
use crate::auth::{AuthError, Caller, Credential};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, UserId};
use crate::http::error::ApiError;
use crate::hub::Identity;
use crate::mailbox::Since;
use crate::net::client_addr::ClientAddr;
use crate::session::Options;
use crate::store::{MIN_MAX_BYTES, Scope, Scopes, TokenKind};
use crate::telemetry::metrics::Refused;
use crate::wire::CloseCode;

/// The error of a malformed name of a client.
const WRONG_CLIENT: &str = "client must be 1 to 64 of A-Z a-z 0-9 . _ -";

/// A connection that has passed all checks.
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) identity: Identity,
    pub(super) options: Options,
    /// Held until the connection has ended.
    pub(super) permits: (AddressPermit, Permit<UserId>),
}

/// The parameters of a handshake's query. Salvo's are a map of lists, which takes longer to make than all that is looked up in it.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Parses it.
    pub(super) fn of(req: &'a Request) -> Self {
        Self(req.uri().query().map_or_else(Vec::new, |query| form_urlencoded::parse(query.as_bytes()).collect()))
    }

    /// The first value of a parameter, decoded.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// A caller with its credential, or the close code of the refusal.
pub(super) type Found = Result<(Caller, Credential), CloseCode>;

/// Counts a handshake: with a good credential, for its user and its address; without one, only for its address. So nobody uses up
/// what those with a good one have.
///
/// # Errors
/// [`ApiError::TooMany`].
pub(super) fn check_rate(app: &App, found: &Found, address: ClientAddr) -> Result<(), ApiError> {
    let checked = match found {
        Ok((caller, _)) => app.admission.known_connects.check(caller.user.id, &address.into()),
        Err(_) => app.admission.connects.check_after_sleep(&address.into()),
    };
    checked.map_err(|wait| ApiError::TooMany(Refused::ConnectsRate, wait))
}

/// Checks a handshake whose credential was looked at, and takes its permits.
///
/// # Errors
/// The outer error is an HTTP answer, the inner one the code with which the upgraded connection is closed.
pub(super) async fn admit(
    app: &App,
    query: &Query<'_>,
    path_user: Option<UserId>,
    address: ClientAddr,
    found: Found,
) -> Result<Result<Admitted, CloseCode>, ApiError> {
    let mut options = options(query)?;
    let checked = found.and_then(|(caller, credential)| {
        if !caller.token.allows(Scopes::of(Scope::Read)) {
            tracing::debug!(user = caller.user.id.0, token = caller.token.id.0, "a service without the scope read connected");
            return Err(CloseCode::Unauthorized);
        }
        let device = device(app, &caller, path_user)?;
        Ok((caller, credential, device))
    });
    let (caller, credential, device) = match checked {
        Ok(found) => found,
        Err(code) => {
            // A client that takes `onopen` for success would return for ever: beyond so many a minute, its handshakes fail.
            if matches!(code, CloseCode::Unauthorized | CloseCode::WrongUser) {
                let too_many = |wait| ApiError::TooMany(Refused::RefusalsRate, wait);
                app.admission.refusals.check(&address.into(), Instant::now()).map_err(too_many)?;
            }
            match code {
                CloseCode::Unauthorized => app.metrics.refused.inc(Refused::Unauthorized),
                CloseCode::WrongUser => app.metrics.refused.inc(Refused::WrongUser),
                CloseCode::NoDevice => app.metrics.refused.inc(Refused::NoDevice),
                _ => {} // an internal error
            }
            return Ok(Err(code));
        }
    };
    if let Some(device) = caller.token.device_id {
        options.client = ClientName::of_device(device); // whatever name it asks for
    }
    let full = |which| {
        app.metrics.refused.inc(which);
        Ok(Err(CloseCode::ConnectionLimit))
    };
    let Some(of_address) = app.admission.by_address.try_acquire(address.into()) else {
        return full(Refused::ConnectionsOfAddress);
    };
    let Some(of_user) = app.admission.by_user.try_acquire(caller.user.id) else { return full(Refused::ConnectionsOfUser) };
    match app.auth.use_up(&credential).await {
        Ok(true) => {}
        Ok(false) => {
            app.metrics.refused.inc(Refused::Unauthorized);
            return Ok(Err(CloseCode::Unauthorized));
        }
        Err(error) => return Ok(Err(internal(&error))),
    }
    let identity = Identity {
        user_id: caller.user.id,
        device_id: device,
        receives_for: device,
        token_id: caller.token.id,
        address: address.ip,
    };
    Ok(Ok(Admitted { caller, identity, options, permits: (of_address, of_user) }))
}

/// Returns the close code after a failure that is not the client's.
pub(super) fn internal(error: &dyn std::fmt::Display) -> CloseCode {
    tracing::error!(%error, "failed to check a credential");
    CloseCode::Internal
}

/// Returns the caller of a handshake. That costs a hash and two look-ups, less than refusing it.
pub(super) fn identify(app: &App, req: &Request, query: &Query<'_>) -> Found {
    let path_token = req.param::<String>("token");
    let protocols: Vec<&str> = req.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok()).collect();
    let protocols = protocols.join(",");
    let places = Places {
        query_token: query.get("token"),
        path_token: path_token.as_deref(),
        authorization: header(req, AUTHORIZATION),
        protocols: Some(&protocols).filter(|p| !p.is_empty()).map(String::as_str),
        query_ticket: query.get("ticket"),
    };
    let credential = places.credential().ok_or(CloseCode::Unauthorized)?;
    let caller = app.auth.identify(&credential).map_err(|error| match error {
        AuthError::Refused => CloseCode::Unauthorized,
        other => internal(&other),
    })?;
    Ok((caller, credential))
}

/// Returns the device that a caller stands for, or the close code of the refusal.
fn device(app: &App, caller: &Caller, path_user: Option<UserId>) -> Result<Option<DeviceId>, CloseCode> {
    if path_user.is_some_and(|id| id != caller.user.id) {
        return Err(CloseCode::WrongUser);
    }
    let device = match caller.token.kind {
        TokenKind::Device => caller.token.device_id,
        TokenKind::User | TokenKind::Service => app.store.primary_device(caller.user.id).map_err(|e| internal(&e))?,
    };
    if device.is_none() {
        if app.config().server.require_device {
            return Err(CloseCode::NoDevice);
        }
        tracing::debug!(user = caller.user.id.0, "connected without a device"); // allowed, as in the guide
    }
    Ok(device)
}

/// Returns the options in the query.
///
/// # Errors
/// [`ApiError::Invalid`] where one is malformed; but a malformed `since` is no position in the log: its client starts at the cursor
/// and is told that it has not recovered.
fn options(query: &Query<'_>) -> Result<Options, ApiError> {
    let name = |text: &str| ClientName::chosen(text).ok_or_else(|| ApiError::Invalid(WRONG_CLIENT.into()));
    let client = query.get("client").map_or_else(|| Ok(ClientName::default()), name)?;
    let max = |text: &str| {
        let max = text.parse().ok().filter(|&max| max >= MIN_MAX_BYTES);
        max.ok_or_else(|| ApiError::Invalid(format!("max_bytes must be a number of at least {MIN_MAX_BYTES}")))
    };
    Ok(Options {
        client,
        peek: query.get("peek") == Some("1"),
        max_bytes: query.get("max_bytes").map(max).transpose()?,
        since: query.get("since").map(Since::parse),
        client_acks: query.get("ack") == Some("client"),
    })
}

/// Returns the text of a header, if it has one.
pub(super) fn header(req: &Request, name: HeaderName) -> Option<&str> {
    req.headers().get(name).and_then(|v| v.to_str().ok())
}
