//! The origins of web pages that may use this server. The browser's same-origin policy covers neither WebSockets nor requests whose
//! answer the page need not read, so the server checks the `Origin` header. All decisions about it are here.
//!
//! Programs send the header, too, and with texts of their own: the URL of a library's project, `file://`. What no page has as its origin
//! ([`kind`]) is a program's, which could as well leave the header out.

use super::hosts::name_of;

/// The kind of whoever sends a text as its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// A page, an extension of a browser, or an app in a web view: scheme, host and port, or `null`. Also any text that is no URL.
    Page,
    /// A program, or a web view that shows files: `file://`. Browsers name files `null`, but Chromium does so only until a shell such as
    /// Android's WebView or Electron lets files read files.
    File,
    /// A program: the URL has a part that no serialized origin has (RFC 6454 section 6.2), or the scheme of a WebSocket, which shows
    /// no page.
    Program,
}

/// Returns the kind of whoever sends `origin`.
pub fn kind(origin: &str) -> OriginKind {
    // A list of origins, which a proxy makes of several headers, is not taken for one URL.
    let is_url = origin.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'\\'));
    let Some((scheme, rest)) = origin.split_once(':').filter(|_| is_url) else { return OriginKind::Page };
    if scheme.eq_ignore_ascii_case("file") {
        return OriginKind::File;
    }
    let Some(authority) = rest.strip_prefix("//") else { return OriginKind::Page };
    let is_socket = scheme.eq_ignore_ascii_case("ws") || scheme.eq_ignore_ascii_case("wss");
    if is_socket || authority.contains(['/', '?', '#']) { OriginKind::Program } else { OriginKind::Page }
}

/// The allowed origins.
#[derive(Debug)]
pub struct Origins {
    listed: Vec<String>,
    /// Allows pages from this machine, whatever their port: set while the server listens on loopback only, so that a development
    /// server on the same machine works without configuration.
    loopback: bool,
}

impl Origins {
    /// Allows `listed`, the server's own pages and, where `loopback` is set, pages from localhost.
    pub fn new(listed: &[String], loopback: bool) -> Self {
        Self { listed: listed.iter().map(|origin| normalized(origin)).collect(), loopback }
    }

    /// Reports whether no origin is listed.
    pub fn lists_none(&self) -> bool {
        self.listed.is_empty()
    }

    /// Reports whether `origin` is listed.
    pub fn lists(&self, origin: &str) -> bool {
        self.listed.contains(&normalized(origin))
    }

    /// Reports whether `origin` is that of a page from the server at `host` itself. Programs send no origin and are allowed. Over HTTPS
    /// (`encrypted`), a page that was loaded without it is not the server's own; the reverse is allowed, since a proxy that is not
    /// configured may add HTTPS.
    pub fn is_own(&self, origin: Option<&str>, host: Option<&str>, encrypted: bool) -> bool {
        let Some(origin) = origin else { return true };
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let allowed = scheme == "https" || (scheme == "http" && !encrypted);
        allowed && host.is_some_and(|host| is_same(scheme, authority, host))
    }

    /// Reports whether a request with the `Origin` header `origin` to `host` (its `Host` header) is allowed. Programs send no origin and
    /// are allowed: they could send any.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if self.lists(origin) {
            return true;
        }
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        if !matches!(scheme, "http" | "https") {
            return false;
        }
        host.is_some_and(|host| is_same(scheme, authority, host)) || (self.loopback && is_loopback(authority))
    }
}

/// Reports whether a page of `authority` comes from `host`. A port that is the scheme's own can be left out, and so can the final dot of
/// a name.
fn is_same(scheme: &str, authority: &str, host: &str) -> bool {
    let (page, server) = (name_of(authority), name_of(host));
    !page.is_empty() && page.eq_ignore_ascii_case(server) && port(scheme, authority) == port(scheme, host)
}

/// Returns the port of a scheme's `host[:port]`, empty for the scheme's own.
fn port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let (_, port) = split_port(authority);
    match (scheme, port) {
        ("https", "443") | ("http", "80") => "",
        _ => port,
    }
}

/// Splits `host[:port]`; the port may be empty (RFC 3986 section 3.2.3).
fn split_port(authority: &str) -> (&str, &str) {
    let is_port =
        |(name, port): &(&str, &str)| port.bytes().all(|b| b.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':'));
    authority.rsplit_once(':').filter(is_port).unwrap_or((authority, ""))
}

/// Returns an origin in the form in which it is compared: in lower case, without the default port of its scheme and the final dot of a
/// name.
fn normalized(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let Some((scheme, authority)) = origin.split_once("://") else { return origin };
    let (name, port) = (split_port(authority).0, port(scheme, authority));
    let name = name.strip_suffix('.').unwrap_or(name);
    let colon = if port.is_empty() { "" } else { ":" };
    format!("{scheme}://{name}{colon}{port}")
}

/// Reports whether `host[:port]` names this machine.
fn is_loopback(authority: &str) -> bool {
    matches!(split_port(authority).0, "localhost" | "localhost." | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn same_origin_is_written_in_several_ways() {
        let origins = Origins::new(&[], false);
        for (origin, host) in [
            ("https://a.example", "a.example:443"),
            ("https://a.example:443", "a.example"),
            ("http://a.example", "A.example:80"),
            ("http://a.example.", "a.example"),
            ("http://a.example", "a.example."),
            ("https://[::1]", "[::1]:443"),
            ("http://10.0.0.5:443", "10.0.0.5:443"),
            ("https://a.example", "A.EXAMPLE.:443"),
            ("https://a.example.:443", "a.example"),
            ("http://a.example.", "A.Example:80"),
            ("HTTPS://A.Example", "a.example:443"),
            ("Http://a.example.", "a.example:80"),
            ("https://a.example.:8443", "a.example:8443"),
            ("https://a.example:8443", "A.example.:8443"),
            ("http://[2001:DB8::1]:80", "[2001:db8::1]"),
            ("http://a.example", "a.example:"),
        ] {
            assert!(origins.allow(Some(origin), Some(host)), "{origin} {host}");
            assert!(origins.is_own(Some(origin), Some(host), false), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://a.example", "a.example:443"),
            ("https://a.example", "a.example:80"),
            ("http://a.example:8000", "a.example"),
            ("https://a.example:80", "a.example"),
            ("https://a.example:8443", "a.example:443"),
            ("http://a.example..", "a.example"),
            ("http://a.example:443", "a.example"),
            ("http://[2001:db8::1]", "[2001:db8::2]"),
            ("http://b.a.example", "a.example"),
            ("http://", ""),
            ("http://.", "."),
            ("http://:80", ":80"),
            ("http://a.example/", "a.example"),
            ("http://x@a.example", "a.example"),
        ] {
            assert!(!origins.allow(Some(origin), Some(host)), "{origin} {host}");
            assert!(!origins.is_own(Some(origin), Some(host), false), "{origin} {host}");
        }
    }

    #[test]
    fn own_listed_and_local_pages_are_allowed() {
        let origins = Origins::new(&["https://App.example.com".into()], true);
        let host = Some("10.0.0.5:8000");
        assert!(origins.allow(None, host));
        assert!(origins.allow(Some("https://app.example.COM"), host));
        assert!(origins.allow(Some("http://10.0.0.5:8000"), host));
        assert!(origins.allow(Some("http://localhost:5173"), host));
        assert!(origins.allow(Some("http://[::1]"), host));
        let bad = [
            "https://evil.example",
            "null",
            "",
            "http://10.0.0.5",
            "http://localhost.evil.example",
            "file://localhost",
            "http://127.0.0.1.evil:80",
        ];
        for origin in bad {
            assert!(!origins.allow(Some(origin), host), "{origin}");
        }
        assert!(origins.is_own(None, host, true) && origins.is_own(Some("http://10.0.0.5:8000"), host, false));
        assert!(
            origins.is_own(Some("https://10.0.0.5:8000"), host, true)
                && origins.is_own(Some("https://10.0.0.5:8000"), host, false)
        );
        assert!(!origins.is_own(Some("http://10.0.0.5:8000"), host, true));
        for origin in ["https://app.example.com", "http://localhost:5173", "null", "ftp://10.0.0.5:8000", "http://10.0.0.5"] {
            assert!(!origins.is_own(Some(origin), host, false), "{origin}");
        }
        let usual = Origins::new(&["https://a.example:443".into(), "HTTP://b:80".into(), "http://c:443".into()], false);
        assert!(usual.lists("https://a.example") && usual.lists("http://B") && usual.lists("http://c:443"));
        assert!(usual.lists("https://a.example.") && usual.lists("HTTPS://A.Example.:443") && usual.lists("http://b.:80"));
        assert!(!usual.lists("http://c") && !usual.lists("https://b") && !usual.lists("http://localhost"));
        assert!(!Origins::new(&[], false).allow(Some("http://localhost:5173"), host));
        assert!(!origins.allow(Some("http://x"), None));
    }

    #[test]
    fn text_that_no_page_has_as_its_origin_is_a_programs() {
        for program in [
            "https://github.com/gilmaimon/TinyWebsockets",
            "https://a.example/",
            "HTTP://A.example:8000/",
            "http://127.0.0.1/index.html",
            "https://user:password@a.example/x",
            "https://[2001:db8::1]:443/",
            "https://a.example?q",
            "https://a.example#top",
            "chrome-extension://abc/page.html",
            "ws://a.example",
            "wss://a.example:443",
            "WSS://10.0.0.5:8000",
            "ws://localhost/",
            "app://x/y",
        ] {
            assert_eq!(kind(program), OriginKind::Program, "{program}");
        }
        for file in ["file://", "FILE://", "file:///", "file:///home/ana/page.html", "file://localhost", "file:"] {
            assert_eq!(kind(file), OriginKind::File, "{file}");
        }
        for page in [
            "",
            "null",
            "NULL",
            "https://a.example",
            "http://a.example:8000",
            "http://[::1]:80",
            "http://",
            "https://user@a.example",
            "chrome-extension://abcdefghijklmnop",
            "moz-extension://0d2f1a5e-1111-4222-8333-444455556666",
            "safari-web-extension://0D2F1A5E",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://.",
            "ftp://a.example",
            "content://com.example.provider",
            "about:blank",
            "data:text/html,x",
            "blob:https://evil.example/4d1c",
            "evil.example",
            "evil.example/x",
            "localhost:8000",
            "https://evil.example, https://a.example/x",
            "https://evil.example https://a.example/x",
            "https:\\\\evil.example\\x/",
            "https://evil.example\\/x",
            "https://b\u{fc}cher.example/x",
            "/",
            "//evil.example/x",
            "https:/evil.example/x",
        ] {
            assert_eq!(kind(page), OriginKind::Page, "{page}");
        }
    }

    proptest! {
        /// What browsers send is `null`, or scheme, host and port (RFC 6454 section 6.2).
        #[test]
        fn serialized_origin_is_a_pages(
            scheme in "https?|[a-z][a-z+.-]{0,12}-extension|capacitor|ionic|tauri|app",
            host in "[a-z0-9.-]{1,20}|\\[[0-9a-f:]{2,20}\\]",
            port in proptest::option::of(any::<u16>()),
        ) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let origin = format!("{scheme}://{host}{port}");
            prop_assert_eq!(kind(&origin), OriginKind::Page);
            for end in ["/", "/a/b", "?q", "#top", "/?x=1"] {
                prop_assert_eq!(kind(&format!("{origin}{end}")), OriginKind::Program, "{}{}", origin, end);
            }
        }

        #[test]
        fn own_page_is_recognised_however_host_and_port_are_written(
            name in "[a-z0-9]{1,8}(\\.[a-z0-9]{1,8}){0,2}",
            port in 1u16..,
            https in any::<bool>(),
            (dot, upper, explicit) in any::<(bool, bool, bool)>(),
        ) {
            let scheme = if https { "https" } else { "http" };
            let default_port = if https { 443 } else { 80 };
            for port in [port, default_port] {
                let text = |dot: bool, upper: bool, explicit: bool| {
                    let name = if upper { name.to_uppercase() } else { name.clone() };
                    let port = if port == default_port && !explicit { String::new() } else { format!(":{port}") };
                    format!("{name}{}{port}", if dot { "." } else { "" })
                };
                let (plain, other) = (text(false, false, false), text(dot, upper, explicit));
                let origins = Origins::new(&[format!("{scheme}://{plain}")], false);
                let own = |origin: &str, host: &str| {
                    let origin = format!("{scheme}://{origin}");
                    Origins::new(&[], false).allow(Some(&origin), Some(host))
                        && origins.is_own(Some(&origin), Some(host), https)
                        && origins.lists(&origin)
                };
                prop_assert!(own(&plain, &other) && own(&other, &plain), "{} {}", plain, other);
                let foreign = format!("{scheme}://{name}:{}", port.wrapping_add(1).max(1));
                prop_assert!(!Origins::new(&[], false).allow(Some(&foreign), Some(&other)) && !origins.lists(&foreign));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", host in "\\PC{0,20}") {
            let origins = Origins::new(std::slice::from_ref(&text), true);
            prop_assert!(origins.lists(&text));
            let _ = (kind(&text), origins.is_own(Some(&text), Some(&host), false), origins.allow(Some(&text), Some(&host)));
        }
    }
}
