//! The web page: log in, claim a device by its code, list one's devices. Files in the binary, nothing from elsewhere.

mod documents;

use std::borrow::Cow;
use std::sync::Arc;

use salvo::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, Router, async_trait};
use sha2::{Digest, Sha256};

pub use documents::documents;

use crate::app::App;
use crate::core::hex::hex;
use crate::http::spelling;

/// A file of the page.
#[derive(Clone, Copy)]
struct File {
    kind: &'static str,
    content: &'static str,
}

const INDEX: File = File { kind: "text/html; charset=utf-8", content: include_str!("index.html") };

/// The files that the page loads.
const PARTS: [(&str, File); 3] = [
    ("/page/app.js", File { kind: "text/javascript; charset=utf-8", content: include_str!("app.js") }),
    ("/page/style.css", File { kind: "text/css; charset=utf-8", content: include_str!("style.css") }),
    ("/page/icon.svg", File { kind: "image/svg+xml", content: include_str!("icon.svg") }),
];

/// Adds `/` for clients that accept HTML. Others get [`api`](crate::api)'s reply there, whose routes come after this one.
pub fn front(root: Router, app: &Arc<App>) -> Router {
    let index = || Index(app.clone());
    root.push(Router::new().filter_fn(|req, _| req.uri().path() == "/" && wants_html(req)).get(index()).head(index()))
}

/// The page itself. It names its files relative to itself; where a trusted proxy reports the path that it takes away, with that in front,
/// since the page may have been asked for without the slash at its end.
struct Index(Arc<App>);

#[async_trait]
impl salvo::Handler for Index {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        match self.0.admission.prefix(req) {
            Some(prefix) => send(req, res, INDEX.kind, INDEX.content.replace("=\"page/", &format!("=\"{prefix}/page/"))),
            None => send(req, res, INDEX.kind, INDEX.content),
        }
    }
}

/// Adds the files that the page loads.
pub fn files(mut root: Router) -> Router {
    for (path, file) in PARTS {
        root = root.push(Router::with_path(path).get(file).head(file));
    }
    root
}

fn wants_html(req: &Request) -> bool {
    req.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

#[async_trait]
impl salvo::Handler for File {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        send(req, res, self.kind, self.content);
    }
}

/// Writes a file, or that the client has it already.
fn send(req: &Request, res: &mut Response, kind: &'static str, content: impl Into<Cow<'static, str>>) {
    let content = content.into();
    // Not to be cached without revalidation: the next version must be seen at once.
    let digest = Sha256::digest(&*content);
    let tag = format!("\"{}\"", hex(&digest[..8]));
    let headers = res.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept")); // "/" is another resource for programs
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    spelling::apply(res);
    let headers = res.headers_mut();
    if req.headers().get(IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        res.status_code(StatusCode::NOT_MODIFIED);
        return;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    res.status_code(StatusCode::OK);
    res.replace_body(match content {
        Cow::Borrowed(text) => text.as_bytes().into(),
        Cow::Owned(text) => text.into_bytes().into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_complies_with_its_content_security_policy() {
        for (needle, why) in
            [("style=", "inline style"), ("<style", "inline style"), (" on", "inline handler"), ("http:", "elsewhere")]
        {
            assert!(!INDEX.content.contains(needle), "{why}");
        }
        assert_eq!(INDEX.content.matches("<script").count(), INDEX.content.matches("src=\"page/").count());
        let script = PARTS[0].1.content;
        for unsafe_call in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!script.contains(unsafe_call), "{unsafe_call}");
        }
    }
}
