//! Browsers: log-in with a cookie, its CSRF token, security headers, and CORS.

use crate::support::http::Browser;
use crate::support::raw::{HERE, Reply, ask, exchange};
use crate::support::{ADMIN_PASSWORD, Answer, Server, unlimited};
use serde_json::{Value, json};

const LAMP: &str = r#"{"name":"lamp"}"#;

/// The attributes of the cookie that an answer sets, and its value.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 1);
    let mut parts = answer.headers["set-cookie"].to_str().unwrap().split("; ").map(str::to_owned);
    let first = parts.next().unwrap();
    let (name, value) = first.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    let mut attributes: Vec<String> = parts.collect();
    attributes.sort();
    // Browsers accept a cookie with this prefix from its own host alone, and only over HTTPS.
    let secure = attributes.contains(&"Secure".to_owned());
    assert_eq!(name, if secure { "__Host-qy_lty_session" } else { "qy_lty_session" });
    (value, attributes)
}

#[tokio::test(flavor = "multi_thread")]
async fn host_is_required_once() {
    let server = Server::start().await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: x", 200),
        ("GET /healthz HTTP/1.1\r\nHost:", 200),
        ("GET /healthz HTTP/1.0", 200),
        ("GET /healthz HTTP/1.0\r\nHost: x", 200),
        ("GET /healthz HTTP/1.1", 400),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x", 400),
        ("GET /healthz HTTP/1.0\r\nHost: x\r\nhost: y", 400),
        ("POST /api/auth/login HTTP/1.1\r\nContent-Length: 0", 400),
        ("GET /ws/device/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket", 400),
        ("GET /nowhere HTTP/1.1", 400),
    ] {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let reply = exchange(stream, format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await;
        let answered = reply.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert_eq!(answered, Some(status), "{head}: {reply:?}");
        if status == 400 {
            assert!(reply.head.contains("X-Content-Type-Options: nosniff"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn browser_log_in_puts_token_only_in_cookie() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, answer) = Browser::log_in(&server, "ana", &ana.password).await;
    let (token, attributes) = cookie(&answer);
    assert_eq!(attributes, ["HttpOnly", "Max-Age=2592000", "Path=/", "SameSite=Strict"], "without TLS");
    assert!(token.starts_with("qlt_") && !answer.text.contains(&token[4..]), "{}", answer.text);
    let body = answer.ok();
    assert_eq!((&body["token"], &body["data"]["token"]), (&Value::Null, &Value::Null));
    assert_eq!(body["data"]["user"], json!({"id": ana.id, "username": "ana", "role": "user"}));
    assert!(browser.csrf.len() == 32 && !token.contains(&browser.csrf));

    // A page that is loaded again has only its cookie; the rest comes from here.
    let me = browser.call(&server, "GET", "/api/auth/me", &[], "").await;
    assert!(!me.text.contains(&token[4..]));
    let me = me.ok();
    assert_eq!((&me["data"]["csrf"], &me["data"]["username"]), (&json!(browser.csrf), &json!("ana")));
    assert_eq!(me["data"]["token"]["label"], "browser");
    assert!(me["data"]["token"]["expires_at"].is_string());
    let plain = server.get("/api/auth/me", Some(&ana.token)).await.ok();
    assert_eq!(plain["data"]["csrf"], Value::Null, "no page, no second secret");
    assert!(server.login("ana", &ana.password).await.headers.get("set-cookie").is_none(), "only who asks gets a cookie");
}

#[tokio::test]
async fn cookie_behind_https_proxy_is_secure() {
    let mut config = unlimited();
    config.server = toml::from_str("trusted_proxies = [\"127.0.0.1\"]").unwrap();
    let server = Server::with(config).await;
    let body = json!({"username": "admin", "password": ADMIN_PASSWORD, "cookie": true}).to_string();
    for (proto, secure) in [("https", true), ("http", false), ("https, http", false)] {
        let headers = [("content-type", "application/json"), ("x-forwarded-proto", proto)];
        let answer = server.raw_http("POST", "/api/auth/login", &headers, body.as_bytes()).await;
        let (token, attributes) = cookie(&answer);
        assert_eq!(attributes.contains(&"Secure".to_owned()), secure, "{proto}");
        for (name, counts) in [("__Host-qy_lty_session", secure), ("qy_lty_session", !secure)] {
            let cookie = format!("{name}={token}");
            let headers = [("cookie", cookie.as_str()), ("x-forwarded-proto", proto)];
            let answer = server.raw_http("GET", "/api/auth/me", &headers, b"").await;
            assert_eq!(answer.status.as_u16(), if counts { 200 } else { 401 }, "{proto} {name}");
        }
    }
}

#[tokio::test]
async fn cookie_without_csrf_token_changes_nothing() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let (other, _) = Browser::log_in(&server, "bob", &bob.password).await;
    let device = server.device(&ana.token, false).await;
    let path = format!("/api/devices/{device}");
    let short = &browser.csrf[..31];
    let upper = browser.csrf.to_uppercase();
    for (method, path, body) in [
        ("POST", "/api/devices", LAMP),
        ("POST", "/api/auth/ticket", ""),
        ("POST", "/api/auth/logout", ""),
        ("PATCH", &path, LAMP),
        ("PUT", &format!("{path}/primary"), ""),
        ("DELETE", &path, ""),
    ] {
        let without = browser.call(&server, method, path, &[], body).await;
        assert_eq!(without.expect(403)["code"], "csrf", "{method} {path}");
        for wrong in ["", "x", short, &upper, &other.csrf] {
            let answer = browser.call(&server, method, path, &[("x-csrf-token", wrong)], body).await;
            assert_eq!(answer.expect(403)["code"], "csrf", "{method} {path} {wrong}");
        }
    }
    browser.call(&server, "POST", "/api/devices", &[("x-csrf-token", &browser.csrf)], LAMP).await.expect(201);
    browser.call(&server, "DELETE", &path, &[("x-csrf-token", &browser.csrf)], "").await.ok();
    // A token in the request replaces the cookie: the cookie counts neither for it nor against it.
    let wrong = [("authorization", "Token wrong"), ("x-csrf-token", browser.csrf.as_str())];
    browser.call(&server, "GET", "/api/auth/me", &wrong, "").await.expect(401);
    let right = format!("Token {}", bob.token);
    let me = browser.call(&server, "GET", "/api/auth/me", &[("authorization", &right)], "").await.ok();
    assert_eq!(me["data"]["username"], "bob");
}

#[tokio::test]
async fn cookie_from_foreign_origin_is_refused() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let own = format!("http://{}", server.address);
    for (method, path, body, good) in [("GET", "/api/auth/me", "", 200), ("POST", "/api/devices", LAMP, 201)] {
        let call = async |origin: &str| {
            let headers = [("x-csrf-token", browser.csrf.as_str()), ("origin", origin)];
            browser.call(&server, method, path, &headers, body).await
        };
        assert_eq!(call("https://evil.example").await.expect(403)["code"], "foreign_origin");
        call(&own).await.expect(good);
    }
    // A foreign page cannot log a browser in, as another user perhaps.
    let body = json!({"username": "ana", "password": ana.password, "cookie": true}).to_string();
    let headers = [("content-type", "application/json"), ("origin", "https://evil.example")];
    let answer = server.raw_http("POST", "/api/auth/login", &headers, body.as_bytes()).await;
    assert!(answer.headers.get("set-cookie").is_none());
    assert_eq!(answer.expect(403)["code"], "foreign_origin");
}

#[tokio::test]
async fn logout_clears_cookie_and_revokes_token() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, answer) = Browser::log_in(&server, "ana", &ana.password).await;
    let mut client = server.connect(&cookie(&answer).0).await;
    let csrf = [("x-csrf-token", browser.csrf.as_str())];
    let out = browser.call(&server, "POST", "/api/auth/logout", &csrf, "").await;
    let (value, attributes) = cookie(&out);
    assert_eq!(
        (value.as_str(), &attributes[..]),
        ("", &["HttpOnly", "Max-Age=0", "Path=/", "SameSite=Strict"].map(String::from)[..])
    );
    out.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
    browser.call(&server, "GET", "/api/auth/me", &[], "").await.expect(401);
    server.connect(&ana.token).await; // other log-ins stay
    server.post("/api/auth/logout", &ana.token, json!({})).await.ok();
}

#[tokio::test]
async fn password_change_with_cookie_sets_new_cookie() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (old, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let body = json!({"current_password": ana.password, "new_password": "another-password"}).to_string();
    let answer = old.call(&server, "PUT", "/api/auth/password", &[("x-csrf-token", &old.csrf)], &body).await;
    let (token, _) = cookie(&answer);
    assert!(!answer.text.contains(&token[4..]));
    let csrf = answer.ok()["data"]["csrf"].as_str().unwrap().to_owned();
    let new = Browser { cookie: format!("qy_lty_session={token}"), csrf };
    old.call(&server, "GET", "/api/auth/me", &[], "").await.expect(401);
    new.call(&server, "POST", "/api/devices", &[("x-csrf-token", &new.csrf)], LAMP).await.expect(201);
}

#[tokio::test]
async fn responses_carry_security_headers() {
    let server = Server::start().await;
    let admin = format!("Token {}", server.admin().await);
    let signed = [("authorization", admin.as_str())];
    for (status, method, path, headers, body) in [
        (200, "GET", "/healthz", &[][..], ""),
        (200, "GET", "/", &[], ""),
        (200, "HEAD", "/healthz", &[], ""),
        (200, "GET", "/api/users", &signed, ""),
        (400, "POST", "/api/auth/login", &[], "{"),
        (401, "GET", "/api/auth/me", &[], ""),
        (404, "GET", "/nothing", &[], ""),
        (404, "GET", "/api/users/999", &signed, ""),
        (405, "BREW", "/healthz", &[], ""),
        (405, "POST", "/ws/device/", &[], ""),
        (415, "POST", "/api/auth/login", &[("content-type", "text/plain")], "{}"),
        (426, "GET", "/ws/device/", &[], ""),
    ] {
        let answer = ask(HERE, server.address, method, path, headers, body).await;
        let what = format!("{method} {path}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{what}");
        }
        assert!(!policy.contains("unsafe"), "{what}");
        for (name, value) in [
            ("x-content-type-options", Some("nosniff")),
            ("x-frame-options", Some("DENY")),
            ("referrer-policy", Some("no-referrer")),
            ("cache-control", Some("no-store")),
            ("strict-transport-security", None),
            ("server", None),
        ] {
            assert_eq!(answer.header(name), value, "{what}");
        }
        assert!(!answer.head.to_lowercase().contains("access-control-"), "{what}");
    }
}

const APP: &str = "https://app.example.com";

async fn preflight(server: &Server, origin: &str, headers: &str) -> Reply {
    let asks = [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", headers)];
    ask(HERE, server.address, "OPTIONS", "/api/messages", &asks, "").await
}

#[tokio::test]
async fn responses_without_listed_origins_have_no_cors_headers() {
    let server = Server::start().await;
    for origin in [APP, "null", "http://localhost:5173", &format!("http://{}", server.address)] {
        for answer in [
            preflight(&server, origin, "authorization").await,
            ask(HERE, server.address, "GET", "/healthz", &[("origin", origin)], "").await,
        ] {
            assert!(!answer.head.to_lowercase().contains("access-control-"), "{answer:?}");
        }
    }
    assert_eq!(preflight(&server, APP, "authorization").await.expect(403)["code"], "foreign_origin");
    let own = format!("http://{}", server.address);
    assert_eq!(preflight(&server, &own, "authorization").await.status, 405);
}

#[tokio::test]
async fn listed_origin_may_send_token_but_no_cookie() {
    let mut config = unlimited();
    config.server.origins = vec!["HTTPS://App.Example.com:443".into()];
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let answer = preflight(&server, APP, "authorization, content-type, idempotency-key").await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
    let methods = answer.header("access-control-allow-methods").unwrap().to_owned();
    assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].iter().all(|m| methods.contains(m)), "{methods}");
    let headers = answer.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(["authorization", "content-type", "idempotency-key"].iter().all(|h| headers.contains(h)), "{headers}");
    assert!(!headers.contains('*') && !headers.contains("csrf") && !headers.contains("cookie"), "{headers}");
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    // Refusals, too, must be readable by the page that asked.
    let token = format!("Token {}", ana.token);
    for (authorization, status) in [(token.as_str(), 200), ("Token wrong", 401)] {
        let headers = [("origin", APP), ("authorization", authorization)];
        let answer = ask(HERE, server.address, "GET", "/api/auth/me", &headers, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some(APP)), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(answer.header("vary").unwrap_or_default().to_lowercase().contains("origin"), "{answer:?}");
    }
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let headers = [("origin", APP), ("x-csrf-token", browser.csrf.as_str())];
    assert_eq!(browser.call(&server, "GET", "/api/auth/me", &headers, "").await.expect(403)["code"], "foreign_origin");

    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example", "http://app.example.com"] {
        for answer in [
            preflight(&server, origin, "authorization").await,
            ask(HERE, server.address, "GET", "/healthz", &[("origin", origin)], "").await,
        ] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn page_names_its_files_below_the_path_that_a_proxy_takes_away() {
    let page = async |server: &Server, prefix: &[&str]| {
        let mut headers = vec![("accept", "text/html")];
        headers.extend(prefix.iter().map(|prefix| ("x-forwarded-prefix", *prefix)));
        ask(HERE, server.address, "GET", "/", &headers, "").await
    };
    let mut config = unlimited();
    let strict = Server::with(config.clone()).await;
    config.server.trusted_proxies =
        toml::from_str::<toml::Value>("p = [\"127.0.0.1\"]").unwrap()["p"].clone().try_into().unwrap();
    let trusting = Server::with(config).await;
    for (server, prefix, root) in [
        (&strict, &[][..], ""),
        (&strict, &["/qy"][..], ""),
        (&trusting, &[][..], ""),
        (&trusting, &["/qy"][..], "/qy/"),
        (&trusting, &["/a/b/"][..], "/a/b/"),
        (&trusting, &["//evil.example"][..], ""),
        (&trusting, &["/x\"><script>"][..], ""),
        (&trusting, &["/a", "/b"][..], ""),
    ] {
        let page = page(server, prefix).await;
        assert_eq!(page.status, 200, "{prefix:?}");
        for file in ["app.js", "style.css", "icon.svg"] {
            assert!(page.body.contains(&format!("=\"{root}page/{file}\"")), "{prefix:?} {}", page.body);
        }
        assert!(!page.body.contains("\"/page/") && !page.body.contains("evil") && !page.body.contains("<script>"), "{prefix:?}");
    }
    // The same page is known by its tag, that of another prefix is not.
    let tag = page(&trusting, &["/qy"]).await.header("etag").unwrap().to_owned();
    assert_ne!(page(&trusting, &[]).await.header("etag").unwrap(), tag);
}

#[tokio::test]
async fn page_files_are_compressed_for_clients_that_take_gzip_and_known_by_their_tags() {
    let server = Server::with(unlimited()).await;
    let get =
        async |method: &str, path: &str, headers: &[(&str, &str)]| ask(HERE, server.address, method, path, headers, "").await;
    for (path, kind) in [
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/manifest.webmanifest", "application/manifest+json"),
        ("/page/vendor/preact.js", "text/javascript; charset=utf-8"),
        ("/worker.js", "text/javascript; charset=utf-8"),
    ] {
        let plain = get("GET", path, &[]).await;
        let zipped = get("HEAD", path, &[("accept-encoding", "br, gzip")]).await;
        assert_eq!((plain.status, zipped.status), (200, 200), "{path}");
        assert_eq!((plain.header("content-encoding"), zipped.header("content-encoding")), (None, Some("gzip")), "{path}");
        let tags = [&plain, &zipped].map(|answer| answer.header("etag").unwrap().to_owned());
        assert_ne!(tags[0], tags[1], "{path}: two forms have two tags");
        for answer in [&plain, &zipped] {
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            assert_eq!(answer.header("vary"), Some("accept, accept-encoding"), "{path}");
            assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'self'"), "{path}");
        }
        assert!(plain.body.contains(['{', '<']), "{path}");
        let known = get("GET", path, &[("accept-encoding", "gzip"), ("if-none-match", &tags[1])]).await;
        assert_eq!((known.status, known.body.as_str(), known.header("content-encoding")), (304, "", None), "{path}");
        assert_eq!(get("GET", path, &[("if-none-match", &tags[1])]).await.status, 200, "{path}");
    }
    for path in [
        "/page/",
        "/page/nothing.js",
        "/page/vendor/manifest.json",
        "/page/vendor/preact.d.ts",
        "/page/../Cargo.toml",
        "/index.html",
    ] {
        assert_eq!(get("GET", path, &[]).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn api_pages_are_for_browsers() {
    let server = Server::with(unlimited()).await;
    let get = async |path: &str, accept: &str| ask(HERE, server.address, "GET", path, &[("accept", accept)], "").await;
    let page = get("/docs", "text/html,*/*;q=0.8").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.body, get("/", "text/html").await.body);
    let slash = get("/docs/", "text/html").await;
    assert_eq!((slash.status, slash.header("location")), (308, Some("../docs")));
    assert_eq!(get("/docs", "application/json").await.status, 404);
}
