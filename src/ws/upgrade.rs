//! The handshake (RFC 6455 section 4.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use salvo::conn::ConnCtrl;
use salvo::http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::admit::{Admitted, Query, admit, check_rate, header, identify};
use super::run::{Transport, serve};
use super::socket::Socket;
use super::stream::ClientStream;
use crate::admission::Permit;
use crate::app::App;
use crate::auth::credential::{SUBPROTOCOL, offers_subprotocol};
use crate::core::awake::timeout;
use crate::core::ids::UserId;
use crate::http::error::ApiError;
use crate::http::spelling;
use crate::mailbox::JoinError;
use crate::net::peer::Peer;
use crate::session::{End, ended};
use crate::store::StoreError;
use crate::telemetry::metrics::Refused;
use crate::wire::{CloseCode, handshake};

/// The time that a client may take to read the 101.
pub(super) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The `User-Agent` of the client in ESP-IDF. Before 5.1.5, 5.2.3 and 5.3 it discards what arrives together with the 101.
const ESP_USER_AGENT: &str = "ESP32 Websocket Client";
/// The time between the 101 and the first frame for such a client.
const ESP_FIRST_FRAME_DELAY: Duration = Duration::from_millis(200);

/// The handler of the WebSocket routes.
pub struct Connect(pub Arc<App>);

#[async_trait]
impl salvo::Handler for Connect {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        if let Err(error) = connect(&self.0, req, res).await {
            error.refused().inspect(|&why| self.0.metrics.refused.inc(why));
            error.render(res);
        }
    }
}

/// Answers one handshake; the connection's task, if any, has been started when this returns.
async fn connect(app: &Arc<App>, req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
    let accept = accept_key(req.headers())?;
    if app.stopping.is_cancelled() {
        return Err(ApiError::Busy(Refused::Stopping));
    }
    let address = app.admission.client(req);
    let query = Query::of(req);
    let mut found = identify(app, req, &query);
    // Perhaps the credential was made at another node.
    if matches!(found, Err(CloseCode::Unauthorized)) && app.catch_up().await {
        found = identify(app, req, &query);
    }
    check_rate(app, &found, address)?;
    let permit = app.admission.total.try_acquire(());
    let permit = permit.ok_or_else(|| ApiError::BusyFor(Refused::Connections, app.admission.retry_connection()))?;
    let path_user = match req.param::<String>("user_id") {
        Some(text) => Some(text.parse::<UserId>().map_err(|_| ApiError::NotFound("page"))?),
        None => None,
    };
    let admitted = admit(app, &query, path_user, address, found).await?.map(Box::new);

    let peer = Peer::new(req.local_addr().port(), req.remote_addr().clone().into_std());
    let delay = header(req, USER_AGENT).is_some_and(|agent| agent.starts_with(ESP_USER_AGENT));
    let upgrade = switch(req, res, accept, SUBPROTOCOL)?;
    let app = app.clone();
    app.clone().sessions.spawn(async move {
        // The client may be gone before it has read the 101.
        if let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, upgrade).await {
            if delay {
                sleep(ESP_FIRST_FRAME_DELAY).await;
            }
            run(app, upgraded, admitted, permit, address.ip, peer).await;
        }
    });
    Ok(())
}

/// Answers with 101, and with the subprotocol `protocol` where the client offers it: the connection is no longer HTTP from there on.
pub(super) fn switch(
    req: &mut Request,
    res: &mut Response,
    accept: HeaderValue,
    protocol: &'static str,
) -> Result<OnUpgrade, ApiError> {
    let upgrade = req.extensions_mut().remove::<OnUpgrade>().ok_or(ApiError::UpgradeRequired)?;
    if let Some(transport) = req.extensions().get::<ConnCtrl>() {
        transport.relax_timeouts(); // the HTTP timers must not end an idle WebSocket
    }
    let mut offered = req.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let subprotocol = offered.any(|offered| offers_subprotocol(offered, protocol));
    res.status_code(StatusCode::SWITCHING_PROTOCOLS);
    let headers = res.headers_mut();
    // In the order in which Daphne writes them.
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    spelling::apply(res);
    Ok(upgrade)
}

/// Starts the task of an upgraded connection, or closes it at once with the code of its refusal.
async fn run(
    app: Arc<App>,
    upgraded: Upgraded,
    admitted: Result<Box<Admitted>, CloseCode>,
    total: Permit<()>,
    address: IpAddr,
    peer: Peer,
) {
    let socket = {
        let (stream, begun) = ClientStream::new(upgraded);
        Socket::new(stream, &begun, &app.config().limits) // copied: `begun` is all of hyper's buffer
    };
    let refusal = match admitted {
        Ok(admitted) => {
            let Admitted { caller, identity, options, permits } = *admitted;
            let joined = if options.peek { Ok(()) } else { app.mailbox.join(caller.user.id, &options.client).await };
            match joined {
                Ok(()) => {
                    let transport = Transport { socket, peer, permits: (total, permits) };
                    // A task of its own, of the size of what lasts: this one is as large as everything that comes before.
                    app.sessions.spawn(serve(app.clone(), transport, &caller, identity, options));
                    return;
                }
                Err(error) => close_code(&app, &error),
            }
        }
        Err(code) => code,
    };
    Box::pin(refuse(&app, socket, address, refusal)).await; // boxed: it is larger than all the rest, and rare
}

/// Closes a connection that is not admitted.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(app: &App, mut socket: Socket<S>, address: IpAddr, code: CloseCode) {
    tracing::info!(%address, code = code.code(), "refused");
    ended(&app.metrics, code.into());
    socket.finish(End::from(code), |_| ()).await;
}

/// Returns the code with which a connection is closed whose reader could not be added.
fn close_code(app: &App, error: &JoinError) -> CloseCode {
    match error {
        JoinError::TooMany => {
            app.metrics.refused.inc(Refused::ClientsOfUser);
            CloseCode::TooManyClients
        }
        // Deleted since the credential was checked.
        JoinError::Store(StoreError::Missing(_)) => CloseCode::Unauthorized,
        JoinError::Store(error) => {
            tracing::error!(%error, "failed to add a client");
            CloseCode::Internal
        }
    }
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
        return Err(ApiError::Invalid("a WebSocket handshake has no body".into())); // its bytes would be parsed as frames
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(ApiError::Invalid("Sec-WebSocket-Key must be 16 bytes in base64".into()));
    }
    HeaderValue::from_str(&handshake::accept(key)).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn accept_key_matches_rfc_6455_section_1_3() {
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
