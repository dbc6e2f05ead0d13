//! The handshake (RFC 6455 section 4.2) and the decision whether a connection may live.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use salvo::conn::ConnCtrl;
use salvo::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use salvo::http::{Request, Response, StatusCode};
use salvo::rt::tokio::TokioIo;
use salvo::{Depot, FlowCtrl, async_trait};
use sha1::{Digest, Sha1};

use tokio::time::timeout;

use super::count;
use super::run::{Wish, serve};
use super::socket::{End, Socket};
use crate::admission::{NetKey, Permit};
use crate::app::App;
use crate::auth::credential::{Places, SUBPROTOCOL, offers_subprotocol};
use crate::auth::{AuthError, Caller};
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::http::error::ApiError;
use crate::hub::presence::Identity;
use crate::store::TokenKind;
use crate::telemetry::metrics::Refused;
use crate::wire::CloseCode;

/// What RFC 6455 section 1.3 appends to the key.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How long the client may take to read the 101.
const SWITCH: Duration = Duration::from_secs(10);

/// Answers the WebSocket routes.
pub struct Connect(pub Arc<App>);

#[async_trait]
impl salvo::Handler for Connect {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        if let Err(error) = connect(&self.0, req, res) {
            error.refused().inspect(|&why| self.0.metrics.refused.inc(why));
            error.render(res);
        }
    }
}

/// A connection that may live: who, for which device, and the seats it holds.
struct Admitted {
    caller: Caller,
    device: Option<DeviceId>,
    wish: Wish,
    _seats: (Permit<NetKey>, Permit<UserId>),
}

/// Answers one handshake; the session, if any, is on its way when this returns.
fn connect(app: &Arc<App>, req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
    let accept = accept_key(req.headers())?;
    if app.stopping.is_cancelled() {
        return Err(ApiError::Busy(Refused::Stopping));
    }
    // An origin that can't be read, or two of them, are none that is listed; only its absence lets a program through.
    let origin = match req.headers().get_all(ORIGIN).iter().collect::<Vec<_>>()[..] {
        [] => None,
        [one] => Some(one.to_str().unwrap_or_default()),
        _ => Some(""),
    };
    if !app.admission.origins().allow(origin, header(req, HOST)) {
        return Err(ApiError::ForeignOrigin);
    }
    let address = app.admission.client(req);
    app.admission.connects.check(&address.into()).map_err(|wait| ApiError::TooMany(Refused::ConnectsRate, wait))?;
    let seat = app.admission.total.try_acquire(()).ok_or(ApiError::Busy(Refused::Connections))?;
    let path_user = match req.param::<String>("user_id") {
        Some(text) => Some(text.parse::<UserId>().map_err(|_| ApiError::NotFound("page"))?),
        None => None,
    };
    let admitted = admit(app, req, path_user, address)?;

    let upgrade = switch(req, res, accept)?;
    let app = app.clone();
    app.clone().sessions.spawn(async move {
        let _seat = seat;
        // The client may be gone before it has read the 101.
        if let Ok(Ok(upgraded)) = timeout(SWITCH, upgrade).await {
            session(app, upgraded, admitted, address).await;
        }
    });
    Ok(())
}

/// Answers with 101: what follows is no HTTP any more.
pub(super) fn switch(req: &mut Request, res: &mut Response, accept: HeaderValue) -> Result<OnUpgrade, ApiError> {
    let upgrade = req.extensions_mut().remove::<OnUpgrade>().ok_or(ApiError::UpgradeRequired)?;
    if let Some(transport) = req.extensions().get::<ConnCtrl>() {
        transport.relax_timeouts(); // the HTTP timers must not end a quiet WebSocket
    }
    let subprotocol =
        req.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok()).any(offers_subprotocol);
    res.status_code(StatusCode::SWITCHING_PROTOCOLS);
    let headers = res.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(upgrade)
}

/// Runs an upgraded connection to its end, or says at once why it may not live.
async fn session(app: Arc<App>, upgraded: Upgraded, admitted: Result<Admitted, CloseCode>, address: IpAddr) {
    let socket = Socket::new(TokioIo::new(upgraded), &app.config().limits).await;
    match admitted {
        Ok(Admitted { caller, device, wish, _seats }) => {
            let identity =
                Identity { user_id: caller.user.id, device_id: device, hears: device, token_id: caller.token.id, address };
            serve(app.clone(), socket, caller, identity, wish).await;
        }
        Err(code) => {
            tracing::info!(%address, code = code.code(), "refused");
            count::ended(&app.metrics, code.into());
            socket.finish(End::from(code)).await;
        }
    }
}

/// Who comes and whether there is room. The outer error is an HTTP answer, the inner one a close code.
fn admit(app: &App, req: &Request, path_user: Option<UserId>, address: IpAddr) -> Result<Result<Admitted, CloseCode>, ApiError> {
    let (caller, device) = match recognise(app, req, path_user) {
        Ok(found) => found,
        Err(code) => {
            // Beyond so many a minute, a client that takes `onopen` for success would come back for ever: no more handshakes.
            if matches!(code, CloseCode::Unauthorized | CloseCode::WrongUser) {
                let too_many = |wait| ApiError::TooMany(Refused::RefusalsRate, wait);
                app.admission.refusals.check(&address.into(), Instant::now()).map_err(too_many)?;
            }
            match code {
                CloseCode::Unauthorized => app.metrics.refused.inc(Refused::Unauthorized),
                CloseCode::WrongUser => app.metrics.refused.inc(Refused::WrongUser),
                CloseCode::NoDevice => app.metrics.refused.inc(Refused::NoDevice),
                _ => {} // a failure of ours
            }
            return Ok(Err(code));
        }
    };
    let full = |which| {
        app.metrics.refused.inc(which);
        Ok(Err(CloseCode::ConnectionLimit))
    };
    let Some(of_address) = app.admission.by_address.try_acquire(address.into()) else {
        return full(Refused::ConnectionsOfAddress);
    };
    let Some(of_user) = app.admission.by_user.try_acquire(caller.user.id) else { return full(Refused::ConnectionsOfUser) };
    Ok(Ok(Admitted { caller, device, wish: wish(req), _seats: (of_address, of_user) }))
}

/// The caller and the device it stands for, or the close code that says why not.
fn recognise(app: &App, req: &Request, path_user: Option<UserId>) -> Result<(Caller, Option<DeviceId>), CloseCode> {
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a credential could not be checked");
        CloseCode::Internal
    };
    let (query_token, path_token) = (req.query::<String>("token"), req.param::<String>("token"));
    let query_ticket = req.query::<String>("ticket");
    let protocols: Vec<&str> = req.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok()).collect();
    let protocols = protocols.join(",");
    let places = Places {
        query_token: query_token.as_deref(),
        path_token: path_token.as_deref(),
        authorization: header(req, AUTHORIZATION),
        protocols: Some(&protocols).filter(|p| !p.is_empty()).map(String::as_str),
        query_ticket: query_ticket.as_deref(),
    };
    let credential = places.credential().ok_or(CloseCode::Unauthorized)?;
    let caller = app.auth.identify(&credential).map_err(|error| match error {
        AuthError::Refused => CloseCode::Unauthorized,
        other => internal(&other),
    })?;
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
        tracing::warn!(user = %caller.user.id, "connected without a device"); // as the guide does
    }
    Ok((caller, device))
}

/// The optional query parameters.
fn wish(req: &Request) -> Wish {
    // What is no id is no place in the log: the client is told that it has not recovered, and starts at the cursor.
    let since = req.query::<String>("since").map(|text| text.parse().unwrap_or(MessageId(u64::MAX)));
    Wish { since, client_acks: req.query::<String>("ack").is_some_and(|ack| ack == "client") }
}

/// A header's text.
fn header(req: &Request, name: HeaderName) -> Option<&str> {
    req.headers().get(name).and_then(|v| v.to_str().ok())
}

/// Checks the handshake's headers and computes `Sec-WebSocket-Accept`.
pub(super) fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let has = |name: HeaderName, token: &str| {
        let mut parts = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        parts.any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") || !has(SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiError::UpgradeRequired);
    }
    if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|v| v != "0") {
        return Err(ApiError::Invalid("a WebSocket handshake has no body".into())); // its bytes would be read as frames
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(ApiError::Invalid("Sec-WebSocket-Key must be 16 bytes in base64".into()));
    }
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn the_key_of_rfc_6455_section_1_3() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(accept_key(&headers(&good)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for missing in 0..3 {
            let mut some = good.to_vec();
            some.remove(missing);
            assert!(matches!(accept_key(&headers(&some)), Err(ApiError::UpgradeRequired)));
        }
        for key in ["", "x", "AAAA", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE="] {
            let mut some = good.to_vec();
            some[3].1 = key;
            assert!(matches!(accept_key(&headers(&some)), Err(ApiError::Invalid(_))), "{key}");
        }
    }
}
