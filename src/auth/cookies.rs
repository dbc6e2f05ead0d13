//! How a browser page of ours carries its token: in a cookie that scripts can't read, with a second secret against requests
//! that other pages make the browser send.

use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::core::hex::hex;

/// The cookie's name over plain HTTP.
const NAME: &str = "qy_lty_session";
/// And over HTTPS, where the prefix keeps other hosts of the same domain from planting one.
const SECURE_NAME: &str = "__Host-qy_lty_session";
/// How long a browser stays logged in, in seconds.
pub const BROWSER_SECONDS: u64 = 30 * 86_400;
/// Separates this use of SHA-256 from the token's own hash, which is stored.
const CSRF_PURPOSE: &[u8] = b"qy-lty csrf 1\0";

const fn name(secure: bool) -> &'static str {
    if secure { SECURE_NAME } else { NAME }
}

/// The token in a `Cookie` header (RFC 6265 section 4.2) that came over HTTPS, or did not.
pub fn token(header: &str, secure: bool) -> Option<String> {
    let mut pairs = Cookie::split_parse(header).flatten();
    pairs.find(|pair| pair.name() == name(secure)).map(|pair| pair.value().to_owned())
}

/// The `Set-Cookie` value that hands a page its token, or with none takes it away. `secure`: for HTTPS only.
pub fn set(token: Option<&str>, secure: bool) -> String {
    let age = if token.is_some() { Duration::seconds(BROWSER_SECONDS.cast_signed()) } else { Duration::ZERO };
    let cookie = Cookie::build((name(secure), token.unwrap_or_default()));
    cookie.path("/").http_only(true).same_site(SameSite::Strict).secure(secure).max_age(age).build().to_string()
}

/// What a page must send along with a cookie to change anything: only who has read an answer of ours knows it.
pub fn csrf(token: &str) -> String {
    let digest = Sha256::new().chain_update(CSRF_PURPOSE).chain_update(token).finalize();
    hex(&digest[..16])
}

/// Whether `given` is the right one for `token`; takes the same time wherever they differ.
pub fn csrf_fits(token: &str, given: &str) -> bool {
    csrf(token).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cookie_is_for_us_only() {
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
    fn the_second_secret_fits_its_token_only() {
        assert!(csrf_fits("qlt_x", &csrf("qlt_x")));
        for wrong in ["", "x", &csrf("qlt_y"), &csrf("qlt_x")[..31]] {
            assert!(!csrf_fits("qlt_x", wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(header in "\\PC{0,60}") {
            let _ = token(&header, header.len() % 2 == 0);
        }
    }
}
