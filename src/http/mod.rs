//! HTTP below the resources: routes, requests, replies, errors, headers.
//!
//! Every route stands in a table together with the actors that may call it and the types of its body and data. A
//! [`Call`](request::Call) is made for a row of such a table and nowhere else, so a handler without access rule can't exist;
//! `tree` finds the row of a request, and `endpoint` is the one place where the rule is applied, before the handler runs.

mod body;
pub mod cross_origin;
mod endpoint;
pub mod error;
mod framing;
pub mod headers;
pub mod host;
pub mod list;
pub mod middleware;
pub mod pages;
pub mod reply;
pub mod request;
mod route;
pub mod spelling;
pub mod stream;
mod tree;
mod unread;

use std::sync::Arc;

use salvo::http::Request;
use salvo::routing::{PathState, Router};

pub use crate::accounts::access::Access;
use crate::app::App;
pub use endpoint::AsJson;
use endpoint::Endpoint;
pub use route::{Route, Verb};
use tree::{Lookup, RouteTree};

/// Builds a table of routes, a row each: method, path, access, a further demand if there is one, handler with the type of its body, type of
/// its `data`.
///
/// The demand is `elevated` where a browser's session must be elevated; or, where services may call the route, the scope that they need:
/// `send`, `broadcast`, `read` or `metrics`, or `any` where each will do.
///
/// A handler is called as `handler(call)` where the row has `()`, and as `handler(call, body)` where it names a type. With `try`
/// before the type, the handler gets a `Result` and may answer something else before it answers that the body is unusable.
macro_rules! routes {
    (@request ()) => { None };
    (@request (try $request:ty)) => { Some(std::any::type_name::<$request>) };
    (@request ($request:ty)) => { Some(std::any::type_name::<$request>) };
    (@scopes send $first:ident) => { Some($crate::store::Scopes::of($crate::store::Scope::Send)) };
    (@scopes broadcast $first:ident) => { Some($crate::store::Scopes::of($crate::store::Scope::Broadcast)) };
    (@scopes read $first:ident) => { Some($crate::store::Scopes::of($crate::store::Scope::Read)) };
    (@scopes metrics $first:ident) => { Some($crate::store::Scopes::of($crate::store::Scope::Metrics)) };
    (@scopes elevated $first:ident) => { None };
    (@scopes any $first:ident) => { Some($crate::store::Scopes::ALL) };
    (@scopes $first:ident) => { None };
    (@elevated elevated $first:ident) => { true };
    (@elevated $($any:ident)+) => { false };
    // Without the word.
    (@run [$word:ident $first:ident $(:: $run:ident)*] $($rest:tt)*) => {
        $crate::http::routes!(@run [$first $(:: $run)*] $($rest)*)
    };
    (@run [$($run:ident)::+] () $call:ident) => { $($run)::+($call).await };
    (@run [$($run:ident)::+] (try $request:ty) $call:ident) => {{
        let body = <$request as $crate::http::request::RequestBody>::read(&$call.body);
        $($run)::+($call, body).await
    }};
    (@run [$($run:ident)::+] ($request:ty) $call:ident) => {
        match <$request as $crate::http::request::RequestBody>::read(&$call.body) {
            Ok(body) => $($run)::+($call, body).await,
            Err(error) => Err(error),
        }
    };
    // A handler's path is `first` and all of `run`; `second` is there where the first identifier is a word in front of it.
    ($($verb:ident $path:literal $access:ident $first:ident $($second:ident)? $(:: $run:ident)*($($request:tt)*) -> $response:ty;)*) => {
        &[$($crate::http::Route {
            verb: $crate::http::Verb::$verb,
            path: $path,
            access: $crate::http::Access::$access,
            elevated: $crate::http::routes!(@elevated $first $($second)?),
            scopes: $crate::http::routes!(@scopes $first $($second)?),
            request: $crate::http::routes!(@request ($($request)*)),
            response: std::any::type_name::<$response>,
            run: |call| Box::pin(async move {
                let reply: Result<$crate::http::reply::Reply<$response>, $crate::http::error::ApiError> =
                    $crate::http::routes!(@run [$first $($second)? $(:: $run)*] ($($request)*) call);
                reply.and_then($crate::http::reply::Payload::encode)
            }),
        }),*]
    };
}

pub(crate) use routes;

/// Returns a router with the routes of tables, which are those of the control socket where `control` is set. It declines paths that
/// the tables don't have.
pub fn mount(app: &Arc<App>, tables: &[&'static [Route]], control: bool) -> Router {
    let mut tree = RouteTree::default();
    for table in tables {
        tree.add(table);
    }
    let find = move |req: &mut Request, path: &mut PathState<'_>| {
        let found = tree.find(req.method().as_str(), req.uri().path());
        if matches!(found, Lookup::Missing) {
            return false;
        }
        req.extensions_mut().insert(found); // taken by the endpoint
        path.forward(usize::MAX); // Salvo calls an endpoint only where filters have read the whole path
        true
    };
    Router::with_filter_fn(find).goal(Endpoint { app: app.clone(), control })
}
