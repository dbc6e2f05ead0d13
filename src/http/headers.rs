//! Headers of every response for browsers: no caching, no type sniffing, no foreign content, no frames.

use salvo::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};

/// Scripts, styles, images and connections of this server only; none of it inline.
const CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'",
);
/// HTTPS only for a year. Sent only with a configured certificate: a browser that has received it offers no way around an unknown one.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");
// Constants, since the text of each would be checked again for every response.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const DENY: HeaderValue = HeaderValue::from_static("DENY");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// The headers of every response. A hoop, too.
pub struct Headers {
    /// Sends the header after which browsers use HTTPS only (HSTS).
    pub https_only: bool,
}

impl Headers {
    /// Adds the headers that a response does not have.
    pub fn add(&self, res: &mut Response) {
        if res.status_code == Some(StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let headers = res.headers_mut();
        let mut set = |name: HeaderName, value: HeaderValue| {
            headers.entry(name).or_insert(value);
        };
        set(CACHE_CONTROL, NO_STORE);
        set(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
        set(CONTENT_SECURITY_POLICY, CONTENT_POLICY);
        set(X_FRAME_OPTIONS, DENY);
        set(REFERRER_POLICY, NO_REFERRER);
        if self.https_only {
            set(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
        }
    }
}

#[async_trait]
impl salvo::Handler for Headers {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        ctrl.call_next(req, depot, res).await;
        self.add(res);
    }
}
