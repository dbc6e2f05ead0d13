//! The command line for people and for scripts: names, tables, questions, progress, interruptions, exit statuses, completion.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::eventually;
use crate::support::program::{Running, configure, output, program};
use crate::support::terminal::Terminal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs a command with `input` on its standard input.
async fn run_with(at: &Path, args: &[&str], input: &str) -> Output {
    let mut child = program(at, &[&["--config", "c.toml"], args].concat()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await; // it may not want any
    drop(stdin);
    tokio::time::timeout(crate::support::DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap()
}

/// Runs a command; returns its exit status, and what it has written to standard output and standard error.
async fn outcome(at: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = run_with(at, args, "").await;
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs a command that succeeds, and returns its standard output.
async fn run(at: &Path, args: &[&str]) -> String {
    let (status, printed, said) = outcome(at, args).await;
    assert_eq!(status, 0, "{args:?}: {said}");
    printed
}

/// Runs a command with `--json` that succeeds.
async fn json(at: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&run(at, &[args, &["--json"]].concat()).await).unwrap()
}

/// Runs a command that fails, and returns its error.
async fn refused(at: &Path, args: &[&str]) -> String {
    let (status, _, said) = outcome(at, args).await;
    assert_eq!(status, 1, "{args:?}: {said}");
    said
}

/// Creates users, and a device `lamp` of each.
async fn populate(at: &Path, names: &[&str]) {
    for name in names {
        let made = run_with(at, &["user", "create", name], "correct horse\n").await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        run(at, &["device", "create", "lamp", "--user", name]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_devices_are_found_by_name_and_number_where_that_is_clear() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let _server = Running::configured(at, "").await;
    populate(at, &["ana", "4"]).await;
    run(at, &["device", "create", "客厅的灯", "--user", "ana"]).await;
    // A number: of a user by id where it is nobody's name, by name where it is, and not where it is both.
    assert_eq!(json(at, &["user", "show", "2"]).await["username"], "ana");
    assert_eq!(json(at, &["user", "show", "4"]).await["id"], 3);
    populate(at, &["bob"]).await;
    let said = refused(at, &["user", "show", "4"]).await;
    assert!(said.contains("is the name of one user and the number of another; pass id:3"), "{said}");
    assert!(said.contains("id:4 for bob"), "{said}");
    assert!(refused(at, &["user", "show", "99"]).await.contains("no such user: 99"));
    // A device by its name, where that is only one's.
    assert_eq!(json(at, &["send", "--device", "客厅的灯", "1"]).await["id"], 1);
    assert_eq!(json(at, &["queue", "list", "--device", "客厅的灯"]).await["messages"], 1);
    assert_eq!(json(at, &["queue", "list", "--device", "id:3"]).await["messages"], 1);
    let said = refused(at, &["send", "--device", "lamp", "x"]).await;
    assert!(said.contains("3 devices have the name lamp: 1 of ana (2), 2 of 4 (3), 4 of bob (4); pass the number"), "{said}");
    assert!(refused(at, &["device", "show", "desk"]).await.contains("no such device: desk"));
    // What a device is called can't take the place of another.
    run(at, &["device", "rename", "4", "1"]).await;
    assert_eq!(json(at, &["device", "show", "1"]).await["id"], 1);
    assert_eq!(json(at, &["device", "show", "4"]).await["name"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_shown_renamed_and_made_primary() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    Running::configured(at, "").await.stop().await; // these need no server
    populate(at, &["ana", "bob"]).await;
    assert_eq!(json(at, &["device", "rename", "1", "desk"]).await["name"], "desk");
    assert_eq!(json(at, &["device", "primary", "desk"]).await["primary"], true);
    run(at, &["device", "bind", "desk", "bob"]).await;
    assert!(refused(at, &["device", "primary", "desk"]).await.contains("has several users; pass --user"));
    assert_eq!(json(at, &["device", "primary", "desk", "--user", "bob"]).await["primary"], true);
    let shown = run(at, &["device", "show", "desk"]).await;
    assert!(shown.contains("ana (2), bob (3)") && shown.contains("0 messages, 0 B"), "{shown}");
    assert_eq!(json(at, &["device", "show", "desk"]).await["queue"]["messages"], 0);
    run(at, &["token", "create", "ana", "--expires", "30d"]).await;
    run(at, &["send", "ana", "x", "--ttl", "1h"]).await;
    let shown = run(at, &["user", "show", "ana"]).await;
    for part in ["desk (1, primary)", "tokens", "1 message, ", " UTC (", "clients   none"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = json(at, &["user", "show", "ana"]).await;
    assert_eq!((shown["username"].as_str(), shown["devices"][0]["name"].as_str()), (Some("ana"), Some("desk")));
    assert_eq!((&shown["queue"]["messages"], shown["tokens"].as_array().map(Vec::len)), (&json!(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipt_and_history_show_what_has_become_of_messages() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let _server = Running::configured(at, "").await;
    populate(at, &["ana"]).await;
    for text in ["one", "two", "three"] {
        run(at, &["send", "ana", text]).await;
    }
    run(at, &["send", "--device", "lamp", r#"{"on":true}"#, "--type", "light"]).await;
    let receipt = run(at, &["receipt", "1"]).await;
    for part in ["status", "queued", "user ana (2)", "the operator", " UTC ("] {
        assert!(receipt.contains(part), "{part}: {receipt}");
    }
    assert_eq!(json(at, &["receipt", "4"]).await["device_id"], 1);
    assert!(refused(at, &["receipt", "99"]).await.contains("no such message"));
    let ids = |list: &Value| list.as_array().unwrap().iter().map(|message| message["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&json(at, &["history", "ana"]).await), [1, 2, 3, 4], "with those of the user's devices");
    assert_eq!(ids(&json(at, &["history", "ana", "--limit", "2"]).await), [3, 4], "the newest");
    assert_eq!(ids(&json(at, &["history", "ana", "--since", "2"]).await), [3, 4]);
    assert_eq!(ids(&json(at, &["history", "--device", "lamp"]).await), [4]);
    let shown = run(at, &["history", "ana"]).await;
    assert!(shown.starts_with("ID  SENT") && shown.contains("one\n") && shown.contains(r#"light   {"on":true}"#), "{shown}");
    assert!(refused(at, &["history"]).await.contains("no mailbox"));
    assert!(run(at, &["history", "admin"]).await.contains("No messages"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_names_times_and_columns_that_fit_chinese() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let _server = Running::configured(at, "").await;
    populate(at, &["安娜", "bob"]).await;
    run(at, &["device", "rename", "1", "客厅的灯"]).await;
    run(at, &["send", "安娜", "x"]).await;
    run(at, &["send", "--device", "1", "x"]).await;
    let devices = run(at, &["device", "list"]).await;
    let lines: Vec<&str> = devices.lines().collect();
    assert!(lines[0].starts_with("ID  NAME      SERIAL"), "{devices}");
    assert!(lines[1].starts_with("1   客厅的灯  -") && lines[1].ends_with("安娜 (2)"), "{devices}");
    assert!(lines[2].starts_with("2   lamp      -"), "{devices}");
    let queue = run(at, &["queue", "list"]).await;
    assert!(queue.contains("user:2     安娜      1") && queue.contains("device:1   客厅的灯  1"), "{queue}");
    assert!(queue.contains(" B") && (queue.contains("just now") || queue.contains(" ago")), "{queue}");
    let users = run(at, &["user", "list"]).await;
    assert!(users.lines().skip(1).all(|line| line.ends_with("just now") || line.ends_with(" ago")), "{users}");
    assert!(json(at, &["user", "list"]).await[0]["created_at"].as_str().unwrap().contains("T"), "as ever");
    assert_eq!(json(at, &["queue", "list"]).await[0].as_object().unwrap().len(), 8, "as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_asked_for_at_a_terminal_and_needs_yes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let _server = Running::configured(at, "").await;
    populate(at, &["ana"]).await;
    run(at, &["send", "ana", "x"]).await;
    let said = refused(at, &["user", "delete", "ana"]).await;
    assert!(said.contains("Delete user \"ana\" (id 2) with 0 tokens, 1 device and 1 queued message?"), "{said}");
    assert!(said.contains("pass --yes"), "{said}");
    let said = refused(at, &["queue", "clear", "--all"]).await;
    assert!(said.contains("Delete 1 queued message in 1 mailbox?") && said.contains("pass --yes"), "{said}");
    let (status, _, said) = outcome(at, &["queue", "clear", "ana", "--yes"]).await;
    assert_eq!(status, 2, "one mailbox is cleared without a question: {said}");

    let asked = async |command: &str, answer: &str| {
        let line = format!("\"$0\" --config c.toml {command}; echo status $?");
        let mut terminal = Terminal::start(at, &line, &[]);
        terminal.shows("[y/N]").await;
        terminal.types(&format!("{answer}\n"));
        let shown = terminal.shows("status ").await;
        terminal.ended().await;
        shown
    };
    let shown = asked("queue clear --all", "n").await;
    assert!(shown.contains("not confirmed, nothing was done") && shown.contains("status 1"), "{shown}");
    assert_eq!(json(at, &["queue", "list", "ana"]).await["messages"], 1);
    let shown = asked("queue clear --all", "y").await;
    assert!(shown.contains("Deleted 1 queued message") && shown.contains("status 0"), "{shown}");
    let shown = asked("user delete ana", "yes").await;
    assert!(shown.contains("Deleted user \"ana\""), "{shown}");
    assert!(refused(at, &["user", "show", "ana"]).await.contains("no such user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses_and_json_errors_tell_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let error = |said: &str| serde_json::from_str::<Value>(said.lines().last().unwrap()).unwrap()["error"].clone();
    let server = Running::configured(at, "").await;
    assert_eq!(outcome(at, &["status"]).await.0, 0);
    let (status, printed, said) = outcome(at, &["user", "show", "id:99", "--json"]).await;
    assert_eq!((status, printed.as_str()), (1, ""));
    assert_eq!(error(&said), json!({"code": "not_found", "message": "no such user"}));
    let (_, _, said) = outcome(at, &["user", "show", "nobody", "--json"]).await;
    assert_eq!(error(&said), json!({"message": "no such user: nobody"}));
    let (status, _, said) = outcome(at, &["--json", "user", "shw"]).await;
    assert_eq!((status, &error(&said)["code"]), (2, &json!("usage")));
    assert!(error(&said)["message"].as_str().unwrap().starts_with("unrecognized subcommand 'shw'"), "{said}");
    assert_eq!(outcome(at, &["user", "shw"]).await.0, 2);
    assert_eq!(outcome(at, &["help"]).await.0, 0);
    let (status, _, said) = outcome(at, &["status", "--json", "--set", "limits.x=1", "--set", "limits.y=2"]).await;
    assert_eq!((status, &error(&said)["code"]), (1, &json!("configuration")));
    assert!(
        error(&said)["message"].as_str().unwrap().starts_with("2 problems in the configuration:\n  --set limits.x: "),
        "{said}"
    );
    server.stop().await;
    let (status, printed, said) = outcome(at, &["status"]).await;
    assert!(status == 3 && printed.contains("stopped") && said.is_empty(), "{printed}{said}");
    for command in [&["tail"][..], &["link"], &["device", "pair", "ABCDEF", "admin"]] {
        let (status, _, said) = outcome(at, &[command, &["--json"]].concat()).await;
        assert_eq!((status, &error(&said)["code"]), (3, &json!("no_server")), "{command:?}");
        assert_eq!(outcome(at, command).await.0, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_at_a_terminal_only() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    let shown = async |command: &str| {
        let mut terminal = Terminal::start(at, &format!("\"$0\" --config c.toml {command}; echo status $?"), &[]);
        let shown = terminal.shows("status ").await;
        assert!(shown.contains("status 0"), "{shown}");
        terminal.ended().await;
        shown
    };
    let backup = shown("backup b").await;
    assert!(backup.contains("Writing the backup") && backup.contains("Verifying the backup"), "{backup}");
    assert!(shown("check").await.contains("Checking"));
    for command in [&["backup", "b"][..], &["check"]] {
        assert_eq!(outcome(at, command).await.2, "", "{command:?}");
    }
    server.stop().await;
    assert!(shown("check").await.contains("Checking"));
    assert!(shown("check --repair").await.contains("Repairing"));
    assert!(shown("compact").await.contains("Compacting"));
    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    assert!(shown("restore b").await.contains("Restoring"));
}

/// Returns the names of what is in a directory, hidden files included.
fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Sends a signal to a child.
fn signal(child: &tokio::process::Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_restore_and_backup_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    run(at, &["backup", "b"]).await;
    server.stop().await;
    std::fs::rename(at.join("data"), at.join("before")).unwrap();
    let backup = std::fs::read(at.join("b")).unwrap();
    for name in ["INT", "TERM"] {
        let mut restoring = program(at, &["--config", "c.toml", "restore", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = restoring.stdin.take().unwrap();
        input.write_all(&backup[..backup.len() - 1]).await.unwrap();
        input.flush().await.unwrap();
        eventually("it has begun", async || at.join("data/store.new").exists()).await;
        signal(&restoring, name);
        // Its standard input stays open: it does not wait for that.
        let ended = tokio::time::timeout(crate::support::DEADLINE, restoring.wait()).await.unwrap().unwrap();
        let mut said = String::new();
        restoring.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!((ended.code(), said.as_str()), (Some(130), "qy-lty: interrupted; nothing was restored\n"), "{name}");
        drop(input);
        assert_eq!(names(&at.join("data")), Vec::<String>::new(), "{name}");
    }
    run(at, &["restore", "b"]).await;
    assert_eq!(json(at, &["check"]).await["wrong"], 0);

    // A server that takes its time: a socket that answers the head of a reply, and a part of the backup.
    std::fs::create_dir(at.join("slow")).unwrap();
    std::fs::set_permissions(at.join("slow"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::create_dir(at.join("slow/store")).unwrap();
    let listener = tokio::net::UnixListener::bind(at.join("slow/admin.sock")).unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut head = vec![0; 4096];
            // Not of those that only look whether there is a server.
            if let Ok(1..) = stream.read(&mut head).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
                open.push(stream);
            }
        }
    });
    let before = names(at);
    let backing = program(at, &["--data-dir", "slow", "backup", "c", "--json"]).spawn().unwrap();
    eventually("it writes", async || names(at).iter().any(|name| name.starts_with(".qy-lty-backup-"))).await;
    eventually("its signals are watched", async || {
        let pid = backing.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&caught, 16).unwrap() & (1 << 14) != 0
    })
    .await;
    signal(&backing, "TERM");
    let ended = tokio::time::timeout(crate::support::DEADLINE, backing.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let error: Value = serde_json::from_slice(&ended.stderr).unwrap();
    assert_eq!(error["error"], json!({"code": "interrupted", "message": "interrupted; no backup was written"}));
    assert_eq!(names(at), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_killed_commands_are_swept_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    Running::configured(at, "").await.stop().await;
    let leave = || {
        for place in
            ["data/store.new/x", "data/store.copy/x", "data/quarantine/1/left-behind.jsonl", "data/quarantine/2/store/db"]
        {
            std::fs::create_dir_all(at.join(place).parent().unwrap()).unwrap();
            std::fs::write(at.join(place), "x").unwrap();
        }
    };
    let swept = || {
        assert!(!at.join("data/store.new").exists() && !at.join("data/store.copy").exists());
        assert_eq!(names(&at.join("data/quarantine")), ["2"], "a damaged store is kept");
    };
    for command in [&["check"][..], &["compact"], &["user", "list"]] {
        leave();
        run(at, command).await;
        swept();
    }
    leave();
    Running::configured(at, "").await.stop().await;
    swept();
}

/// Returns what a shell that runs `script` prints; `None` where there is no such shell.
fn shell(at: &Path, name: &str, script: &str) -> Option<String> {
    let path = std::env::join_paths(
        std::iter::once(Path::new(env!("CARGO_BIN_EXE_qy-lty")).parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut command = std::process::Command::new(name);
    command.args(["-c", script]).current_dir(at).env("PATH", path.unwrap()).env("LC_ALL", "C.UTF-8");
    match crate::support::program::without_std_settings(&mut command).output() {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()),
        Err(_) => {
            println!("SKIPPED: there is no {name}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_completed_from_the_running_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let complete = async |words: &[&str]| {
        let done = output(program(at, &[&["__complete", "--"][..], words].concat())).await;
        assert!(done.status.success() && done.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["user", "show", ""]).await, [""; 0], "no data");
    assert!(!at.join("data").exists());
    let server = Running::configured(at, "").await;
    populate(at, &["ana", "anton", "安娜"]).await;
    run(at, &["device", "rename", "1", "desk lamp"]).await;
    assert_eq!(complete(&["user", "show", ""]).await, ["admin", "ana", "anton", "安娜"]);
    assert_eq!(complete(&["user", "show", "an"]).await, ["ana", "anton"]);
    assert_eq!(complete(&["send", "--device", ""]).await, ["desk lamp", "lamp"]);
    assert_eq!(complete(&["device", "list", "--user=a"]).await, ["admin", "ana", "anton"]);
    assert_eq!(complete(&["client", "delete", "ana", ""]).await, ["default"; 0]);
    for words in [&["send", "ana", ""][..], &["user", "create", ""], &["--"], &[], &["backup", ""]] {
        assert_eq!(complete(words).await, [""; 0], "{words:?}");
    }
    let elsewhere = ["--data-dir", at.join("data").to_str().unwrap(), "tail", "ant"].map(str::to_owned);
    let elsewhere: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    assert_eq!(complete(&elsewhere).await, ["anton"]);

    for name in ["bash", "zsh", "fish"] {
        std::fs::write(at.join(format!("_{name}")), run(at, &["completions", name]).await).unwrap();
    }
    let bash = |words: &str, at_word: usize| {
        let script = format!(
            "source ./_bash; COMP_WORDS=({words}); COMP_CWORD={at_word}; _qy_lty_names qy-lty '' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        shell(at, "bash", &script).unwrap()
    };
    assert_eq!(bash("qy-lty user show an", 3), "ana\nanton\n");
    assert_eq!(bash("qy-lty send --device ''", 3), "desk\\ lamp\nlamp\n");
    assert!(bash("qy-lty user ''", 2).contains("set-password"), "everything else as before");
    if let Some(shown) =
        shell(at, "fish", "source ./_fish; complete -C 'qy-lty user show an'; complete -C 'qy-lty send --device l'")
    {
        // With a description, of which versions of the shell show more or less.
        let names: Vec<&str> = shown.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, ["ana", "anton", "lamp"], "{shown}");
    }
    if let Some(shown) =
        shell(at, "zsh", "autoload -U compinit; compinit -u -D; source ./_zsh; whence -w _qy_lty_names; print ${_comps[qy-lty]}")
    {
        assert_eq!(shown, "_qy_lty_names: function\n_qy-lty\n");
    }
    server.stop().await;
    assert_eq!(complete(&["user", "show", ""]).await, [""; 0], "nothing is opened for it");
    assert!(bash("qy-lty user ''", 2).contains("set-password"));
}
