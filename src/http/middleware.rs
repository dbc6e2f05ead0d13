//! What happens around every request of the main listener.

use std::sync::Arc;
use std::time::Instant;

use salvo::http::{Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use super::cross_origin::CrossOrigin;
use super::error::ApiError;
use super::headers::Headers;
use super::{framing, host, pages, unread};
use crate::admission::sockets;
use crate::app::App;
use crate::telemetry::metrics::{Refused, Route};

/// The paths that are answered while this node's copy of the cluster's data is too old to serve anybody.
const WHILE_STALE: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Counts and times each request, whatever handles it, refuses those without a proper `Host` and those of foreign pages, lets scripts of
/// other origins in, and adds the headers of responses. One hoop for all of it: each costs an allocation a request, and a call whenever
/// the handler is polled.
pub struct Middleware {
    /// Admission and counts.
    pub app: Arc<App>,
    /// CORS.
    pub cross_origin: CrossOrigin,
    /// Headers of responses.
    pub headers: Headers,
}

impl Middleware {
    /// Checks what does not depend on the route.
    fn check(&self, req: &Request) -> Result<(), ApiError> {
        if self.app.is_stale() && !WHILE_STALE.contains(&req.uri().path()) {
            return Err(ApiError::Busy(Refused::Busy));
        }
        host::check(req)?;
        pages::check(req, &self.app.admission)?;
        framing::check(req)
    }
}

#[async_trait]
impl salvo::Handler for Middleware {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        let (route, began) = (Route::of(req.uri().path()), Instant::now());
        let (mut answering, checked) = match self.app.admission.gate.answer(req) {
            Ok(answering) => (answering, self.check(req)),
            Err(_) => (None, Err(ApiError::Busy(Refused::Sockets))),
        };
        match checked {
            Ok(()) => {
                self.cross_origin.handle(req, depot, res, ctrl).await;
                ctrl.call_next(req, depot, res).await;
            }
            Err(error) => {
                pages::count(&error, &self.app.metrics);
                error.render(res);
                ctrl.skip_rest();
            }
        }
        self.headers.add(res);
        // A request that no handler has answered is 404 in the end.
        let status = res.status_code.map_or(404, |status| status.as_u16());
        self.app.metrics.http.record_response(route, status, began.elapsed());
        let read_all = unread::is_read(req) || {
            let _waits = self.app.admission.gate.receive(sockets::key_of(req));
            Box::pin(unread::finish(req, res)).await // apart, since few requests need it
        };
        if let Some(answering) = &mut answering {
            answering.read_all = read_all;
        }
    }
}
