//! The command line: the same commands do the same and print the same, whether a server runs or not.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::program::{Running, configure, program};
use crate::support::ws::Client;
use crate::support::{ADMIN_PASSWORD, DEADLINE, http};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

/// Runs a command with `input` on its standard input.
async fn run_with(at: &Path, args: &[&str], input: &str) -> Output {
    let all = [&["--config", "c.toml"], args].concat();
    let mut child = program(at, &all).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await; // it may not want any
    drop(stdin);
    timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap()
}

/// Runs a command that succeeds and returns its standard output.
async fn run(at: &Path, args: &[&str]) -> String {
    let output = run_with(at, args, "").await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with `--json` that succeeds and returns its output.
async fn json(at: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&run(at, &[args, &["--json"]].concat()).await).unwrap()
}

/// Runs a command that fails and returns its standard error.
async fn refused(at: &Path, args: &[&str]) -> String {
    let output = run_with(at, args, "").await;
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

async fn add_user(at: &Path, name: &str) -> Value {
    let output = run_with(at, &["user", "add", name, "--json"], "correct horse\n").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that can be done, with names that end in `n`.
async fn walk(at: &Path, n: &str) {
    let ana = format!("ana{n}");
    let id = add_user(at, &ana).await["id"].clone();
    assert!(refused(at, &["user", "add", &ana]).await.contains("no password on standard input"));
    let users = json(at, &["user", "list"]).await;
    assert!(users.as_array().unwrap().iter().any(|user| user["username"] == ana && user["role"] == "user"));
    assert!(run(at, &["user", "list"]).await.starts_with("ID  NAME"));

    let lamp = json(at, &["device", "add", "lamp", "--user", &ana, "--serial", n, "--primary"]).await["id"].to_string();
    assert_eq!(json(at, &["device", "bind", &lamp, "admin"]).await["user_ids"].as_array().unwrap().len(), 2);
    assert_eq!(json(at, &["device", "unbind", &lamp, "admin"]).await["user_ids"], json!([id]));
    assert!(refused(at, &["device", "unbind", &lamp, &ana]).await.contains("has no other user"));
    assert_eq!(json(at, &["device", "list", "--user", &ana]).await[0]["serial"], n);

    let token = run(at, &["token", "create", &ana, "--label", "door"]).await;
    assert!(token.starts_with("qlt_") && token.lines().count() == 1, "nothing but the token");
    run(at, &["token", "create", "--device", &lamp]).await;
    assert!(refused(at, &["token", "create", &ana, "--service"]).await.contains("not allowed"));
    assert!(refused(at, &["token", "create", &ana, "--scope", "send"]).await.contains("scopes are for tokens of kind"));
    let args = ["token", "create", "admin", "--kind", "service", "--scope", "send", "--scope", "read", "--label", n];
    let made = json(at, &args).await;
    assert_eq!((&made["kind"], &made["scopes"]), (&json!("service"), &json!(["send", "read"])));
    assert!(run(at, &["token", "list", "admin"]).await.contains("send, read"));
    run(at, &["token", "delete", &made["id"].to_string()]).await;
    let tokens = json(at, &["token", "list", &ana]).await;
    assert_eq!((tokens[0]["label"].as_str(), tokens[1]["kind"].as_str()), (Some("door"), Some("device")));
    run(at, &["token", "delete", &tokens[0]["id"].to_string()]).await;
    assert!(refused(at, &["token", "revoke", &tokens[0]["id"].to_string()]).await.contains("no such token"));

    let sent = json(at, &["send", &ana, r#"{"b":1.0,"a":1}"#, "--type", "notice", "--ttl", "60"]).await;
    assert_eq!((sent["type"].as_str(), sent["message"].to_string().as_str()), (Some("notice"), r#"{"a":1,"b":1.0}"#));
    json(at, &["send", "--device", &lamp, "[1]"]).await;
    json(at, &["send", &format!("id:{id}"), "\"again\""]).await;
    assert!(refused(at, &["send", &ana, "{oops"]).await.contains("the message is not JSON"));
    assert!(refused(at, &["send", "{}"]).await.contains("no recipient"));
    assert!(refused(at, &["send", &ana, "--device", &lamp, "{}"]).await.contains("more than one recipient"));
    assert!(refused(at, &["send", "nobody", "{}"]).await.contains("no such user: nobody"));
    let waiting = json(at, &["queue", "list"]).await;
    let of = |name: String| waiting.as_array().unwrap().iter().find(|row| row["recipient"] == name).unwrap()["messages"].clone();
    assert_eq!((of(format!("user:{id}")), of(format!("device:{lamp}"))), (json!(2), json!(1)));
    assert_eq!(json(at, &["queue", "list", &ana]).await["messages"], 2);
    assert!(refused(at, &["queue", "clear"]).await.contains("no mailbox"));
    assert_eq!(json(at, &["queue", "clear", &ana]).await["messages"], 2);
    assert_eq!(json(at, &["queue", "clear", "--all", "--yes"]).await["messages"], 1);

    assert_eq!(json(at, &["user", "disable", &ana]).await["disabled"], true);
    assert_eq!(json(at, &["user", "enable", &ana]).await["disabled"], false);
    assert_eq!(json(at, &["user", "role", &ana, "admin"]).await["role"], "admin");
    assert!(run_with(at, &["user", "passwd", &ana], "another horse\n").await.status.success());
    assert!(refused(at, &["user", "disable", "id:x"]).await.contains("a number must follow id:"));
    assert_eq!(json(at, &["check"]).await["wrong"], 0);
    run(at, &["device", "remove", &lamp]).await;
    run(at, &["user", "remove", &ana, "--yes"]).await;
    assert!(refused(at, &["user", "remove", &ana, "--yes"]).await.contains("no such user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_give_same_results_with_and_without_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    assert!(refused(at, &["status"]).await.contains("No data directory at "));
    assert!(!at.join("data").exists(), "asking makes nothing");
    let server = Running::configured(at, "").await;
    let status = json(at, &["status"]).await;
    assert_eq!((status["running"].as_bool(), status["listen"].as_str()), (Some(true), Some(server.address.to_string().as_str())));
    walk(at, "1").await;
    assert!(refused(at, &["compact"]).await.contains("stop it before"));
    assert!(refused(at, &["check", "--repair"]).await.contains("stop it before"));
    let socket = std::fs::symlink_metadata(at.join("data/admin.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let answer = http::call(server.address, "POST", "/console/users/1/tokens", "", "{}").await;
    assert_eq!(answer.status, 404, "nothing of it on the network: {}", answer.text);
    server.stop().await;
    assert!(!at.join("data/admin.sock").exists());

    let stopped = run_with(at, &["status", "--json"], "").await;
    assert_eq!((stopped.status.code(), stopped.stderr.len()), (Some(3), 0));
    assert_eq!(serde_json::from_slice::<Value>(&stopped.stdout).unwrap()["running"], false);
    walk(at, "2").await;
    assert!(json(at, &["compact"]).await["after"].as_u64().unwrap() > 0);
    assert!(refused(at, &["tail"]).await.contains("no running server"));
    assert!(!at.join("data/admin.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_running_server_is_restored_into_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    add_user(at, "ana").await;
    let token = run(at, &["token", "create", "ana"]).await.trim().to_owned();
    json(at, &["send", "ana", "\"kept\""]).await;
    let epoch = json(at, &["status"]).await["epoch"].clone();
    assert_eq!(json(at, &["backup", "b"]).await["epoch"], epoch);
    assert_eq!(std::fs::metadata(at.join("b")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(at, &["restore", "b"]).await.contains("is not empty"), "not over a server's data");
    for (to, why) in [("data", "it exists and is not a regular file"), ("nowhere/b", "No such file or directory")] {
        let said = refused(at, &["backup", to]).await;
        assert!(said.contains(&format!("can't write {to}: ")) && said.contains(why), "{said}");
    }
    std::fs::write(at.join("notes"), "mine").unwrap();
    assert!(refused(at, &["backup", "notes"]).await.contains("notes exists and is no backup"));
    assert_eq!(std::fs::read(at.join("notes")).unwrap(), b"mine");
    // What killed backups have left is removed; what may belong to a running one is not.
    let drafts = [(".qy-lty-backup-old", 3600), (".qy-lty-backup-new", 0)].map(|(name, age)| {
        let file = std::fs::File::create(at.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        at.join(name)
    });
    json(at, &["backup", "b"]).await;
    assert_eq!(drafts.map(|draft| draft.exists()), [false, true]);
    std::os::unix::fs::symlink("b", at.join("link")).unwrap();
    assert!(refused(at, &["backup", "link"]).await.contains("not a regular file"), "what a link leads to is not overwritten");
    let lost = json(at, &["send", "ana", "\"lost\""]).await["id"].as_u64().unwrap();
    server.kill().await;

    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    let good = std::fs::read(at.join("b")).unwrap();
    let mut bad = good.clone();
    *bad.get_mut(good.len() / 2).unwrap() ^= 1;
    std::fs::write(at.join("bad"), bad).unwrap();
    assert!(refused(at, &["restore", "bad"]).await.contains("damaged"));
    assert!(refused(at, &["restore", "c.toml"]).await.contains("not a backup of qy-lty"));
    assert!(refused(at, &["restore", "missing"]).await.contains("can't read missing"));
    let restored = json(at, &["restore", "b"]).await;
    assert_eq!((&restored["epoch"], restored["new_epoch"] != epoch), (&epoch, true));
    assert_eq!(json(at, &["check"]).await["wrong"], 0);
    let server = Running::configured(at, "").await;
    assert_eq!(json(at, &["status"]).await["epoch"], restored["new_epoch"]);
    assert_eq!(json(at, &["queue", "list", "ana"]).await["messages"], 1);
    http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let hello = Client::open(server.address, &format!("/ws/device/?token={token}&since={lost}"), &[]).await.unwrap().json().await;
    assert_eq!((&hello["recovered"], &hello["pending"]), (&json!(false), &json!(1)), "what came after the backup is lost");
    assert!(json(at, &["send", "ana", "\"new\""]).await["id"].as_u64().unwrap() > lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_does_not_start_after_a_restore_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    add_user(at, "ana").await;
    json(at, &["backup", "b"]).await;
    server.kill().await;
    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    let backup = std::fs::read(at.join("b")).unwrap();
    let mut command = program(at, &["--config", "c.toml", "restore", "-"]);
    let mut restoring = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = restoring.stdin.take().unwrap();
    input.write_all(&backup[..backup.len() - 1]).await.unwrap();
    input.flush().await.unwrap();
    let staged = at.join("data/store.new");
    timeout(DEADLINE, async {
        while !staged.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    restoring.kill().await.unwrap();
    for command in ["serve", "check"] {
        let said = refused(at, &[command]).await;
        assert!(said.contains("a restore into this data directory was cut off: run it again"), "{said}");
    }
    json(at, &["restore", "b"]).await;
    let server = Running::configured(at, "").await;
    assert_eq!(json(at, &["user", "list"]).await.as_array().map(Vec::len), Some(2));
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_messages_of_user_and_broadcasts() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    for name in ["ana", "bob"] {
        add_user(at, name).await;
    }
    let mut tail = program(at, &["--config", "c.toml", "tail", "ana", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // It follows from some moment on; so messages are sent until one is printed.
    let mut sent = 0;
    let first = loop {
        sent += 1;
        json(at, &["send", "bob", "0"]).await;
        json(at, &["send", "ana", &sent.to_string(), "--live"]).await;
        if let Ok(line) = timeout(std::time::Duration::from_millis(200), lines.next_line()).await {
            break line.unwrap().unwrap();
        }
        assert!(sent < 50);
    };
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((first["recipient"].as_str(), &first["id"]), (Some("user:2"), &Value::Null));
    assert_eq!(json(at, &["send", "ana", "1", "--live"]).await["recipients"], 0, "who looks on is no recipient");
    json(at, &["send", "--all", "\"everybody\""]).await;
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_ne!(line["recipient"], "user:3");
        if line["recipient"] == "all" {
            assert_eq!(
                (line["message"]["message"].as_str(), line["message"]["sender"].as_str()),
                (Some("everybody"), Some("console"))
            );
            break;
        }
    }
    server.kill().await; // what follows it ends
    assert!(!timeout(DEADLINE, tail.wait()).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_repair_quarantines_damaged_records() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.kill().await;
    add_user(at, "ana").await;
    {
        let db = sled::Config::new().path(at.join("data/store")).segment_size(1 << 20).open().unwrap();
        db.open_tree("users").unwrap().insert(9u64.to_be_bytes(), "{").unwrap();
        db.open_tree("user_names").unwrap().remove("ana").unwrap();
        db.flush().unwrap();
    }
    let said = refused(at, &["check"]).await;
    assert!(said.contains("3 findings; `qy-lty check --repair`"), "{said}");
    let repaired = json(at, &["check", "--repair"]).await;
    assert_eq!((repaired["wrong"].as_u64(), &repaired["findings"][0]["tree"]), (Some(3), &json!("users")));
    let place = Path::new(repaired["quarantine"].as_str().unwrap());
    assert!(at.join(place).join("left-behind.jsonl").exists());
    assert_eq!(json(at, &["check"]).await["wrong"], 0);
    let _server = Running::configured(at, "").await;
    assert!(json(at, &["send", "ana", "1"]).await["id"].is_u64(), "found by name again");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_root_keep_owner_of_data_directory() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can do this");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.kill().await;
    // As systemd keeps the directories of dynamic users: behind one that only root may enter.
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o700)).unwrap();
    let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
    let own = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(at.join("data")).status();
    assert!(own.unwrap().success());
    add_user(at, "ana").await;
    run(at, &["backup", "b"]).await;
    assert_eq!(owner(&at.join("b")), 0, "root's own");
    run(at, &["compact"]).await;
    let mut looked = 0;
    for place in ["data", "data/store"] {
        for entry in std::fs::read_dir(at.join(place)).unwrap() {
            assert_eq!(owner(&entry.unwrap().path()), 65534);
            looked += 1;
        }
    }
    assert!(looked > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commands_wait_and_closed_stdout_is_tolerated() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.kill().await;
    add_user(at, "ana").await;
    let sends: Vec<_> = (0..3)
        .map(|n| {
            tokio::spawn({
                let at = at.to_owned();
                async move { json(&at, &["send", "ana", &n.to_string()]).await["id"].as_u64().unwrap() }
            })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for send in sends {
        assert!(ids.insert(send.await.unwrap()));
    }
    assert_eq!(json(at, &["queue", "list", "ana"]).await["messages"], 3);
    // A reader that goes before it has read.
    let mut child = program(at, &["--config", "c.toml", "user", "list"]).spawn().unwrap();
    drop(child.stdout.take());
    assert!(timeout(DEADLINE, child.wait()).await.unwrap().unwrap().success());
    assert!(!at.join("data/admin.sock").exists(), "it tidied up all the same");
}

#[tokio::test]
async fn completions_complete_second_word() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    for shell in ["zsh", "fish"] {
        assert!(run(dir.path(), &["completions", shell]).await.contains("restore"));
    }
    std::fs::write(dir.path().join("complete"), run(dir.path(), &["completions", "bash"]).await).unwrap();
    let asked = "source ./complete; COMP_WORDS=(qy-lty user ''); COMP_CWORD=2; _qy__lty qy-lty '' user; echo ${COMPREPLY[@]}";
    let said = std::process::Command::new("bash").args(["-c", asked]).current_dir(dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("set-password"), "the second word, too: {said:?}");
}

/// Runs a command whose standard output can't be written to.
async fn run_unseen(at: &Path, args: &[&str], input: &str) -> Output {
    let all = [&["--config", "c.toml"], args].concat();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = program(at, &all).stdin(Stdio::piped()).stdout(full).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await; // it may not want any
    drop(stdin);
    timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_was_carried_out_is_no_failure_though_nothing_can_be_shown() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    let server = Running::configured(at, "").await;
    for (args, input) in [
        (&["user", "create", "ana"][..], "correct horse\n"),
        (&["user", "create", "bob"], "correct horse\n"),
        (&["user", "set-password", "ana"], "another horse\n"),
        (&["user", "set-role", "ana", "admin"], ""),
        (&["user", "disable", "bob"], ""),
        (&["user", "enable", "bob"], ""),
        (&["device", "create", "lamp", "--user", "ana"], ""),
        (&["device", "bind", "1", "bob"], ""),
        (&["device", "unbind", "1", "bob"], ""),
        (&["send", "ana", "\"x\""], ""),
        (&["send", "--all", "\"x\"", "--live"], ""),
        (&["queue", "clear", "ana"], ""),
        (&["send", "ana", "\"kept\""], ""),
        (&["device", "delete", "1"], ""),
        (&["user", "delete", "bob", "--yes"], ""),
        (&["check", "--acknowledge"], ""),
        (&["backup", "b"], ""),
    ] {
        for json in [&[][..], &["--json"]] {
            // The second time, some are refused: what was done is not there any more.
            let output = run_unseen(at, &[args, json].concat(), input).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if json.is_empty() {
                assert!(output.status.success(), "{args:?}: {said}");
            }
            assert_eq!(output.status.success(), said.contains("done, but the result can't be shown"), "{args:?}: {said}");
        }
    }
    assert_eq!(json(at, &["queue", "list", "ana"]).await["messages"], 2);
    let users = json(at, &["user", "list"]).await;
    assert_eq!(
        users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect::<Vec<_>>(),
        ["admin", "ana"]
    );
    // A token that nobody has seen is none; and what only asks has failed.
    assert!(!run_unseen(at, &["token", "create", "ana"], "").await.status.success());
    assert_eq!(json(at, &["token", "list", "ana"]).await, json!([]));
    assert!(!run_unseen(at, &["user", "list"], "").await.status.success());
    server.stop().await;
    for args in [&["send", "ana", "1"][..], &["compact"], &["check", "--repair"]] {
        let output = run_unseen(at, args, "").await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    assert!(run_unseen(at, &["restore", "b"], "").await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_that_cannot_be_read_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.kill().await;
    let _ = std::fs::remove_file(at.join("data/admin.sock"));
    let listener = tokio::net::UnixListener::bind(at.join("data/admin.sock")).unwrap();
    // A server of another version: it has done it, and its reply has half a character, or breaks off.
    tokio::spawn(async move {
        for n in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut head = vec![0; 4096];
            let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await else { continue };
            let (length, body) =
                if n % 2 == 0 { (40, "{\"data\":{\"message\":\"\\ud83d\"}}           ") } else { (500, "{\"data\":") };
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    let mut seen = 0;
    for _ in 0..4 {
        let output = run_with(at, &["send", "--all", "\"x\""], "").await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && output.stdout.is_empty(), "{said}");
        seen += usize::from(said.contains("done, but the server's reply can't be read"));
    }
    assert_eq!(seen, 4);
}

/// Where no server runs, commands serve the socket for as long as they take, and others use it.
#[tokio::test(flavor = "multi_thread")]
async fn question_to_a_command_that_ends_is_asked_again_and_a_change_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.kill().await;
    let socket = at.join("data/admin.sock");
    // Ends as soon as it has a request, without an answer.
    let serve = || {
        let _ = std::fs::remove_file(&socket);
        let (listener, socket) = (tokio::net::UnixListener::bind(&socket).unwrap(), socket.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                if let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await {
                    return std::fs::remove_file(&socket).unwrap();
                }
            }
        })
    };
    let other = serve();
    assert_eq!(json(at, &["queue", "list"]).await, json!([]));
    other.await.unwrap();
    let other = serve();
    let said = refused(at, &["send", "--all", "1"]).await;
    assert!(said.contains("may have done it or not"), "{said}");
    other.await.unwrap();
    assert_eq!(json(at, &["queue", "list"]).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_no_recipient_could_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for message in [r#""\ud83d""#, r#"{"\ude00":1}"#, "1e400", &deep] {
        let said = refused(at, &["send", "--all", message, "--json"]).await;
        assert!(said.contains("the message can't be read by every recipient"), "{said}");
    }
    for message in [r#""\ud83d""#, r#"{"\ude00":1}"#, &deep] {
        let said = refused(at, &["send", "--all", message]).await;
        assert!(said.contains("the message can't be read by every recipient"), "{said}");
    }
    for message in [r#""\ud83d\ude00""#, "\"😀\"", "1e300"] {
        assert!(json(at, &["send", "--all", message]).await["id"].is_u64());
    }
    assert_eq!(json(at, &["queue", "clear", "--all", "--yes"]).await["messages"], 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn password_is_the_same_however_its_line_ends() {
    let spellings = ["correct horse", "correct horse\n", "correct horse\r\n", "\u{feff}correct horse\n", "correct horse\n\n"];
    for text in spellings {
        for credential in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path();
            configure(at, "");
            let mut command = program(at, &["serve", "--config", "c.toml"]);
            if credential {
                std::fs::write(at.join("admin-password"), text).unwrap();
                command.env("CREDENTIALS_DIRECTORY", at).env("QY_LTY_ADMIN_PASSWORD", "\n");
            } else {
                command.env("QY_LTY_ADMIN_PASSWORD", text);
            }
            let server = Running::spawn(command).await;
            http::log_in(server.address, "admin", "correct horse").await;
            if !credential {
                let made = run_with(at, &["user", "create", "ana"], text).await;
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                http::log_in(server.address, "ana", "correct horse").await;
                let changed = run_with(at, &["user", "set-password", "ana"], &text.replace("horse", "mule ")).await;
                assert!(changed.status.success());
                http::log_in(server.address, "ana", "correct mule ").await; // blanks are a part of it
            }
            server.stop().await;
        }
    }
}
