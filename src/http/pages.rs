//! Requests of web pages: whether the page may use this server, and whether it means this server.
//!
//! A browser sends requests of any page to any address, some of them before it asks whether they are wanted: so what needs no log-in
//! must be kept from foreign pages here. Programs send none of the headers that are looked at, and are asked nothing.

use std::sync::Arc;

use salvo::http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN, TRANSFER_ENCODING};
use salvo::http::{Method, Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use super::error::ApiError;
use super::host;
use crate::admission::Admission;
use crate::app::App;
use crate::telemetry::metrics::Metrics;

/// The relation between page and server, as the browser sees it (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The most characters of a client's text that an error repeats.
const MAX_SHOWN_CHARS: usize = 100;

/// The origin of a request, from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrigin<'a> {
    /// There is none: a program, or a browser's request for something that belongs to a page of the same origin.
    None,
    /// One.
    One(&'a str),
    /// An unreadable one, or several: matches nothing.
    Unclear,
}

impl<'a> PageOrigin<'a> {
    /// Returns that of a request with these headers.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut all = headers.get_all(ORIGIN).iter();
        match (all.next(), all.next()) {
            (None, _) => Self::None,
            (Some(one), None) => one.to_str().map_or(Self::Unclear, Self::One),
            (Some(_), Some(_)) => Self::Unclear,
        }
    }

    /// Returns it as a text, which is empty, and so no origin, where it is unclear.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::None => None,
            Self::One(origin) => Some(origin),
            Self::Unclear => Some(""),
        }
    }
}

/// Returns whether a page's request has these headers.
pub fn is_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.contains_key(COOKIE) || headers.contains_key(SEC_FETCH_SITE)
}

/// Returns whether a request with these headers has a body.
pub fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// Checks that the page of a request, where there is one, may use this server, and that it names it by a name that is known. A listed
/// origin is trusted by whatever name: no other page has it.
///
/// # Errors
/// [`ApiError::ForeignOrigin`], [`ApiError::UnknownHost`].
pub fn check(req: &Request, admission: &Admission) -> Result<(), ApiError> {
    let headers = req.headers();
    if !is_page(headers) {
        return Ok(());
    }
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    let (origin, origins) = (PageOrigin::of(headers), admission.origins());
    if !origins.allow(origin.text(), host) {
        return Err(foreign(origin));
    }
    // Browsers name the origin with everything but `GET` and `HEAD`; this covers those whose user has it removed.
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    if origin == PageOrigin::None && !is_safe(req.method()) && matches!(site, Some(b"cross-site" | b"same-site")) {
        return Err(foreign(origin));
    }
    match host {
        Some(host) if !origin.text().is_some_and(|origin| origins.lists(origin)) && !admission.hosts().knows(host) => {
            tracing::debug!(host, "refused: a page of a host that is not known");
            Err(ApiError::UnknownHost(shown(host)))
        }
        _ => Ok(()),
    }
}

/// Returns whether a method changes nothing (RFC 9110 section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns the error for a page that may not do this.
fn foreign(origin: PageOrigin<'_>) -> ApiError {
    tracing::debug!(?origin, "refused: a page of a foreign origin");
    let who = match origin {
        PageOrigin::One(origin) => format!("\"{}\"", shown(origin)),
        PageOrigin::Unclear => "an unreadable Origin, or more than one,".to_owned(),
        PageOrigin::None => "a page of another site".to_owned(),
    };
    ApiError::ForeignOrigin(format!("{who} is neither this server's nor listed in server.origins"))
}

/// Returns the error for a page of another origin that came with the cookie, or wants one.
pub fn cookie_of_another() -> ApiError {
    ApiError::ForeignOrigin(
        "only this server's own pages use the cookie; others need a token and a line in server.origins".into(),
    )
}

/// Returns the first characters of a client's text, those that are visible ASCII.
fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).map(visible).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Counts a refusal.
pub fn count(error: &ApiError, metrics: &Metrics) {
    error.refused().inspect(|&why| metrics.refused.inc(why));
}

/// A hoop that refuses requests without a proper `Host`, and those of foreign pages.
pub struct Guard(pub Arc<App>);

#[async_trait]
impl salvo::Handler for Guard {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, ctrl: &mut FlowCtrl) {
        if let Err(error) = host::check(req).and_then(|()| check(req, &self.0.admission)) {
            count(&error, &self.0.metrics);
            error.render(res);
            ctrl.skip_rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use salvo::http::header::HeaderValue;

    fn request(method: Method, headers: &[(&'static str, &str)]) -> Request {
        let mut req = Request::new();
        *req.method_mut() = method;
        for (name, value) in headers {
            req.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        req
    }

    fn admission(toml: &str) -> Admission {
        let config: Config = toml::from_str(toml).unwrap();
        Admission::new(&config, Metrics::new(Arc::default()))
    }

    /// The code of the refusal, empty where there is none.
    fn code(admission: &Admission, method: &Method, headers: &[(&'static str, &str)]) -> &'static str {
        check(&request(method.clone(), headers), admission).map_or_else(|error| error.status().1, |()| "")
    }

    const METHODS: [Method; 7] =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

    #[test]
    fn programs_are_asked_nothing() {
        let admission = admission("");
        for host in ["evil.example", "", "127.0.0.1", "\u{e9}"] {
            for method in METHODS {
                assert_eq!(code(&admission, &method, &[("host", host), ("user-agent", "Mozilla/5.0")]), "");
            }
        }
        assert_eq!(code(&admission, &Method::POST, &[]), "");
    }

    #[test]
    fn foreign_origin_is_refused_with_every_method() {
        let admission = admission("[server]\nlisten = \"0.0.0.0:1\"\norigins = [\"https://app.example.com\"]");
        let own = ("host", "10.0.0.5:8000");
        for method in METHODS {
            for origin in
                ["https://evil.example", "null", "", "http://10.0.0.5", "http://10.0.0.5:8001", "http://localhost:8000", "\u{e9}"]
            {
                assert_eq!(code(&admission, &method, &[own, ("origin", origin)]), "foreign_origin", "{method} {origin}");
            }
            for origin in
                ["http://10.0.0.5:8000", "https://10.0.0.5:8000", "https://app.example.com", "HTTPS://APP.example.com:443"]
            {
                assert_eq!(code(&admission, &method, &[own, ("origin", origin)]), "", "{method} {origin}");
            }
            let two = [own, ("origin", "http://10.0.0.5:8000"), ("origin", "https://evil.example")];
            assert_eq!(code(&admission, &method, &two), "foreign_origin");
            for site in ["cross-site", "same-site"] {
                let refused = if is_safe(&method) { "" } else { "foreign_origin" };
                assert_eq!(code(&admission, &method, &[own, ("sec-fetch-site", site)]), refused, "{method} {site}");
            }
            for site in ["same-origin", "none"] {
                assert_eq!(code(&admission, &method, &[own, ("sec-fetch-site", site)]), "", "{method} {site}");
            }
        }
    }

    #[test]
    fn page_of_an_unknown_host_is_misdirected() {
        let admission = admission("[server]\nhosts = [\"qy.example.org\"]\norigins = [\"https://app.example.com\"]");
        let rebound = ("host", "evil.example:8000");
        for method in METHODS {
            for page in [
                ("origin", "http://evil.example:8000"),
                ("cookie", "a=b"),
                ("cookie", ""),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "none"),
            ] {
                assert_eq!(code(&admission, &method, &[rebound, page]), "unknown_host", "{method} {page:?}");
                if page.0 != "origin" {
                    assert_eq!(code(&admission, &method, &[("host", "qy.example.org"), page]), "", "{method} {page:?}");
                    assert_eq!(code(&admission, &method, &[("host", "\u{e9}"), page]), "unknown_host", "{method} {page:?}");
                }
            }
            assert_eq!(code(&admission, &method, &[("host", "qy.example.org"), ("origin", "https://qy.example.org")]), "");
            assert_eq!(code(&admission, &method, &[rebound, ("origin", "https://app.example.com")]), "", "{method}");
        }
        let error = check(&request(Method::GET, &[rebound, ("cookie", "a=b")]), &admission).unwrap_err();
        assert_eq!(error.status().0.as_u16(), 421);
        assert!(error.to_string().contains("evil.example:8000") && error.to_string().contains("server.hosts"), "{error}");
    }

    #[test]
    fn refusal_names_a_bounded_and_visible_text() {
        let long = format!("https://{}.example", "x".repeat(30_000));
        for origin in ["https://evil.example", &long, "\u{1b}[2J", "\u{202e}"] {
            let text = foreign(PageOrigin::One(origin)).to_string();
            assert!(text.len() < 300 && text.contains("server.origins"), "{text}");
            assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        }
        assert!(foreign(PageOrigin::One("https://evil.example")).to_string().contains("\"https://evil.example\""));
    }

    #[test]
    fn bodies_are_announced_by_length_or_by_encoding() {
        let has = |headers: &[(&'static str, &str)]| has_body(request(Method::POST, headers).headers());
        assert!(has(&[("content-length", "1")]) && has(&[("transfer-encoding", "chunked")]));
        assert!(!has(&[]) && !has(&[("content-length", "0")]));
    }
}
