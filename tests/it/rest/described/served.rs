//! The documents as they are served.

use crate::support::Server;

#[tokio::test]
async fn documents_are_served_with_a_tag_to_anyone() {
    let server = Server::start().await;
    for (path, key, committed) in [
        ("/api/openapi.json", "openapi", include_str!("../../../../docs/api/openapi.json")),
        ("/api/asyncapi.json", "asyncapi", include_str!("../../../../docs/api/asyncapi.json")),
        ("/api/openapi.json/", "openapi", include_str!("../../../../docs/api/openapi.json")),
    ] {
        let answer = server.get(path, None).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, committed), "{path}");
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/json"), "{path}");
        assert!(answer.json[key].is_string());
        let tag = answer.headers["etag"].to_str().unwrap().to_owned();
        let again = server.raw_http("GET", path, &[("if-none-match", &tag)], b"").await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
        let stale = server.raw_http("GET", path, &[("if-none-match", "\"other\"")], b"").await;
        assert_eq!(stale.status, 200, "{path}");
        let compressed = server.raw_http("GET", path, &[("accept-encoding", "gzip")], b"").await;
        assert_eq!(compressed.headers["content-encoding"], "gzip", "{path}");
        assert!(compressed.text.len() * 4 < committed.len(), "{path}");
        let head = server.http("HEAD", path, None, None).await;
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""), "{path}");
        let posted = server.http("POST", path, None, Some("{}")).await;
        assert_eq!(posted.headers["allow"], "GET, HEAD", "{path}");
        assert_eq!(posted.expect(405)["code"], "method_not_allowed", "{path}");
    }
}
