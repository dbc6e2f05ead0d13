//! CORS: the rights of scripts in pages of listed origins.

use std::sync::Arc;

use salvo::cors::{AllowOrigin, Cors, CorsHandler};
use salvo::http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN};
use salvo::http::{Method, Request, Response};
use salvo::{Depot, FlowCtrl, Handler};

use crate::app::App;

/// Request headers that they may send.
const REQUEST_HEADERS: [&str; 3] = ["authorization", "content-type", "idempotency-key"];
/// Response headers that they may read.
const RESPONSE_HEADERS: [&str; 2] = ["location", "retry-after"];
/// The methods that they may use.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The CORS of the main listener; does nothing while no origin is listed.
pub struct CrossOrigin {
    app: Arc<App>,
    cors: CorsHandler,
}

impl CrossOrigin {
    /// Creates it, for the origins that are listed at the time of a request.
    pub fn new(app: Arc<App>) -> Self {
        let server = app.clone();
        let listed = AllowOrigin::dynamic(move |origin, _, _| {
            origin.filter(|origin| origin.to_str().is_ok_and(|origin| server.admission.origins().lists(origin))).cloned()
        });
        // Without credentials: another origin's page has a token of its own, never this server's cookie.
        let cors = Cors::new().allow_origin(listed).allow_methods(METHODS.to_vec()).allow_headers(REQUEST_HEADERS.to_vec());
        Self { app, cors: cors.expose_headers(RESPONSE_HEADERS.to_vec()).max_age(600).into_handler() }
    }

    /// Handles a request as a hoop does. A preflight request gets its response here, whatever the path.
    pub async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        if self.app.admission.origins().lists_none() {
            return;
        }
        if is_preflight(req) {
            ctrl.skip_rest(); // Salvo's handler would run the others first
        }
        self.cors.handle(req, depot, res, ctrl).await;
    }
}

/// Returns whether a browser asks for the rights of a page (Fetch standard, section 3.3.2).
fn is_preflight(req: &Request) -> bool {
    let has = |name: HeaderName| req.headers().contains_key(name);
    req.method() == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}
