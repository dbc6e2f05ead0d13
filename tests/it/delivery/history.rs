//! `GET /api/messages/history`: pages of a bounded size over all mailboxes of a user.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Server, User, roomy, set};

/// The most bytes of messages in a page, unless it has a single one.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// What an answer has around its messages and between them, at most.
const ENVELOPE_BYTES: usize = 256 + 1000;

/// Messages by id: the texts of their payloads.
type Sent = BTreeMap<u64, String>;

/// Sends a text of that length to a mailbox and notes it.
async fn send(server: &Server, path: &str, token: &str, length: usize, sent: &mut Sent) {
    // Each is another one.
    let text = format!("{}{}", "z".repeat(length), sent.len());
    let answer = server.post(path, token, json!({"message": text})).await.ok();
    sent.insert(answer["data"]["id"].as_u64().unwrap(), text);
}

/// A page of a history: ids and texts, `next`, and the bytes of the answer.
async fn page(server: &Server, token: &str, query: &str) -> (Vec<(u64, String)>, Option<u64>, usize) {
    let answer = server.get(&format!("/api/messages/history?{query}"), Some(token)).await;
    let length = answer.headers["content-length"].to_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(length, answer.text.len());
    let json = answer.ok();
    assert!(json.get("next").is_none_or(Value::is_u64), "{:?}", json.get("next"));
    let message = |message: &Value| (message["id"].as_u64().unwrap(), message["message"].as_str().unwrap().to_owned());
    let messages = json["data"].as_array().unwrap().iter().map(message).collect();
    (messages, json["next"].as_u64(), length)
}

/// Follows `next` with parameter `parameter` from `start` on. Returns the messages in the order in which they came, and the number of
/// pages.
async fn walk(server: &Server, token: &str, parameter: &str, start: u64, limit: usize) -> (Vec<(u64, String)>, usize) {
    let (mut all, mut at, mut pages) = (Vec::new(), start, 0);
    loop {
        let (messages, next, bytes) = page(server, token, &format!("{parameter}={at}&limit={limit}")).await;
        pages += 1;
        assert!(messages.len() <= limit);
        assert!(bytes <= MAX_PAGE_BYTES + ENVELOPE_BYTES || messages.len() == 1, "{bytes} bytes, {} messages", messages.len());
        assert!(next.is_none_or(|next| next > at && messages.last().is_some_and(|(id, _)| *id == next)));
        all.extend(messages);
        match next {
            Some(next) => at = next,
            None => return (all, pages),
        }
    }
}

/// A user whose messages are spread over their own mailbox, three devices and the broadcasts, with sizes from a few bytes to more than
/// a page.
async fn filled(server: &Server, name: &str) -> (User, Sent) {
    let (admin, user) = (server.admin().await, server.user(name).await);
    let mut mailboxes = vec![format!("/api/messages/user/{}", user.id)];
    for _ in 0..3 {
        mailboxes.push(format!("/api/messages/device/{}", server.device(&user.token, false).await));
    }
    let mut sent = Sent::new();
    let lengths =
        [10, 255_000, 255_000, 20_000, 500_000, 1_500_000, 7, 100_000, 1_040_000, 30, 15_000, 17_000, 64_000, 5, 1_048_000];
    for (n, &length) in lengths.iter().cycle().take(60).enumerate() {
        if n % 7 == 3 {
            send(server, "/api/messages/broadcast", &admin, length.min(100_000), &mut sent).await;
        } else {
            send(server, &mailboxes[n % mailboxes.len()], &user.token, length, &mut sent).await;
        }
    }
    (user, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_short_and_together_they_are_the_history() {
    let mut config = roomy();
    set(&mut config, "limits.push_bytes", 2 << 20);
    set(&mut config, "mailbox.bytes", 64 << 20);
    let server = Server::with(config).await;
    server.post("/api/messages/broadcast", &server.admin().await, json!({"message": "before"})).await.ok();
    let (ana, sent) = filled(&server, "ana").await;
    let all: Vec<(u64, String)> = sent.into_iter().collect();
    let middle = all[all.len() / 2].0;
    for (parameter, start, limit) in [
        ("since", 0, 1000),
        ("after", 0, 1000),
        ("since", 0, 7),
        ("after", 0, 1),
        ("since", middle, 3),
        ("since", middle - 1, 1000),
        ("after", middle, 100),
        ("since", all.last().unwrap().0, 5),
        ("since", u64::MAX, 5),
    ] {
        let (found, pages) = walk(&server, &ana.token, parameter, start, limit).await;
        let wanted: Vec<_> = all.iter().filter(|(id, _)| *id > start).cloned().collect();
        assert!(found == wanted, "{parameter}={start}&limit={limit}: {} of {}", found.len(), wanted.len());
        let bytes: usize = wanted.iter().map(|(_, text)| text.len()).sum();
        assert!(pages > bytes / (2 * MAX_PAGE_BYTES) && pages <= wanted.len().max(1), "{pages}");
    }
    // Both bounds together; the lower of the two is no other list.
    let (first, ..) = page(&server, &ana.token, &format!("since={middle}&after=3&limit=1")).await;
    assert_eq!(first[0].0, all[all.len() / 2 + 1].0);
    let answer = server.http("HEAD", "/api/messages/history?limit=1000", Some(&ana.token), None).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    for wrong in ["since=x", "after=x", "limit=0", "limit=1001", "since=-1"] {
        let refused = server.get(&format!("/api/messages/history?{wrong}"), Some(&ana.token)).await.expect(400);
        assert!(refused["message"].as_str().unwrap().starts_with(wrong.split('=').next().unwrap()), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_knows_no_next_gets_the_oldest_messages_as_before() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let path = format!("/api/messages/user/{}", ana.id);
    let mut sent = Sent::new();
    for _ in 0..3 {
        send(&server, &path, &ana.token, 100, &mut sent).await;
    }
    let (messages, next, _) = page(&server, &ana.token, "").await;
    assert_eq!((messages, next), (sent.into_iter().collect(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_go_between_two_pages_end_no_list() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let path = format!("/api/messages/user/{}", ana.id);
    let mut sent = Sent::new();
    for _ in 0..20 {
        send(&server, &path, &ana.token, 200_000, &mut sent).await;
    }
    let ids: Vec<u64> = sent.keys().copied().collect();
    let (first, next, _) = page(&server, &ana.token, "limit=1000").await;
    assert_eq!((first.len(), next), (5, Some(ids[4])));
    // What has been read, the next page's first ones, and the place itself.
    for gone in [0, 4, 5, 6, 12] {
        server.delete(&format!("/api/messages/{}", ids[gone]), &ana.token).await.ok();
    }
    let (rest, _) = walk(&server, &ana.token, "since", next.unwrap(), 1000).await;
    let wanted: Vec<u64> = ids[7..].iter().copied().filter(|&id| id != ids[12]).collect();
    assert_eq!(rest.iter().map(|(id, _)| *id).collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_walks_at_once_are_all_complete() {
    let mut config = roomy();
    // Room for one page at a time.
    set(&mut config, "limits.answer_bytes", 1);
    set(&mut config, "limits.push_bytes", 2 << 20);
    set(&mut config, "mailbox.bytes", 64 << 20);
    let server = Server::with(config).await;
    let (ana, sent) = filled(&server, "ana").await;
    let all: Vec<(u64, String)> = sent.into_iter().collect();
    let walks = (0..6).map(|_| walk(&server, &ana.token, "since", 0, 1000));
    for (found, _) in futures_util::future::join_all(walks).await {
        assert!(found == all, "{} of {}", found.len(), all.len());
    }
}
