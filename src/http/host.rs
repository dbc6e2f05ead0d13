//! The `Host` header, which HTTP/1.1 requires (RFC 9112 section 3.2).

use salvo::http::header::HOST;
use salvo::http::{Request, Response, Version};
use salvo::{Depot, FlowCtrl, async_trait};

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

/// A hoop that refuses requests without a proper `Host`.
pub struct Host;

#[async_trait]
impl salvo::Handler for Host {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        if let Err(error) = check(req) {
            error.render(res);
            ctrl.skip_rest();
        }
    }
}
