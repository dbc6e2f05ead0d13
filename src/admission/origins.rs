//! The origins of web pages that may use this server. The browser's same-origin policy covers neither WebSockets nor requests whose
//! answer the page need not read, so the server checks the `Origin` header. All decisions about it are here.

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
        let allowed = |scheme: &str| scheme == "https" || (scheme == "http" && !encrypted);
        let own =
            |(scheme, authority): (&str, &str)| allowed(scheme) && host.is_some_and(|host| is_same(scheme, authority, host));
        origin.split_once("://").is_some_and(own)
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
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        let name = text.strip_suffix(default_port).unwrap_or(&text);
        name.strip_suffix('.').unwrap_or(name).to_owned()
    };
    let host = bare(host);
    !host.is_empty() && bare(authority) == host
}

/// Returns an origin as browsers write it: in lower case, without the default port of its scheme.
fn normalized(origin: &str) -> String {
    let mut origin = origin.to_ascii_lowercase();
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if origin.starts_with(scheme) && origin.ends_with(port) {
            origin.truncate(origin.len() - port.len());
        }
    }
    origin
}

/// Reports whether `host[:port]` names this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert!(origins.allow(Some(origin), Some(host)), "{origin} {host}");
            assert!(origins.is_own(Some(origin), Some(host), false), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://a.example", "a.example:443"),
            ("https://a.example", "a.example:80"),
            ("http://a.example:8000", "a.example"),
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
        assert!(!usual.lists("http://c") && !usual.lists("https://b") && !usual.lists("http://localhost"));
        assert!(!Origins::new(&[], false).allow(Some("http://localhost:5173"), host));
        assert!(!origins.allow(Some("http://x"), None));
    }
}
