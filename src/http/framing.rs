//! Requests whose body is announced in a way that is not understood: refused by name, before anything of it is read.

use salvo::http::header::{CONTENT_ENCODING, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use salvo::http::{Request, Version};

use super::error::ApiError;

/// The most characters of a client's text that an error repeats.
const MAX_SHOWN_CHARS: usize = 60;

/// Checks what a request expects, and how its body is transferred. An expectation of HTTP/1.0 is ignored, as RFC 9110 section 10.1.1
/// requires.
///
/// # Errors
/// [`ApiError::Expectation`], [`ApiError::TransferCoding`].
pub fn check(req: &Request) -> Result<(), ApiError> {
    let headers = req.headers();
    // hyper understands nothing else, and reads the last line only.
    let known = |value: &&HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if req.version() > Version::HTTP_10
        && let Some(unknown) = headers.get_all(EXPECT).iter().find(|value| !known(value))
    {
        return Err(ApiError::Expectation(shown(unknown)));
    }
    let plain = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if plain(&one) => Ok(()),
        (Some(one), more) => Err(ApiError::TransferCoding(shown(more.filter(|_| plain(&one)).unwrap_or(one)))),
    }
}

/// Checks that a body is sent as it is (RFC 9110 section 8.4): a compressed one could become any size.
///
/// # Errors
/// [`ApiError::ContentCoding`].
pub fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &&HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get_all(CONTENT_ENCODING).iter().find(|value| !plain(value)) {
        Some(unknown) => Err(ApiError::ContentCoding(shown(unknown))),
        None => Ok(()),
    }
}

/// Returns the first characters of a header's value, those that are visible ASCII.
fn shown(value: &HeaderValue) -> String {
    let visible = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' };
    value.as_bytes().iter().take(MAX_SHOWN_CHARS).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use salvo::http::header::HeaderName;

    fn request(version: Version, name: HeaderName, values: &[&'static str]) -> Request {
        let mut req = Request::new();
        *req.version_mut() = version;
        for value in values {
            req.headers_mut().append(name.clone(), HeaderValue::from_static(value));
        }
        req
    }

    #[test]
    fn expectations_other_than_continue_are_refused_by_name() {
        for (values, refused) in [
            (&["100-continue"][..], None),
            (&["100-Continue"], None),
            (&["100-continue", "100-continue"], None),
            (&[""], None),
            (&[], None),
            (&["200-ok"], Some("200-ok")),
            (&["100-continue, x=y"], Some("100-continue, x=y")),
            (&["100-continue", "x"], Some("x")),
            (&["x", "100-continue"], Some("x")),
        ] {
            let outcome = check(&request(Version::HTTP_11, EXPECT, values));
            match (outcome, refused) {
                (Ok(()), None) => {}
                (Err(ApiError::Expectation(name)), Some(refused)) => assert_eq!(name, refused),
                (other, _) => panic!("{values:?}: {other:?}"),
            }
            assert!(check(&request(Version::HTTP_10, EXPECT, values)).is_ok());
        }
    }

    #[test]
    fn transfer_codings_other_than_chunked_are_refused_by_name() {
        for (values, refused) in [
            (&["chunked"][..], None),
            (&["Chunked"], None),
            (&["gzip, chunked"], Some("gzip, chunked")),
            (&["gzip", "chunked"], Some("gzip")),
            (&["chunked", "chunked"], Some("chunked")),
            (&["chunked", "gzip"], Some("gzip")),
        ] {
            match (check(&request(Version::HTTP_11, TRANSFER_ENCODING, values)), refused) {
                (Ok(()), None) => {}
                (Err(ApiError::TransferCoding(name)), Some(refused)) => assert_eq!(name, refused),
                (other, _) => panic!("{values:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn content_codings_are_refused_by_name() {
        for (values, refused) in [
            (&[][..], None),
            (&["identity"], None),
            (&["Identity"], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["identity", "br"], Some("br")),
            (&["deflate, gzip"], Some("deflate, gzip")),
        ] {
            match (check_coding(request(Version::HTTP_11, CONTENT_ENCODING, values).headers()), refused) {
                (Ok(()), None) => {}
                (Err(ApiError::ContentCoding(name)), Some(refused)) => assert_eq!(name, refused),
                (other, _) => panic!("{values:?}: {other:?}"),
            }
        }
    }
}
