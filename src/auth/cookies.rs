//! The cookie in which this server's page keeps its token: no script can read it, and a second secret protects against requests that
//! other pages make the browser send.

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::core::hex::hex;

/// The cookie's name over plain HTTP.
const PLAIN_NAME: &str = "qy_lty_session";
/// The cookie's name over HTTPS, where the prefix keeps other hosts of the same domain from setting one.
const SECURE_NAME: &str = "__Host-qy_lty_session";
/// The lifetime of a browser's log-in, in seconds.
pub const BROWSER_SECONDS: u64 = 30 * 86_400;
/// The domain separator between this use of SHA-256 and the token's own hash, which is stored.
const CSRF_PURPOSE: &[u8] = b"qy-lty csrf 1\0";

const fn name(secure: bool) -> &'static str {
    if secure { SECURE_NAME } else { PLAIN_NAME }
}

/// Returns the token in a `Cookie` header (RFC 6265 section 4.2); `secure`: received over HTTPS.
pub fn token(header: &str, secure: bool) -> Option<String> {
    let mut pairs = Cookie::split_parse(header).flatten();
    pairs.find(|pair| pair.name() == name(secure)).map(|pair| pair.value().to_owned())
}

/// Returns the `Set-Cookie` value that sets the token, or with none removes it. `secure`: for HTTPS only.
pub fn set(token: Option<&str>, secure: bool) -> String {
    let age = if token.is_some() { Duration::seconds(BROWSER_SECONDS.cast_signed()) } else { Duration::ZERO };
    let cookie = Cookie::build((name(secure), token.unwrap_or_default()));
    cookie.path("/").http_only(true).same_site(SameSite::Strict).secure(secure).max_age(age).build().to_string()
}

/// Returns the second secret that a page must send along with the cookie to change anything: only a reader of this server's replies
/// knows it.
pub fn csrf(token: &str) -> String {
    let digest = Sha256::new().chain_update(CSRF_PURPOSE).chain_update(token).finalize();
    hex(&digest[..16])
}

/// Returns whether `given` is the second secret of `token`; takes the same time wherever they differ.
pub fn csrf_fits(token: &str, given: &str) -> bool {
    csrf(token).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cookie_is_limited_to_this_server_and_its_scheme() {
        assert_eq!(
            set(Some("qlt_x"), true),
            "__Host-qy_lty_session=qlt_x; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=2592000"
        );
        assert_eq!(set(None, false), "qy_lty_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
        assert_eq!(token("a=b; qy_lty_session=qlt_x; c=d", false).as_deref(), Some("qlt_x"));
        assert_eq!(token("qy_lty_session=planted; __Host-qy_lty_session=qlt_x", true).as_deref(), Some("qlt_x"));
        assert_eq!(token("qy_lty_sessions=x; x", false), None);
    }

    #[test]
    fn second_secret_fits_its_token_only() {
        assert!(csrf_fits("qlt_x", &csrf("qlt_x")));
        for wrong in ["", "x", &csrf("qlt_y"), &csrf("qlt_x")[..31]] {
            assert!(!csrf_fits("qlt_x", wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_cookie_header_parses_without_panic(header in "\\PC{0,60}") {
            let _ = token(&header, header.len() % 2 == 0);
        }
    }
}
