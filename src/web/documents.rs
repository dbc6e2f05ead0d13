//! `GET /api/openapi.json` and `GET /api/asyncapi.json`: the API described, compressed in the binary.

use std::io::Read;

use flate2::read::GzDecoder;
use salvo::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, Router, async_trait};
use sha2::{Digest, Sha256};

use crate::core::hex::hex;
use crate::http::error::ApiError;
use crate::http::spelling;

/// A document, as `gzip` writes it.
#[derive(Clone, Copy)]
struct Document(&'static [u8]);

/// The documents, by their paths. They are described in `src/describe/rows/server.rs`.
const DOCUMENTS: [(&str, Document); 2] = [
    ("/api/openapi.json", Document(include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz")))),
    ("/api/asyncapi.json", Document(include_bytes!(concat!(env!("OUT_DIR"), "/asyncapi.json.gz")))),
];

/// Adds the documents.
pub fn documents(mut root: Router) -> Router {
    for (path, document) in DOCUMENTS {
        root = root.push(Router::with_path(path).get(document).head(document));
    }
    root
}

#[async_trait]
impl salvo::Handler for Document {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        let header = |name| req.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let gzip = accepts_gzip(header(ACCEPT_ENCODING));
        // The two forms are two representations (RFC 9110 section 8.8.3).
        let digest = hex(&Sha256::digest(self.0)[..8]);
        let tag = if gzip { format!("\"{digest}-gzip\"") } else { format!("\"{digest}\"") };
        let known = header(IF_NONE_MATCH).split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
        let headers = res.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        spelling::apply(res);
        if known {
            res.status_code(StatusCode::NOT_MODIFIED);
            return;
        }
        let headers = res.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            res.status_code(StatusCode::OK);
            res.replace_body(self.0.into());
            return;
        }
        let mut content = Vec::new();
        match GzDecoder::new(self.0).read_to_end(&mut content) {
            Ok(_) => {
                res.status_code(StatusCode::OK);
                res.replace_body(content.into());
            }
            Err(error) => ApiError::internal(error).render(res),
        }
    }
}

/// Returns whether the client takes `gzip` (RFC 9110 section 12.5.3): it names it, and not with the weight 0.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.', ' ']).is_empty());
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_where_it_is_named_and_not_refused() {
        for header in ["gzip", "br, GZIP", "gzip;q=0.5", "identity, gzip; q=1"] {
            assert!(accepts_gzip(header), "{header}");
        }
        for header in ["", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip", "*"] {
            assert!(!accepts_gzip(header), "{header}");
        }
    }

    #[test]
    fn documents_are_those_of_the_repository() {
        for ((path, document), committed) in
            DOCUMENTS.into_iter().zip([include_str!("../../docs/api/openapi.json"), include_str!("../../docs/api/asyncapi.json")])
        {
            let mut content = String::new();
            GzDecoder::new(document.0).read_to_string(&mut content).unwrap();
            assert_eq!(content, committed, "{path}");
        }
    }
}
