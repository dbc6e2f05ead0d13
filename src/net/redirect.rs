//! Redirects plain HTTP to HTTPS.

use salvo::http::header::{CACHE_CONTROL, HOST, HeaderValue, LOCATION};
use salvo::http::{Request, Response, StatusCode};
use salvo::{Depot, FlowCtrl, Service, async_trait};

/// Returns the service of a listener that only redirects, to HTTPS on `https_port`.
pub fn service(https_port: u16) -> Service {
    // A hoop runs before routing: every path, every method.
    Service::new(salvo::Router::new()).hoop(Redirect { https_port })
}

struct Redirect {
    https_port: u16,
}

#[async_trait]
impl salvo::Handler for Redirect {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        let mut hosts = req.headers().get_all(HOST).iter();
        // Given once, as HTTP/1.1 requires (RFC 9112 section 3.2); without one there is no URL to redirect to.
        let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
        let path = req.uri().path_and_query().map_or("/", |path| path.as_str());
        let target = host.and_then(|host| target(host, self.https_port, path)).and_then(|t| HeaderValue::from_str(&t).ok());
        let headers = res.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store")); // TLS may be switched off again
        match target {
            Some(target) => {
                headers.insert(LOCATION, target);
                res.status_code(StatusCode::PERMANENT_REDIRECT);
                res.render("HTTPS only\n");
            }
            None => {
                res.status_code(StatusCode::BAD_REQUEST);
                res.render("HTTPS only; the Host header must be given once, with the name or the address of this server\n");
            }
        }
        ctrl.skip_rest();
    }
}

/// Returns the URL of the same host and path over HTTPS; `None` where the host is not a host name or an address.
fn target(host: &str, port: u16, path: &str) -> Option<String> {
    let bare = match host.rsplit_once(':') {
        Some((bare, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => host,
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    if bare.is_empty() || !bare.bytes().all(good) {
        return None;
    }
    Some(if port == 443 { format!("https://{bare}{path}") } else { format!("https://{bare}:{port}{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_has_the_same_host_and_path() {
        let to = |host, port| target(host, port, "/a?b=c");
        assert_eq!(to("box.lan", 443).as_deref(), Some("https://box.lan/a?b=c"));
        assert_eq!(to("box.lan:8080", 8443).as_deref(), Some("https://box.lan:8443/a?b=c"));
        assert_eq!(to("[::1]:80", 8443).as_deref(), Some("https://[::1]:8443/a?b=c"));
        assert_eq!(to("[::1]", 443).as_deref(), Some("https://[::1]/a?b=c"));
        for bad in ["", ":80", "a b", "evil.example/x", "user@evil", "a\\b"] {
            assert_eq!(to(bad, 443), None, "{bad}");
        }
    }
}
