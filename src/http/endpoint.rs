//! From HTTP to a [`Call`] and back: the one place where credentials are looked at and rules applied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use salvo::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN};
use salvo::http::{ParseError, Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};
use tokio::time::timeout;

use super::reply::Reply;
use super::request::Call;
use super::{Route, Verb};
use crate::app::App;
use crate::auth::credential::bearer;
use crate::auth::{Actor, Caller, cookies};
use crate::http::error::ApiError;
use crate::telemetry::metrics::Refused;

/// Carries what a page of ours must know to change anything.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// Serves one route of the table.
pub struct Endpoint {
    pub app: Arc<App>,
    pub route: &'static Route,
    /// Whether this is the console: whoever reaches it is the owner of the data directory.
    pub control: bool,
}

#[async_trait]
impl salvo::Handler for Endpoint {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        match self.answer(req).await {
            Ok(reply) => reply.render(res),
            Err(error) => {
                error.refused().inspect(|&why| self.app.metrics.refused.inc(why));
                error.render(res);
            }
        }
    }
}

/// A caller and, where a browser page brought it in a cookie, the token.
struct Recognised {
    caller: Caller,
    cookie: Option<String>,
}

impl Endpoint {
    async fn answer(&self, req: &mut Request) -> Result<Reply, ApiError> {
        let mut who = self.authorise(req)?; // before anything of the body is read
        self.count(who.as_ref())?;
        let id = match req.param::<String>("id") {
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.parse().map_err(|_| ApiError::NotFound("page"))?),
            Some(_) => return Err(ApiError::NotFound("page")),
            None => None,
        };
        let body = match self.route.verb {
            Verb::Get | Verb::Delete => Bytes::new(),
            Verb::Post | Verb::Put | Verb::Patch => {
                let deadline = Duration::from_secs(self.app.config().limits.body_seconds.into());
                let body = timeout(deadline, self.body(req)).await.map_err(|_| ApiError::BodyTooSlow)??;
                // Again: a body can take its time, and the caller may have lost every right meanwhile.
                who = self.authorise(req)?;
                body
            }
        };
        let query = req.queries().iter_all().flat_map(|(k, all)| all.iter().map(move |v| (k.clone(), v.clone()))).collect();
        let (address, encrypted) = (self.app.admission.client(req), self.app.admission.encrypted(req));
        let own_origin = self.own_origin(req);
        let (caller, cookie) = who.map_or((None, None), |who| (Some(who.caller), who.cookie));
        let idempotency_key = req.headers().get("idempotency-key").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let (app, name) = (self.app.clone(), req.param::<String>("name"));
        (self.route.run)(Call { app, caller, cookie, id, name, address, encrypted, own_origin, query, idempotency_key, body })
            .await
    }

    /// Who calls, when the route's rule lets them.
    fn authorise(&self, req: &Request) -> Result<Option<Recognised>, ApiError> {
        if self.route.access.allows(Actor::Anonymous) {
            return Ok(None);
        }
        if self.control {
            return Ok(Some(Recognised { caller: Caller::operator(), cookie: None }));
        }
        let header = |name: HeaderName| req.headers().get(name).and_then(|v| v.to_str().ok());
        let who = match header(AUTHORIZATION) {
            Some(authorization) => {
                let secret = bearer(authorization).ok_or(ApiError::Unauthorized)?;
                Recognised { caller: self.app.auth.authenticate(secret)?, cookie: None }
            }
            None => {
                let encrypted = self.app.admission.encrypted(req);
                let secret = header(COOKIE).and_then(|header| cookies::token(header, encrypted)).ok_or(ApiError::Unauthorized)?;
                let caller = self.app.auth.authenticate(&secret)?;
                // The browser sends its cookie whoever asks it to: so who asks must be a page of ours.
                if !self.own_origin(req) {
                    return Err(ApiError::ForeignOrigin);
                }
                let given = header(CSRF).unwrap_or_default();
                if self.route.verb != Verb::Get && !cookies::csrf_fits(&secret, given) {
                    return Err(ApiError::Csrf);
                }
                Recognised { caller, cookie: Some(secret) }
            }
        };
        if self.route.access.allows(who.caller.actor()) { Ok(Some(who)) } else { Err(ApiError::Forbidden) }
    }

    /// Whether the request comes from a page of ours, or from no page.
    fn own_origin(&self, req: &Request) -> bool {
        let header = |name: HeaderName| req.headers().get(name).and_then(|v| v.to_str().ok());
        let several = req.headers().get_all(ORIGIN).iter().count() > 1;
        let origin = req.headers().get(ORIGIN).map(|v| v.to_str().unwrap_or_default());
        !several && self.app.admission.origins().is_own(origin, header(HOST), self.app.admission.encrypted(req))
    }

    /// Counts a call with a token.
    fn count(&self, who: Option<&Recognised>) -> Result<(), ApiError> {
        let Some(Recognised { caller, .. }) = who.filter(|who| !who.caller.is_operator()) else { return Ok(()) };
        let rate = match caller.actor() {
            Actor::Admin | Actor::Service => &self.app.admission.trusted_requests,
            Actor::User | Actor::Device | Actor::Anonymous => &self.app.admission.requests,
        };
        rate.check(&caller.token.id).map_err(|wait| ApiError::TooMany(Refused::RequestsRate, wait))
    }

    /// The body: JSON, not longer than allowed.
    async fn body(&self, req: &mut Request) -> Result<Bytes, ApiError> {
        let limit = match self.app.config().limits.push_bytes {
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
pub struct AsJson;

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
        ctrl.skip_rest();
    }
}
