//! Counts and times every request, whatever handles it.

use std::sync::Arc;
use std::time::Instant;

use salvo::http::{Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use crate::telemetry::metrics::{Metrics, Route};

/// A hoop around every request. A request that no handler has answered is 404 in the end.
pub struct Count(pub Arc<Metrics>);

#[async_trait]
impl salvo::Handler for Count {
    async fn handle(&self, req: &mut Request, depot: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        let (route, began) = (Route::of(req.uri().path()), Instant::now());
        ctrl.call_next(req, depot, res).await;
        let status = res.status_code.map_or(404, |status| status.as_u16());
        self.0.http.record_response(route, status, began.elapsed());
    }
}
