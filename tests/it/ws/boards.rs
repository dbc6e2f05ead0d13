//! The libraries of small boards connect with their defaults, and keep connecting.

use serde_json::{Value, json};

use crate::support::api::Config;
use crate::support::board::{Board, LIBRARIES, Library, Seen, pause};
use crate::support::raw::{HERE, Reply};
use crate::support::raw::{ask, connect, exchange};
use crate::support::reader::path;
use crate::support::{ADMIN_PASSWORD, Server, User, eventually};

/// A server as it is without any configuration.
async fn server() -> Server {
    Server::with(Config::default()).await
}

/// Creates a user for a library. The name has no blanks.
async fn user(server: &Server, at: usize) -> User {
    server.user(&format!("board-{at}")).await
}

async fn open(library: Library, server: &Server, user: &User, query: &str) -> Board {
    let mut board = Board::connect(library, server, &path(&user.token, query)).await.unwrap();
    board.expect("connection_status").await;
    board
}

/// Queues a message of a user to itself; returns its id.
async fn note(server: &Server, user: &User, text: &str) -> u64 {
    let sent =
        server.post(&format!("/api/messages/user/{}", user.id), &user.token, json!({"type": "note", "message": text})).await;
    assert!(sent.status.is_success(), "{sent:?}");
    sent.json["data"]["id"].as_u64().unwrap()
}

async fn status(server: &Server, user: &User, id: u64) -> Value {
    server.get(&format!("/api/messages/{id}"), Some(&user.token)).await.ok()["data"]["status"].clone()
}

/// Reads until the message has been proved: the board's pong is on its way behind what it receives.
async fn proves(server: &Server, user: &User, board: &mut Board, id: u64) {
    eventually("the message is acknowledged", async || {
        board.say(&json!({"type": "ping"})).await;
        board.expect("pong").await;
        status(server, user, id).await == "acked"
    })
    .await;
}

#[tokio::test]
async fn libraries_of_boards_connect_with_their_defaults() {
    let server = server().await;
    let mut refusals = Vec::new();
    for (at, library) in LIBRARIES.into_iter().enumerate() {
        let user = user(&server, at).await;
        match Board::connect(library, &server, &path(&user.token, "")).await {
            Ok(mut board) => {
                assert_eq!(board.expect("connection_status").await["user_id"], user.id.to_string());
                board.say(&json!({"type": "chat_message", "message": "你好", "ref": "1"})).await;
                assert_eq!(board.expect("chat_response").await["ref"], "1");
                board.ping().await;
                let id = note(&server, &user, "hello").await;
                assert_eq!(board.expect("note").await["id"], id);
                proves(&server, &user, &mut board, id).await;
            }
            Err(why) => refusals.push(why),
        }
    }
    assert!(refusals.is_empty(), "{}", refusals.join("\n"));
}

#[tokio::test]
async fn boards_receive_what_waited_in_order_and_once() {
    const MESSAGES: usize = 40;
    let server = server().await;
    for (at, library) in LIBRARIES.into_iter().enumerate() {
        let user = user(&server, at).await;
        let mut ids = Vec::new();
        for number in 0..MESSAGES {
            // Beyond the receive window of a board, below the largest message.
            ids.push(note(&server, &user, &"x".repeat(number * 300)).await);
        }
        // Its power fails in the middle; the next connection goes on, at the latest with what was not proved.
        let mut board = open(library, &server, &user, "").await;
        let mut first = Vec::new();
        while first.len() < MESSAGES / 2 {
            first.push(board.expect("note").await["id"].as_u64().unwrap());
        }
        assert_eq!(first, ids[..MESSAGES / 2], "{}", library.name);
        board.drop_dead();
        pause().await;
        let mut board = open(library, &server, &user, "").await;
        let mut rest = vec![board.expect("note").await["id"].as_u64().unwrap()];
        while rest.last() != ids.last() {
            rest.push(board.expect("note").await["id"].as_u64().unwrap());
        }
        assert!(ids[..=MESSAGES / 2].contains(&rest[0]), "{}: {} is missing", library.name, rest[0]);
        assert!(ids.ends_with(&rest), "{}: {rest:?}", library.name);
        proves(&server, &user, &mut board, *ids.last().unwrap()).await;
    }
}

/// Libraries that hide close codes learn the reason from the event before the close, whatever they answer to it.
#[tokio::test]
async fn boards_with_a_wrong_token_read_why_and_are_not_kept() {
    let server = server().await;
    for library in LIBRARIES {
        let mut board = Board::connect(library, &server, &path("qlt_wrong", "")).await.unwrap();
        let event = board.expect("disconnect").await;
        assert_eq!((&event["code"], &event["reconnect"]), (&json!(4001), &json!(false)), "{}", library.name);
        let end = board.next().await;
        assert!(matches!(end, Seen::Closed(Some(4001))), "{}: {end:?}", library.name);
        assert!(matches!(board.next().await, Seen::Closed(None)), "{}", library.name);
    }
}

/// A restart of the server from a board's side: a close with 1001, a return, and nothing lost.
#[tokio::test]
async fn boards_return_after_a_clean_close() {
    let server = server().await;
    for (at, library) in LIBRARIES.into_iter().enumerate() {
        let user = user(&server, at).await;
        let mut board = open(library, &server, &user, "client=lamp").await;
        server.delete("/api/clients/lamp", &user.token).await.ok();
        let end = board.next().await;
        assert!(matches!(end, Seen::Closed(Some(1001))), "{}: {end:?}", library.name);
        let id = note(&server, &user, "meanwhile").await;
        pause().await;
        let mut board = open(library, &server, &user, "client=lamp").await;
        assert_eq!(board.expect("note").await["id"], id, "{}", library.name);
    }
}

/// With `max_bytes` in the URL a message that a board can't hold is passed over; without it, the board's close with 1009 is
/// counted, and three of them have the same effect.
#[tokio::test]
async fn message_that_a_board_cannot_hold_does_not_block_it() {
    let server = server().await;
    let small = LIBRARIES.into_iter().filter(|library| library.message_bytes < usize::MAX);
    for (at, library) in small.enumerate() {
        for (query, refusals) in [("max_bytes=15360", 0), ("", 3)] {
            let user = user(&server, 2 * at + usize::from(refusals == 0)).await;
            let large = note(&server, &user, &"x".repeat(library.message_bytes)).await;
            let after = note(&server, &user, "after").await;
            for _ in 0..refusals {
                let mut board = open(library, &server, &user, query).await;
                let end = board.next().await;
                assert!(matches!(end, Seen::TooLarge(size) if size > library.message_bytes), "{}: {end:?}", library.name);
                drop(board);
                let admin = server.admin().await;
                eventually("the connection has ended", async || {
                    server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == 0
                })
                .await;
            }
            let mut board = open(library, &server, &user, query).await;
            assert_eq!(board.expect("note").await["id"], after, "{} {query}", library.name);
            proves(&server, &user, &mut board, after).await;
            assert_eq!(status(&server, &user, large).await, "undeliverable", "{} {query}", library.name);
        }
    }
}

/// What a handshake may look like, beyond the libraries: any order of lines, any case of names and of the two tokens.
#[tokio::test]
async fn handshakes_in_any_order_and_case_are_answered_with_the_usual_names() {
    let server = server().await;
    let user = server.user("ana").await;
    let lines = [
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: file://",
    ];
    let cases: [fn(&str) -> String; 3] = [str::to_owned, lower_names, upper_names];
    for turn in 0..lines.len() {
        for case in cases {
            let mut lines = lines.map(case);
            lines.rotate_left(turn);
            let request = format!("GET {} HTTP/1.1\r\n{}\r\n\r\n", path(&user.token, ""), lines.join("\r\n"));
            let head = head(&server, request.as_bytes()).await;
            let mut found = head.lines();
            assert_eq!(found.next(), Some("HTTP/1.1 101 Switching Protocols"), "{request}{head}");
            for line in ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="] {
                assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line}: {request}{head}");
            }
            assert!(head.len() < 512, "a head of {} bytes: {head}", head.len());
        }
    }
}

fn lower_names(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap();
    format!("{}: {value}", name.to_lowercase())
}

/// Names in capitals, no blank after the colon, and the tokens in another case.
fn upper_names(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap();
    let value = match name {
        "Upgrade" => "WebSocket",
        "Connection" => "keep-alive, upgrade",
        _ => value,
    };
    format!("{}:{value}", name.to_uppercase())
}

/// Returns the head of the answer to a handshake.
async fn head(server: &Server, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = connect(HERE, server.address).await;
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(crate::support::DEADLINE, stream.read_u8()).await.expect("answers in time");
        head.push(byte.unwrap_or_else(|_| panic!("hung up after {}", String::from_utf8_lossy(&head))));
    }
    String::from_utf8(head).unwrap()
}

/// ArduinoHttpClient looks for `Content-Length: ` letter by letter; without it, it reads until a timeout.
#[tokio::test]
async fn rest_replies_name_their_length_as_boards_look_for_it() {
    let server = server().await;
    let user = server.user("ana").await;
    let token = format!("Token {}", user.token);
    let login = json!({"username": "admin", "password": ADMIN_PASSWORD}).to_string();
    let replies: [Reply; 4] = [
        ask(HERE, server.address, "GET", "/api/auth/me", &[("Authorization", &token)], "").await,
        ask(HERE, server.address, "GET", "/api/auth/me", &[], "").await,
        ask(HERE, server.address, "POST", "/api/auth/login", &[("User-Agent", "Arduino/2.2.0")], login).await,
        exchange(connect(HERE, server.address).await, b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await,
    ];
    for reply in replies {
        let length = reply.head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        assert_eq!(length, Some(reply.body.len().to_string().as_str()), "{reply:?}");
    }
}
