//! Requests of web pages: whether the page may use this server, and whether it means this server.
//!
//! A browser sends requests of any page to any address, some of them before it asks whether they are wanted: so what needs no log-in
//! must be kept from foreign pages here. Programs send none of the headers that are looked at, and are asked nothing.

use std::sync::Arc;

use salvo::http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, TRANSFER_ENCODING, USER_AGENT,
};
use salvo::http::{Method, Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use super::error::ApiError;
use super::host;
use crate::admission::Admission;
use crate::admission::origins::{OriginKind, kind};
use crate::app::App;
use crate::auth::cookies;
use crate::telemetry::metrics::Metrics;

/// The relation between page and server, as the browser sees it (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The most characters of a client's text that an error repeats.
const MAX_SHOWN_CHARS: usize = 100;

/// The mode of a browser's request (Fetch Metadata).
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// The `User-Agent` of every browser and web view begins so, and a page can't change it: not for a WebSocket, and for anything else
/// only after a request that asks for it, with the browser's own.
const BROWSER_USER_AGENT: &[u8] = b"Mozilla/";

/// The origin of a request, from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrigin<'a> {
    /// There is none: a program, or a browser's request for something that belongs to a page of the same origin.
    None,
    /// A text that no page has as its origin: a program's, and as good as none.
    Program,
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
            (Some(one), None) => match one.to_str().map(|origin| (origin, kind(origin))) {
                Ok((_, OriginKind::Program)) => Self::Program,
                Ok((_, OriginKind::File)) if !is_browser(headers) => Self::Program,
                Ok((origin, _)) => Self::One(origin),
                Err(_) => Self::Unclear,
            },
            (Some(_), Some(_)) => Self::Unclear,
        }
    }

    /// Returns it as a text, which is empty, and so no origin, where it is unclear.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::None | Self::Program => None,
            Self::One(origin) => Some(origin),
            Self::Unclear => Some(""),
        }
    }

    /// Returns the words for it in the text of a refusal.
    pub fn described(self) -> String {
        match self {
            Self::One(origin) => format!("\"{}\"", shown(origin)),
            Self::Unclear => "an unreadable Origin, or more than one,".to_owned(),
            Self::Program => "a program with an Origin that no page has".to_owned(),
            Self::None => "a page of another site".to_owned(),
        }
    }
}

/// Returns whether a page's request has these headers.
pub fn is_page(headers: &HeaderMap) -> bool {
    let names_page = || !matches!(PageOrigin::of(headers), PageOrigin::None | PageOrigin::Program);
    headers.contains_key(COOKIE) || headers.contains_key(SEC_FETCH_SITE) || names_page()
}

/// Returns whether a browser or a web view sends these headers. Others can, too.
fn is_browser(headers: &HeaderMap) -> bool {
    let is_known = |agent: &HeaderValue| agent.as_bytes().starts_with(BROWSER_USER_AGENT);
    [SEC_FETCH_SITE, SEC_FETCH_MODE].iter().any(|name| headers.contains_key(name))
        || headers.get_all(USER_AGENT).iter().any(is_known)
}

/// Returns whether these headers have the cookie of a log-in.
fn has_session(headers: &HeaderMap) -> bool {
    let given = || headers.get_all(COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    [true, false].into_iter().any(|secure| given().any(|cookie| cookies::token(cookie, secure).is_some()))
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
    // A program has no cookie of this server: who sends one beside such a text may be a browser after all.
    if origin == PageOrigin::Program && has_session(headers) {
        return Err(cookie_of_another(&origin.described()));
    }
    if !origins.allow(origin.text(), host) {
        return Err(foreign(origin, host, admission));
    }
    // Browsers name the origin with everything but `GET` and `HEAD`; this covers those whose user has it removed.
    let site = headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes());
    if origin.text().is_none() && !is_safe(req.method()) && matches!(site, Some(b"cross-site" | b"same-site")) {
        return Err(foreign(origin, host, admission));
    }
    match host {
        Some(host) if !origin.text().is_some_and(|origin| origins.lists(origin)) && !admission.hosts().knows(host) => {
            let host = shown(host);
            if admission.refused_pages.is_new("server.hosts", &host) {
                tracing::info!(host, setting = "server.hosts", "page refused: it uses an unknown name of this server");
            }
            Err(ApiError::UnknownHost(host))
        }
        _ => Ok(()),
    }
}

/// Returns whether a method changes nothing (RFC 9110 section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns the error for a page that may not do this. The log names each of them once.
fn foreign(origin: PageOrigin<'_>, host: Option<&str>, admission: &Admission) -> ApiError {
    let origin = origin.described();
    if admission.refused_pages.is_new("server.origins", &origin) {
        // The host tells of a proxy that passes on another `Host` than the browser's.
        let host = shown(host.unwrap_or_default());
        tracing::info!(origin, host, setting = "server.origins", "page refused: its origin is foreign");
    }
    ApiError::ForeignOrigin(format!("{origin} is neither this server's nor listed in server.origins"))
}

/// Returns the error for a page of another origin that came with the cookie, or wants one.
/// `page` is its origin in words.
pub fn cookie_of_another(page: &str) -> ApiError {
    ApiError::ForeignOrigin(format!(
        "only this server's own pages use the cookie, not {page}; others need a token and a line in server.origins"
    ))
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
    fn origin_that_no_page_has_is_as_good_as_none() {
        let admission = admission("[server]\nlisten = \"0.0.0.0:1\"");
        let program = ("user-agent", "arduino-WebSocket-Client");
        for method in METHODS {
            for origin in ["file://", "FILE:///x", "https://github.com/gilmaimon/TinyWebsockets", "wss://evil.example:443"] {
                for host in ["evil.example", "127.0.0.1"] {
                    assert_eq!(
                        code(&admission, &method, &[("host", host), program, ("origin", origin)]),
                        "",
                        "{method} {origin}"
                    );
                }
                // Whoever has the other headers of a page is asked what a page without an origin is asked.
                let cookie = [("host", "evil.example"), ("origin", origin), ("cookie", "a=b")];
                assert_eq!(code(&admission, &method, &cookie), "unknown_host", "{method} {origin}");
                let site = [("host", "127.0.0.1"), ("origin", origin), ("sec-fetch-site", "cross-site")];
                let refused = if is_safe(&method) && !origin.to_lowercase().starts_with("file") { "" } else { "foreign_origin" };
                assert_eq!(code(&admission, &method, &site), refused, "{method} {origin}");
            }
        }
        let two = [("host", "127.0.0.1"), ("origin", "file://"), ("origin", "file://")];
        assert_eq!(code(&admission, &Method::GET, &two), "foreign_origin");
    }

    #[test]
    fn files_in_a_browser_or_web_view_need_a_line_in_the_settings() {
        let (strict, listing) = (admission(""), admission("[server]\norigins = [\"file://\"]"));
        let file = [("host", "127.0.0.1"), ("origin", "file://")];
        for sign in [
            ("user-agent", "Mozilla/5.0 (Linux; Android 14; wv) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Electron/31.0.0"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "websocket"),
        ] {
            for method in METHODS {
                assert_eq!(code(&strict, &method, &[&file[..], &[sign]].concat()), "foreign_origin", "{method} {sign:?}");
                assert_eq!(code(&listing, &method, &[&file[..], &[sign]].concat()), "", "{method} {sign:?}");
            }
        }
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
            let text = foreign(PageOrigin::One(origin), None, &admission("")).to_string();
            assert!(text.len() < 300 && text.contains("server.origins"), "{text}");
            assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
        }
        assert!(
            foreign(PageOrigin::One("https://evil.example"), None, &admission(""))
                .to_string()
                .contains("\"https://evil.example\"")
        );
    }

    #[test]
    fn bodies_are_announced_by_length_or_by_encoding() {
        let has = |headers: &[(&'static str, &str)]| has_body(request(Method::POST, headers).headers());
        assert!(has(&[("content-length", "1")]) && has(&[("transfer-encoding", "chunked")]));
        assert!(!has(&[]) && !has(&[("content-length", "0")]));
    }
}
