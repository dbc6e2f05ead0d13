//! The web page, a console for administrators and users, and the descriptions of the API: files in the binary, nothing from elsewhere.

pub mod files;

use std::sync::Arc;

use salvo::http::header::{ACCEPT, ALLOW, HeaderValue, LOCATION};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, Router, async_trait};

use crate::app::App;
use crate::http::error::ApiError;
use files::File;

/// The page.
const INDEX: &str = "page/index.html";
/// The worker that shows the page without a server. It lies above the other files, since it sees to the requests for what is below it.
const WORKER: &str = "page/worker.js";

/// Adds `/` and `/docs` for clients that accept HTML, if the page is in the binary. Others get [`api`](crate::api)'s reply at `/`, whose
/// routes come after these.
pub fn front(root: Router, app: &Arc<App>) -> Router {
    if File::find(INDEX).is_none() {
        return root;
    }
    let index = || Index(app.clone());
    root.push(at(|req| is_front(req.uri().path()) && wants_html(req)).get(index()).head(index()))
        .push(at(|req| req.uri().path() == "/docs/" && wants_html(req)).get(Unslash).head(Unslash))
}

/// Returns a router for the requests that `applies` to.
fn at(applies: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Router {
    Router::with_filter_fn(move |req, path| {
        let found = applies(req);
        if found {
            path.forward(usize::MAX); // Salvo calls an endpoint only where filters have read the whole path
        }
        found
    })
}

/// Returns whether the page lies at that path. At `/docs` it shows the API.
fn is_front(path: &str) -> bool {
    path == "/" || path == "/docs"
}

fn wants_html(req: &Request) -> bool {
    req.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// The page itself. It names its files relative to itself; where a trusted proxy reports the path that it takes away, with that in front,
/// since the page may have been asked for without the slash at its end.
struct Index(Arc<App>);

#[async_trait]
impl salvo::Handler for Index {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        let Some(index) = File::find(INDEX) else { return };
        match self.0.admission.prefix(req) {
            Some(prefix) => index.send_replaced(req, res, "=\"page/", &format!("=\"{prefix}/page/")),
            None => index.send(req, res),
        }
    }
}

/// Leads from `/docs/`, below which the page would look for its files, to `/docs`; relative, since a proxy may take a path away.
struct Unslash;

#[async_trait]
impl salvo::Handler for Unslash {
    async fn handle(&self, _: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        res.status_code(StatusCode::PERMANENT_REDIRECT);
        res.headers_mut().insert(LOCATION, HeaderValue::from_static("../docs"));
    }
}

/// Adds the files that the page loads, and the descriptions of the API, which are there without the page, too.
pub fn files(root: Router) -> Router {
    root.push(at(|req| part(req.uri().path()).is_some()).get(Part).head(Part).goal(OtherMethod))
}

/// Returns the file at a path; that of a description with or without a slash at its end, as everything below `/api`.
fn part(path: &str) -> Option<File> {
    match path {
        "/worker.js" => File::find(WORKER),
        "/api/openapi.json" | "/api/openapi.json/" | "/api/asyncapi.json" | "/api/asyncapi.json/" => {
            File::find(path.trim_matches('/'))
        }
        _ => File::find(path.strip_prefix('/').filter(|path| path.starts_with("page/"))?),
    }
}

/// What answers the other methods, at the path of a file: Salvo takes such a path for one that does not exist.
struct OtherMethod;

#[async_trait]
impl salvo::Handler for OtherMethod {
    async fn handle(&self, _: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        ApiError::MethodNotAllowed.render(res);
        res.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
}

/// A file at its path.
struct Part;

#[async_trait]
impl salvo::Handler for Part {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        if let Some(file) = part(req.uri().path()) {
            file.send(req, res);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "console")]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        String::from_utf8(File::find(path).unwrap().content()).unwrap()
    }

    #[test]
    fn page_complies_with_its_content_security_policy() {
        let index = text(INDEX);
        for (needle, why) in [
            ("style=", "inline style"),
            ("<style", "inline style"),
            (" on", "inline handler"),
            ("http:", "elsewhere"),
            ("https:", "elsewhere"),
        ] {
            assert!(!index.contains(needle), "{why}");
        }
        assert_eq!(index.matches("<script").count(), index.matches("src=\"page/").count());
        let own = files::tests::paths().filter(|path| path.ends_with(".js") && !path.contains("/vendor/"));
        for path in own {
            let script = text(&path);
            for unsafe_call in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!script.contains(unsafe_call), "{path}: {unsafe_call}");
            }
        }
    }

    #[test]
    fn page_is_below_its_size() {
        let size: usize =
            files::tests::paths().filter(|path| path.starts_with("page/")).map(|path| File::find(&path).unwrap().size()).sum();
        assert!(size < 200_000, "{size} bytes");
    }
}
