//! What every answer says to browsers: keep nothing, guess nothing, load nothing from elsewhere, show it in no frame.

use salvo::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, async_trait};

/// Scripts, styles, pictures and connections of our own only; none of it inline.
const POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'";
/// HTTPS only for a year: said only with a certificate that others vouch for, since a browser that has heard it offers no way
/// around one that it does not know.
const HTTPS_ONLY: &str = "max-age=31536000";

/// Goes around every request.
pub struct Headers {
    /// Whether to ask for HTTPS from now on.
    pub https_only: bool,
}

#[async_trait]
impl salvo::Handler for Headers {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        ctrl.call_next(req, depot, res).await;
        if res.status_code == Some(StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let headers = res.headers_mut();
        let mut say = |name: HeaderName, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        say(CACHE_CONTROL, "no-store");
        say(X_CONTENT_TYPE_OPTIONS, "nosniff");
        say(CONTENT_SECURITY_POLICY, POLICY);
        say(X_FRAME_OPTIONS, "DENY");
        say(REFERRER_POLICY, "no-referrer");
        if self.https_only {
            say(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
        }
    }
}
