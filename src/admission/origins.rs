//! The origins of web pages that may open a WebSocket. The browser's same-origin policy does not cover WebSockets, so the server
//! checks the `Origin` header.

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
        let authority = origin.split_once("://").filter(|(scheme, _)| allowed(scheme)).map(|(_, rest)| rest);
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    }

    /// Reports whether a handshake with the `Origin` header `origin` to `host` (its `Host` header) is allowed. Programs send no origin
    /// and are allowed: they could send any.
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
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) || (self.loopback && is_loopback(authority))
    }
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
