//! From HTTP to a [`Call`] and back: the one place that authenticates the callers of routes and applies access rules.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::poll;
use salvo::http::header::{ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::pages::{self, PageOrigin};
use super::reply::Answer;
use super::request::Call;
use super::route::{Route, Verb};
use super::tree::{Lookup, Match, Parameter};
use super::{body, framing};
use crate::admission::bodies::Holder;
use crate::admission::sockets;
use crate::app::App;
use crate::auth::credential::bearer;
use crate::auth::{Actor, Caller, cookies};
use crate::core::awake::timeout;
use crate::http::error::ApiError;
use crate::store::Scopes;
use crate::telemetry::metrics::Refused;

/// The length of a body, in bytes, that the control socket takes in any case: the command line sends records in parts of half of it.
const MIN_CONTROL_BYTES: usize = 64 << 10;

/// Carries the second secret of cookies, without which a page can change nothing.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// Serves the routes of tables, each request the one that was found for it.
pub struct Endpoint {
    pub app: Arc<App>,
    /// True on the control socket, whose every client is the owner of the data directory.
    pub control: bool,
}

#[async_trait]
impl salvo::Handler for Endpoint {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        let Match { route, parameter } = match req.extensions_mut().remove() {
            Some(Lookup::Found(found)) => found,
            Some(Lookup::OtherMethods(verbs)) => return render_other_methods(&verbs, res),
            Some(Lookup::Missing) | None => return ApiError::NotFound("page").render(res),
        };
        // At `debug`: a span costs a twelfth of a push, and few lines below it are on at `info`.
        let span = tracing::debug_span!(
            "request",
            method = %req.method(),
            path = %redacted(req.uri().path()),
            route = route.path,
            user = Empty,
            token = Empty,
        );
        match self.answer(req, route, parameter).instrument(span).await {
            Ok(answer) => answer.render(res),
            Err(error) => {
                error.refused().inspect(|&why| self.app.metrics.refused.inc(why));
                if let ApiError::Internal(id) = &error {
                    tracing::error!(%id, method = %req.method(), route = route.path, "request answered with 500");
                }
                error.render(res);
            }
        }
    }
}

/// Writes the response to a request for a path that has routes for these methods only.
fn render_other_methods(verbs: &[Verb], res: &mut Response) {
    let get = verbs.contains(&Verb::Get).then_some("HEAD");
    let mut names: Vec<_> = verbs.iter().map(|verb| verb.name()).chain(get).collect();
    names.sort_unstable();
    ApiError::MethodNotAllowed.render(res);
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        res.headers_mut().insert(ALLOW, names);
    }
}

/// Replaces the secrets in a path by `…`: somebody may have put one where none belongs.
fn redacted(path: &str) -> Cow<'_, str> {
    let secret = |part: &str| ["qlt_", "qlx_", "qlp_", "qll_"].iter().any(|prefix| part.contains(prefix));
    if !secret(path) {
        return Cow::Borrowed(path);
    }
    let parts: Vec<&str> = path.split('/').map(|part| if secret(part) { "…" } else { part }).collect();
    Cow::Owned(parts.join("/"))
}

/// A caller and, where a browser page sent it in a cookie, the token.
struct Authorized {
    caller: Caller,
    cookie: Option<String>,
}

impl Endpoint {
    async fn answer(&self, req: &mut Request, route: &'static Route, parameter: Parameter) -> Result<Answer, ApiError> {
        let rights = self.app.auth.rights();
        let mut who = match self.authorize(req, route) {
            // Perhaps the token was made at another node.
            Err(ApiError::Unauthorized) if self.app.catch_up().await => self.authorize(req, route)?,
            authorized => authorized?, // before any of the body is read
        };
        self.record(who.as_ref());
        self.count(who.as_ref())?;
        let (id, name) = match parameter {
            Parameter::None => (None, None),
            Parameter::Id(Some(id)) => (Some(id), None),
            Parameter::Id(None) => return Err(ApiError::NotFound("page")),
            Parameter::Name(name) => (None, Some(name)),
        };
        let body = match route.verb {
            Verb::Get | Verb::Delete => Bytes::new(),
            Verb::Post | Verb::Put | Verb::Patch => {
                let body = self.receive(req, who.as_ref()).await?;
                // A body can take its time, and the caller may have lost every right meanwhile.
                if who.as_ref().is_some_and(|who| !self.app.auth.unchanged(&who.caller, rights)) {
                    who = self.authorize(req, route)?;
                }
                body
            }
        };
        let query = match req.uri().query() {
            Some(_) => req.queries().iter_all().flat_map(|(k, all)| all.iter().map(move |v| (k.clone(), v.clone()))).collect(),
            None => Vec::new(),
        };
        let (address, encrypted) = (self.app.admission.client(req), self.app.admission.encrypted(req));
        let foreign_page = self.foreign_page(req);
        let (caller, cookie) = who.map_or((None, None), |who| (Some(who.caller), who.cookie));
        let idempotency_key = req.headers().get("idempotency-key").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let app = self.app.clone();
        let user = caller.as_ref().map(|caller| caller.user.id);
        let call = Call { app, caller, cookie, id, name, address, encrypted, foreign_page, query, idempotency_key, body };
        let answer = self.run(route, call).await?.below(|| if self.control { None } else { self.app.admission.prefix(req) });
        match answer.with_room(&self.app.admission.answers, user).await {
            Err(_) if route.verb == Verb::Get => Err(ApiError::NO_ROOM),
            // What has been changed is not answered with a refusal.
            Ok(answer) | Err(answer) => Ok(answer),
        }
    }

    /// Makes a call. On several nodes, what is not found here may have been made at another one: it is looked for again then.
    async fn run(&self, route: &'static Route, call: Call) -> Result<Answer, ApiError> {
        if !self.app.is_node() {
            return (route.run)(call).await;
        }
        // Log-ins and the like: before, so that it is no matter of what is there.
        if route.access.allows(Actor::Anonymous) && route.verb == Verb::Post {
            self.app.catch_up().await;
        }
        match (route.run)(call.clone()).await {
            Err(ApiError::NotFound(_)) if self.app.catch_up().await => (route.run)(call).await,
            answer => answer,
        }
    }

    /// Returns the caller, where the route's rule permits it; `None` where the route needs no credential.
    fn authorize(&self, req: &Request, route: &Route) -> Result<Option<Authorized>, ApiError> {
        if route.access.allows(Actor::Anonymous) {
            return Ok(None);
        }
        if self.control {
            return Ok(Some(Authorized { caller: Caller::operator(), cookie: None }));
        }
        let header = |name: HeaderName| req.headers().get(name).and_then(|v| v.to_str().ok());
        let who = match header(AUTHORIZATION) {
            Some(authorization) => {
                let secret = bearer(authorization).ok_or(ApiError::Unauthorized)?;
                Authorized { caller: self.app.auth.authenticate(secret)?, cookie: None }
            }
            None => {
                let encrypted = self.app.admission.encrypted(req);
                let secret = header(COOKIE).and_then(|header| cookies::token(header, encrypted)).ok_or(ApiError::Unauthorized)?;
                let caller = self.app.auth.authenticate(&secret)?;
                // Browsers send the cookie with any page's requests, so the page must be one of this server's.
                if let Some(page) = self.foreign_page(req) {
                    return Err(pages::cookie_of_another(&page));
                }
                let given = header(CSRF).unwrap_or_default();
                if route.verb != Verb::Get && !cookies::csrf_fits(&secret, given) {
                    return Err(ApiError::Csrf);
                }
                Authorized { caller, cookie: Some(secret) }
            }
        };
        if !route.access.allows(who.caller.actor()) {
            tracing::debug!(user = who.caller.user.id.0, actor = ?who.caller.actor(), "route refused");
            return Err(ApiError::Forbidden);
        }
        let scopes = route.scopes.unwrap_or(Scopes::NONE);
        if !who.caller.token.allows(scopes) {
            return Err(ApiError::ScopeMissing(scopes));
        }
        // Somebody may sit at a browser that was left logged in; a program's token is not left anywhere.
        if route.elevated && who.cookie.is_some() && !self.app.is_elevated(&who.caller) {
            return Err(ApiError::ElevationRequired);
        }
        Ok(Some(who))
    }

    /// Returns the words for the origin of the page that a request comes from; `None` for a page of this server, and for no page. An
    /// origin that no page has is not this server's.
    fn foreign_page(&self, req: &Request) -> Option<String> {
        let host = req.headers().get(HOST).and_then(|v| v.to_str().ok());
        let origin = PageOrigin::of(req.headers());
        let is_own = || self.app.admission.origins().is_own(origin.text(), host, self.app.admission.encrypted(req));
        (origin == PageOrigin::Program || !is_own()).then(|| origin.described())
    }

    /// Adds the caller to the request's span.
    fn record(&self, who: Option<&Authorized>) {
        if let Some(Authorized { caller, .. }) = who {
            let span = Span::current();
            span.record("user", display(caller.user.id)).record("token", display(caller.token.id));
            tracing::debug!(actor = ?caller.actor(), "request authorized");
        }
    }

    /// Counts a call against its user's rate limit: one by token would be as high as its user can make tokens.
    fn count(&self, who: Option<&Authorized>) -> Result<(), ApiError> {
        let Some(Authorized { caller, .. }) = who.filter(|who| !who.caller.is_operator()) else { return Ok(()) };
        let admission = &self.app.admission;
        let rate = if caller.actor().is_privileged() { &admission.trusted_requests } else { &admission.requests };
        rate.check(&caller.user.id).map_err(|wait| ApiError::TooMany(Refused::RequestsRate, wait))
    }

    /// Reads the body in time. While the rest of it is awaited, the connection may make room for others.
    async fn receive(&self, req: &mut Request, who: Option<&Authorized>) -> Result<Bytes, ApiError> {
        let deadline = Duration::from_secs(self.app.config().limits.body_seconds.into());
        let socket = sockets::key_of(req);
        let mut receiving = pin!(timeout(deadline, self.body(req, who)));
        let received = match poll!(receiving.as_mut()) {
            Poll::Ready(received) => received,
            Poll::Pending => {
                let _waits = self.app.admission.gate.receive(socket);
                receiving.await
            }
        };
        received.map_err(|_| ApiError::BodyTooSlow)?
    }

    /// Reads the body: JSON, not longer than allowed.
    async fn body(&self, req: &mut Request, who: Option<&Authorized>) -> Result<Bytes, ApiError> {
        let limit = match self.app.config().limits.push_bytes {
            0 => self.app.admission.bodies.limit(),
            n if self.control => n.max(MIN_CONTROL_BYTES),
            n => n,
        };
        let length = req.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if length.is_some_and(|n| n > limit as u64) {
            return Err(ApiError::TooLarge(limit)); // before any of it is read
        }
        framing::check_coding(req.headers())?;
        // A content type that can't be parsed is another one, too. A page has to name it: a browser sends a body without one, or with
        // some others, to any server without asking it.
        let headers = req.headers();
        let named = || headers.contains_key(CONTENT_TYPE) || (pages::is_page(headers) && pages::has_body(headers));
        let usual = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json"); // without parsing it
        let json = || {
            req.content_type().map_or_else(
                || !named(),
                |kind| kind.type_() == "application" && (kind.subtype() == "json" || kind.suffix().is_some_and(|s| s == "json")),
            )
        };
        if !usual && !json() {
            return Err(ApiError::NotJson);
        }
        let holder = match who {
            Some(Authorized { caller, .. }) => Holder::User(caller.user.id),
            None => Holder::Address(self.app.admission.client(req).into()),
        };
        let length = length.and_then(|n| usize::try_from(n).ok());
        let body = body::read(req.body_mut(), length, limit, &self.app.admission.bodies, &holder).await?;
        drop(req.take_body()); // one in chunks does not know that it has ended
        Ok(body)
    }
}

/// Renders Salvo's own errors, unknown paths and methods included, as JSON.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_in_the_span_shows_no_secret() {
        assert_eq!(redacted("/api/users/7"), "/api/users/7");
        assert_eq!(redacted("/api/weather/qlt_secret/x"), "/api/weather/…/x");
        assert_eq!(redacted("/a%20qlx_secret"), "/…");
    }
}
