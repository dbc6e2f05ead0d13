//! What a node knows of its cluster.

use crate::cluster::node::NodeStatus;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::http::{Route, routes};

/// The routes of the control socket that only programs for several nodes have.
pub(super) static ROUTES: &[Route] = routes! {
    Get "/control/cluster" ADMINS status() -> NodeStatus;
};

/// `GET /control/cluster`.
async fn status(call: Call) -> Result<Reply<NodeStatus>, ApiError> {
    match &call.app.cluster {
        Some(view) => Ok(Reply::ok("ok", view.status().await)),
        None => Err(ApiError::NotFound("cluster")),
    }
}
