//! HTTP below the resources: routes and their rules, requests, replies, errors, headers.
//!
//! Every route stands in a table together with who may call it. Routers are built from such tables and nothing else, so a route
//! without a rule can't exist; `endpoint` is the one place where the rule is applied, before a handler runs.

mod access;
pub mod count;
pub mod cross_origin;
mod endpoint;
pub mod error;
pub mod headers;
pub mod reply;
pub mod request;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use salvo::Router;

use crate::app::App;
pub use access::Access;
pub use endpoint::AsJson;
use endpoint::Endpoint;
use error::ApiError;
use reply::Reply;
use request::Call;

/// The HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Also answers HEAD.
    Get,
    /// Create or do.
    Post,
    /// Set.
    Put,
    /// Change some fields.
    Patch,
    /// Remove.
    Delete,
}

impl Verb {
    /// The method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What runs a call.
pub type Run = fn(Call) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// One route: what, where, for whom.
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path; `{id}` stands for a decimal id, `{name}` for any text. A trailing slash is optional.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Runs a call.
    pub run: Run,
}

/// Builds a table of routes: method, path, access, handler.
macro_rules! routes {
    ($($verb:ident $path:literal $access:ident $run:path;)*) => {
        &[$($crate::http::Route { verb: $crate::http::Verb::$verb, path: $path, access: $crate::http::Access::$access, run: |call| Box::pin($run(call)) }),*]
    };
}

pub(crate) use routes;

/// Adds the routes of a table.
pub fn mount(mut root: Router, app: &Arc<App>, table: &'static [Route], control: bool) -> Router {
    let mut paths: Vec<&str> = table.iter().map(|r| r.path).collect();
    paths.dedup();
    for path in paths {
        // Salvo wants no path for the root; a router without filters matches where the path has ended.
        let mut router = if path == "/" { Router::new() } else { Router::with_path(path) };
        for route in table.iter().filter(|r| r.path == path) {
            let endpoint = || Endpoint { app: app.clone(), route, control };
            router = match route.verb {
                Verb::Get => router.get(endpoint()).head(endpoint()),
                Verb::Post => router.post(endpoint()),
                Verb::Put => router.put(endpoint()),
                Verb::Patch => router.patch(endpoint()),
                Verb::Delete => router.delete(endpoint()),
            };
        }
        root = root.push(router);
    }
    root
}
