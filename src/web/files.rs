//! Files in the binary, compressed; `build.rs` makes them. A client that takes no gzip gets them decompressed.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::GzDecoder;
use rust_embed::{EmbeddedFile, RustEmbed};
use salvo::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use salvo::http::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::core::hex::hex;
use crate::http::spelling;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A file of the binary.
pub struct File {
    kind: &'static str,
    /// As gzip.
    compressed: Cow<'static, [u8]>,
    /// The digest of `compressed`.
    digest: [u8; 32],
}

impl File {
    /// Returns the file of that path, which begins with `page/` or `api/`; `None` where the binary has none.
    pub fn find(path: &str) -> Option<Self> {
        let EmbeddedFile { data: compressed, metadata } = Files::get(path)?;
        Some(Self { kind: media_type(path), compressed, digest: metadata.sha256_hash() })
    }

    /// Returns the number of bytes that it takes, compressed.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.compressed.len()
    }

    /// Returns the file as it was before it was compressed.
    pub fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.compressed.len() * 4);
        // What build.rs has compressed can be read; a test reads every file.
        let _ = GzDecoder::new(&*self.compressed).read_to_end(&mut content);
        content
    }

    /// Writes the file, or that the client has it already.
    pub fn send(self, req: &Request, res: &mut Response) {
        let compressed = accepts_gzip(req);
        // The two forms are different bytes, and so have different tags.
        let tag = tag(&self.digest, if compressed { "gz" } else { "id" });
        if compressed {
            res.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            write(req, res, &tag, self.kind, || self.compressed.into_owned());
        } else {
            write(req, res, &tag, self.kind, || self.content());
        }
    }

    /// Writes the file with a text in it replaced by another; uncompressed.
    pub fn send_replaced(&self, req: &Request, res: &mut Response, from: &str, to: &str) {
        let content = String::from_utf8_lossy(&self.content()).replace(from, to);
        let tag = tag(&Sha256::digest(&content), "id");
        write(req, res, &tag, self.kind, || content.into_bytes());
    }
}

/// Returns the tag of one form of a file.
fn tag(digest: &[u8], form: &str) -> String {
    format!("\"{}-{form}\"", hex(&digest[..8]))
}

/// Writes `content` with its headers, or 304 without it.
fn write(req: &Request, res: &mut Response, tag: &str, kind: &'static str, content: impl FnOnce() -> Vec<u8>) {
    let headers = res.headers_mut();
    // Not to be cached without revalidation: the next version must be seen at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding")); // "/" is another resource for programs
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    spelling::apply(res);
    if knows(req, tag) {
        res.status_code(StatusCode::NOT_MODIFIED);
        res.headers_mut().remove(CONTENT_ENCODING);
        return;
    }
    res.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    res.status_code(StatusCode::OK);
    res.replace_body(content().into());
}

/// Returns whether the client has what `tag` stands for. Caches compare weakly (RFC 9110 section 13.1.2).
fn knows(req: &Request, tag: &str) -> bool {
    let known = req.headers().get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Returns whether the client takes gzip (RFC 9110 section 12.5.3): it is named, or `*` is, with another weight than 0.
fn accepts_gzip(req: &Request) -> bool {
    let mut any = None;
    let offered = req.headers().get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for coding in offered.flat_map(|list| list.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q=")).map(str::trim);
        let accepted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return accepted,
            "*" => any = Some(accepted),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

/// Returns the media type of a file by its name.
fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns the paths of all files.
    pub fn paths() -> impl Iterator<Item = Cow<'static, str>> {
        Files::iter()
    }

    fn request(header: salvo::http::header::HeaderName, values: &[&str]) -> Request {
        let mut req = Request::new();
        for value in values {
            req.headers_mut().append(header.clone(), value.parse().unwrap());
        }
        req
    }

    #[test]
    fn gzip_is_accepted_where_it_is_named_with_a_weight() {
        for (accepted, values) in [
            (false, &[][..]),
            (true, &["gzip"]),
            (true, &["gzip, deflate, br, zstd"]),
            (true, &["br", "GZIP"]),
            (true, &["gzip;q=0.5"]),
            (true, &["*"]),
            (false, &["identity"]),
            (false, &["gzip;q=0"]),
            (false, &["gzip; q=0.000, *"]),
            (false, &["*;q=0"]),
            (false, &["br"]),
        ] {
            assert_eq!(accepts_gzip(&request(ACCEPT_ENCODING, values)), accepted, "{values:?}");
        }
    }

    #[test]
    fn tag_is_known_in_a_list_and_in_its_weak_form() {
        for (known, values) in [
            (false, &[][..]),
            (true, &["\"a\""]),
            (true, &["W/\"a\""]),
            (true, &["\"b\", \"a\""]),
            (true, &["\"b\"", "\"a\""]),
            (false, &["a"]),
            (false, &["\"aa\""]),
        ] {
            assert_eq!(knows(&request(IF_NONE_MATCH, values), "\"a\""), known, "{values:?}");
        }
    }

    #[test]
    fn every_file_can_be_decompressed_and_has_a_media_type() {
        for path in paths() {
            let file = File::find(&path).unwrap();
            let mut content = Vec::new();
            GzDecoder::new(&*file.compressed).read_to_end(&mut content).unwrap();
            assert!(!content.is_empty(), "{path}");
            assert_eq!(content, file.content(), "{path}");
            assert_ne!(file.kind, "application/octet-stream", "{path}");
        }
    }
}
