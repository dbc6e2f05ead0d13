//! The service of the main listener: the tables of routes that it serves, and the layers around every request.

use std::sync::Arc;

use salvo::catcher::Catcher;
use salvo::{Router, Service};

use crate::api;
use crate::app::App;
use crate::http::cross_origin::CrossOrigin;
use crate::http::headers::Headers;
use crate::http::middleware::Middleware;
use crate::http::{AsJson, mount};
use crate::web;
use crate::ws::Connect;

/// The paths of the WebSocket (PROTOCOL section 2); each answers GET with an upgrade.
pub const WEBSOCKET_PATHS: [&str; 3] = ["/ws/device", "/ws/device/token/{token}", "/ws/device/{user_id:num}"];

/// Returns the service of the main listener: the REST API, the WebSocket, the page, and JSON errors for every other path.
pub fn service(app: &Arc<App>) -> Service {
    // In the order in which they are tried for each request.
    let mut root = web::front(Router::new(), app).push(mount(app, &[api::ROUTES], false));
    for path in WEBSOCKET_PATHS {
        root = root.push(Router::with_path(path).get(Connect(app.clone())));
    }
    #[cfg(feature = "echo")]
    {
        root = root.push(Router::with_path(crate::ws::ECHO_PATH).get(crate::ws::Echo(app.clone())));
    }
    let middleware = Middleware {
        app: app.clone(),
        cross_origin: CrossOrigin::new(app.clone()),
        headers: Headers { https_only: app.config().tls.cert.is_some() },
    };
    Service::new(web::files(web::documents(root))).catcher(Catcher::default().hoop(AsJson)).hoop(middleware)
}
