//! `/api/monitor/connections`: names, filters, lag, and closing one.

use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{Server, eventually};
use serde_json::{Value, json};

/// The connections that a query selects.
async fn listed(server: &Server, query: &str) -> Vec<Value> {
    let admin = server.admin().await;
    let answer = server.get(&format!("/api/monitor/connections?{query}"), Some(&admin)).await.ok();
    answer["data"]["connections"].as_array().unwrap().clone()
}

#[tokio::test]
async fn connections_are_listed_with_the_names_of_user_device_and_client() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let lamp = server.device_token(&ana.token, device).await;
    let _phone = server.ws(&format!("/ws/device/?token={}&client=phone", ana.token)).await;
    let _lamp = server.connect(&lamp).await;
    let _looker = server.ws(&format!("/ws/device/?token={}&peek=1", ana.token)).await;
    eventually("all are listed", async || listed(&server, "").await.len() == 3).await;
    let all = listed(&server, "").await;
    let (phone, lamp, looker) = (&all[0], &all[1], &all[2]);
    assert_eq!((&phone["username"], &phone["user_id"], &phone["client"]), (&json!("ana"), &json!(ana.id), &json!("phone")));
    assert_eq!((&phone["device_id"], &phone["device_name"], &phone["lag"]), (&Value::Null, &Value::Null, &json!(0)));
    assert_eq!((&lamp["device_name"], &lamp["client"]), (&json!("lamp"), &json!(format!("device:{device}"))));
    assert_eq!(looker["client"], Value::Null);
}

#[tokio::test]
async fn filters_select_connections_and_pages_go_on_behind_them() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, true).await;
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(server.ws(&format!("/ws/device/?token={}&client=c{n}", ana.token)).await);
        all.push(server.ws(&format!("/ws/device/?token={}&client=c{n}", bob.token)).await);
    }
    eventually("all are listed", async || listed(&server, "").await.len() == 6).await;
    for (query, count) in [
        (format!("user_id={}", ana.id), 3),
        (format!("user_id={}&client=c1", bob.id), 1),
        ("client=c2".into(), 2),
        (format!("device_id={device}"), 3),
        ("address=127.0.0.1".into(), 6),
        ("address=127.0.0.0/8".into(), 6),
        ("address=10.0.0.0/8".into(), 0),
        ("user_id=999".into(), 0),
    ] {
        assert_eq!(listed(&server, &query).await.len(), count, "{query}");
    }
    let admin = server.admin().await;
    let page = |after: u64| {
        let (server, path) = (&server, format!("/api/monitor/connections?user_id={}&limit=2&after={after}", bob.id));
        let admin = admin.clone();
        async move { server.get(&path, Some(&admin)).await.ok()["data"].clone() }
    };
    let first = page(0).await;
    assert_eq!(first["connections"].as_array().unwrap().len(), 2);
    let second = page(first["next"].as_u64().unwrap()).await;
    assert_eq!((second["connections"].as_array().unwrap().len(), &second["next"]), (1, &Value::Null));
    for query in ["user_id=x", "device_id=-1", "address=here"] {
        let answer = server.get(&format!("/api/monitor/connections?{query}"), Some(&admin)).await.expect(400);
        let field = query.split('=').next().unwrap();
        assert!(answer["message"].as_str().unwrap().starts_with(field), "{answer}");
    }
}

#[tokio::test]
async fn lag_is_what_waits_to_be_written_and_not_what_was_received() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut reads = server.connect(&ana.token).await;
    for n in 0..5 {
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": n})).await.ok();
        reads.json().await;
    }
    eventually("nothing waits", async || listed(&server, "").await[0]["lag"] == 0).await;
    drop(reads);
    eventually("it is gone", async || listed(&server, "").await.is_empty()).await;
    // One that proves nothing has a window of a few messages in flight: the others wait to be written.
    for n in 0..40 {
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": n})).await.ok();
    }
    let path = format!("/ws/device/?token={}&client=stuck", ana.token);
    let _stuck = Raw::open(server.address, &path).await;
    eventually("the rest waits", async || {
        listed(&server, "").await.first().is_some_and(|item| (20..40).contains(&item["lag"].as_u64().unwrap()))
    })
    .await;
}

#[tokio::test]
async fn closed_connection_gets_1001_and_may_return() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let admin = server.admin().await;
    let mut client = server.connect(&ana.token).await;
    let id = listed(&server, "").await[0]["id"].as_u64().unwrap();
    let path = format!("/api/monitor/connections/{id}");
    server.delete(&path, &ana.token).await.expect(403);
    server.delete(&path, &admin).await.ok();
    assert_eq!(client.closed().await, 1001);
    eventually("it is gone", async || server.delete(&path, &admin).await.status == 404).await;
    let _again = server.connect(&ana.token).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(listed(&server, "").await.len(), 1, "it may come back at once");
}
