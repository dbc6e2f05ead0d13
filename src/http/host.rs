//! The `Host` header, which HTTP/1.1 requires (RFC 9112 section 3.2).

use salvo::http::header::HOST;
use salvo::http::{Request, Version};

use super::error::ApiError;

/// Checks that a request names its host as its version of HTTP requires: once, and in HTTP/1.0 at most once.
///
/// # Errors
/// [`ApiError::Invalid`].
pub fn check(req: &Request) -> Result<(), ApiError> {
    let required = req.version() == Version::HTTP_11;
    match req.headers().get_all(HOST).iter().count() {
        1 => Ok(()),
        0 if !required => Ok(()),
        0 => Err(ApiError::Invalid("the Host header is missing; HTTP/1.1 requires it".into())),
        _ => Err(ApiError::Invalid("the Host header is given more than once".into())),
    }
}
