//! From HTTP to a [`Call`] and back: the one place where credentials are looked at and rules applied.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use salvo::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use salvo::http::{ParseError, Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};
use tokio::time::timeout;

use super::call::{Call, Reply};
use super::{Route, Verb};
use crate::app::App;
use crate::auth::credential::bearer;
use crate::auth::{Actor, Caller};
use crate::error::ApiError;

/// How long a whole body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Serves one route of the table.
pub(super) struct Endpoint {
    pub(super) app: Arc<App>,
    pub(super) route: &'static Route,
}

#[async_trait]
impl salvo::Handler for Endpoint {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        match self.answer(req).await {
            Ok(reply) => reply.render(res),
            Err(error) => error.render(res),
        }
        harden(res);
    }
}

/// Answers are data of one caller: not to be kept, not to be guessed at.
fn harden(res: &mut Response) {
    let headers = res.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

impl Endpoint {
    async fn answer(&self, req: &mut Request) -> Result<Reply, ApiError> {
        let mut caller = self.authorise(req)?; // before anything of the body is read
        let id = match req.param::<String>("id") {
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.parse().map_err(|_| ApiError::NotFound("page"))?),
            Some(_) => return Err(ApiError::NotFound("page")),
            None => None,
        };
        let body = match self.route.verb {
            Verb::Get | Verb::Delete => Bytes::new(),
            Verb::Post | Verb::Put | Verb::Patch => {
                let body = timeout(BODY_DEADLINE, self.body(req)).await.map_err(|_| ApiError::BodyTooSlow)??;
                // Again: a body can take its time, and the caller may have lost every right meanwhile.
                caller = self.authorise(req)?;
                body
            }
        };
        let query = req.queries().iter_all().flat_map(|(k, all)| all.iter().map(move |v| (k.clone(), v.clone()))).collect();
        let address = req.remote_addr().ip().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let idempotency_key = req.headers().get("idempotency-key").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        (self.route.run)(Call { app: self.app.clone(), caller, id, address, query, idempotency_key, body }).await
    }

    /// Who calls, when the route's rule lets them.
    fn authorise(&self, req: &Request) -> Result<Option<Caller>, ApiError> {
        if self.route.access.allows(Actor::Anonymous) {
            return Ok(None);
        }
        let header = req.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let secret = header.and_then(bearer).ok_or(ApiError::Unauthorized)?;
        let caller = self.app.auth.authenticate(secret)?;
        if self.route.access.allows(caller.actor()) { Ok(Some(caller)) } else { Err(ApiError::Forbidden) }
    }

    /// The body: JSON, not longer than allowed.
    async fn body(&self, req: &mut Request) -> Result<Bytes, ApiError> {
        let limit = match self.app.config.limits.push_bytes {
            0 => usize::MAX,
            n => n,
        };
        let length = req.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if length.is_some_and(|n| n > limit as u64) {
            return Err(ApiError::TooLarge(limit)); // said before any of it is read
        }
        // One that can't be read is another content type, too.
        let named = req.headers().contains_key(CONTENT_TYPE);
        let json = req.content_type().map_or(!named, |kind| {
            kind.type_() == "application" && (kind.subtype() == "json" || kind.suffix().is_some_and(|s| s == "json"))
        });
        if !json {
            return Err(ApiError::NotJson);
        }
        match req.payload_with_max_size(limit).await {
            Ok(body) => Ok(body.clone()),
            Err(ParseError::PayloadTooLarge) => Err(ApiError::TooLarge(limit)),
            Err(error) => Err(ApiError::InvalidJson(format!("body could not be read: {error}"))),
        }
    }
}

/// Turns Salvo's own errors, unknown paths and methods included, into ours.
pub(super) struct AsJson;

#[async_trait]
impl salvo::Handler for AsJson {
    async fn handle(&self, _: &mut Request, _: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        match res.status_code {
            Some(StatusCode::NOT_FOUND) => ApiError::NotFound("page").render(res),
            Some(StatusCode::METHOD_NOT_ALLOWED) => ApiError::MethodNotAllowed.render(res),
            Some(status) if status.is_client_error() => {
                let what = status.canonical_reason().unwrap_or("bad request").to_lowercase();
                ApiError::Invalid(what).render(res);
                res.status_code(status);
            }
            other => ApiError::internal(format_args!("Salvo answered {other:?}")).render(res),
        }
        harden(res);
        ctrl.skip_rest();
    }
}
