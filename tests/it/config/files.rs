//! The configuration of the program: its layers and its commands.

use std::process::Output;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::api::DEFAULT_CONFIG;
use crate::support::program::{output, program};

/// Runs the program to its end: exit code, standard output, last line of standard error.
async fn outcome(command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = output(command).await;
    let said = String::from_utf8(stderr).unwrap().lines().last().unwrap_or_default().to_owned();
    (status.code(), String::from_utf8(stdout).unwrap(), said)
}

#[tokio::test]
async fn default_config_is_printed_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let (code, file, _) = outcome(program(at, &["config", "default"])).await;
    assert_eq!(code, Some(0));
    assert_eq!(file, DEFAULT_CONFIG);
    std::fs::write(at.join("c.toml"), &file).unwrap();
    let (code, said, _) = outcome(program(at, &["config", "check", "--config", "c.toml"])).await;
    assert_eq!((code, said.as_str()), (Some(0), "The configuration c.toml is valid\n"));
    let (code, said, _) = outcome(program(at, &["config", "check", "--json"])).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(&said).unwrap()),
        (Some(0), json!({"usable": true, "file": null, "missing": []}))
    );
    let (_, shown, _) = outcome(program(at, &["config", "show"])).await;
    assert!(shown.starts_with("[server]\nlisten = \"127.0.0.1:8000\"\ndata_dir = \"data\"\n"), "{shown}");
    assert!(!shown.contains('#'), "nothing is set: {shown}");
    let (_, json, _) = outcome(program(at, &["--json", "config", "default"])).await;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["limits"]["ping_seconds"], 30);
}

#[tokio::test]
async fn config_show_names_source_of_each_setting() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[limits]\nping_seconds = 10\nconnections = 5\n[chat]\nkey = \"s3cret\"\n").unwrap();
    let command = |args: &[&str]| {
        let mut command = program(at, args);
        command.env("QY_LTY_CONFIG", "c.toml").env("QY_LTY__LIMITS__PING_SECONDS", "11");
        command.env("QY_LTY__SERVER__ORIGINS", "[\"https://a\"]").env("QY_LTY_QWEATHER_KEY", "hush");
        command.env("QY_LTY__WEATHER__QWEATHER__HOST", "h.example");
        command
    };
    let (code, shown, said) =
        outcome(command(&["config", "show", "--set", "limits.idle_seconds=40", "--listen", "[::1]:9"])).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    for line in [
        "listen = \"[::1]:9\"  # --listen",
        "origins = [\"https://a\"]  # QY_LTY__SERVER__ORIGINS",
        "ping_seconds = 11  # QY_LTY__LIMITS__PING_SECONDS",
        "idle_seconds = 40  # --set limits.idle_seconds",
        "connections = 5  # c.toml:3",
        "key = \"(hidden)\"  # c.toml:5",
        "host = \"h.example\"  # QY_LTY__WEATHER__QWEATHER__HOST",
        "key = \"(hidden)\"  # QY_LTY_QWEATHER_KEY",
        "write_seconds = 10",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    let (_, shown, _) = outcome(command(&["config", "show", "--json", "--data-dir", "elsewhere"])).await;
    assert!(!shown.contains("s3cret") && !shown.contains("hush"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["config"]["limits"]["ping_seconds"], &shown["config"]["server"]["data_dir"]),
        (&json!(11), &json!("elsewhere"))
    );
    assert_eq!(
        (&shown["sources"]["limits.connections"], &shown["sources"]["server.data_dir"]),
        (&json!("c.toml:3"), &json!("--data-dir"))
    );
}

#[tokio::test]
async fn invalid_config_is_refused_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    for (text, variable, flag, expected) in [
        ("[limits]\n\nping_second = 5\n", "", "", "c.toml:3: unknown key \"ping_second\"; did you mean \"ping_seconds\"?"),
        (
            "",
            "QY_LTY__LIMITS__PNG_SECONDS=5",
            "",
            "QY_LTY__LIMITS__PNG_SECONDS: unknown key \"png_seconds\"; did you mean \"ping_seconds\"?",
        ),
        (
            "",
            "",
            "--set=limits.connections=many",
            "--set limits.connections: must be a whole number from 0 to 4294967295, not the string \"many\"",
        ),
        (
            "",
            "",
            "--listen=nowhere",
            "--listen: must be an address and port, such as \"127.0.0.1:8000\", \"localhost:8000\" or \":8000\", not the string \"nowhere\"",
        ),
        (
            "",
            "",
            "--set=storage.memory_budget=5",
            "--set storage.memory_budget: storage.memory_budget must be at least 50331648 (48 MiB)",
        ),
        (
            "[server]\nlisten = \"127.0.0.1:0\"\n[tls]\ncert = \"no.pem\"\nkey = \"no.pem\"\n",
            "",
            "",
            "can't use no.pem: No such file or directory (os error 2)",
        ),
        ("[log]\nfilter = \"info\"\n[chat]\nurl = \"x\"\n", "", "", "c.toml:4: chat.url must begin with http:// or https://"),
    ] {
        std::fs::write(at.join("c.toml"), text).unwrap();
        for what in [&["config", "check"][..], &["serve"]] {
            let mut command = program(at, what);
            command.args(["--config", "c.toml"]).args([flag].iter().filter(|flag| !flag.is_empty()));
            if let Some((name, value)) = variable.split_once('=') {
                command.env(name, value);
            }
            let (code, printed, said) = outcome(command).await;
            assert_eq!((code, printed.as_str(), said), (Some(1), "", format!("qy-lty: {expected}")), "{what:?}");
        }
    }
    assert!(at.join("data/store").is_dir());
    // An unreadable certificate leaves no more behind than the data directory with an empty store.
    let user = program(at, &["--data-dir", "data", "user", "list", "--json"]);
    let (code, printed, said) = outcome(user).await;
    assert_eq!((code, printed.as_str()), (Some(0), "[]\n"), "{said}");
}

#[tokio::test]
async fn settings_of_all_layers_apply_to_json_log_and_data_dir() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[server]\nlisten = \"127.0.0.1:1\"\ndata_dir = \"first\"\n").unwrap();
    let mut command = program(dir.path(), &["--config", "c.toml", "--listen", "127.0.0.1:0", "--data-dir", "third"]);
    command.env("QY_LTY__SERVER__DATA_DIR", "second").env("QY_LTY__LOG__FORMAT", "json");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("the server ended");
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["target"].is_string(), "{line}");
        if line["message"] == "serving" {
            assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
            assert!(line["data"].as_str().unwrap().ends_with("third"), "{line}");
            break;
        }
    }
    assert!(dir.path().join("third").is_dir() && !dir.path().join("second").exists());
}

#[tokio::test]
async fn all_problems_are_reported_at_once_to_people_and_programs() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[limits]\nping_second = 5\nidle_seconds = \"soon\"\n\n[mailbox]\nttl = 0\n").unwrap();
    let command = |args: &[&str]| {
        let mut command = program(at, &[&["--config", "c.toml", "--listen", "nowhere"], args].concat());
        command.env("QY_LTY__LIMITS__SOCKETS", "many");
        command
    };
    let Output { status, stdout, stderr } = output(command(&["config", "check"])).await;
    assert_eq!((status.code(), stdout.len()), (Some(1), 0));
    let said = String::from_utf8(stderr).unwrap();
    let expected = [
        "qy-lty: 5 problems in the configuration:",
        "  c.toml:2: unknown key \"ping_second\"; did you mean \"ping_seconds\"?",
        "  c.toml:3: idle_seconds: must be a whole number of seconds",
        "  c.toml:6: mailbox.ttl must be at least 1",
        "  QY_LTY__LIMITS__SOCKETS: must be a whole number",
        "  --listen: must be an address and port",
    ];
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    for (line, expected) in said.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}: {expected}");
    }
    let Output { stderr, .. } = output(command(&["serve", "--json"])).await;
    let error: Value = serde_json::from_slice(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "configuration");
    assert_eq!(format!("qy-lty: {}\n", error["error"]["message"].as_str().unwrap()), said);
}

#[tokio::test]
async fn data_directory_of_a_file_is_where_the_file_is_and_no_data_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::create_dir_all(at.join("conf")).unwrap();
    std::fs::write(at.join("conf/c.toml"), "[server]\nlisten = \"localhost:0\"\ndata_dir = \"data\"\n").unwrap();
    let (_, shown, _) = outcome(program(at, &["config", "show", "--config", "conf/c.toml"])).await;
    assert!(shown.contains("data_dir = \"conf/data\"  # conf/c.toml:3"), "{shown}");
    // As a version before would have made it.
    std::fs::create_dir_all(at.join("data/store")).unwrap();
    for command in [&["serve"][..], &["user", "list"], &["config", "check"]] {
        let (code, _, said) = outcome(program(at, &[&["--config", "conf/c.toml"], command].concat())).await;
        assert_eq!(code, Some(1), "{command:?}");
        let places = format!("no data in {}, and there is in {}", at.join("conf/data").display(), at.join("data").display());
        assert!(
            said.contains("conf/c.toml:3: server.data_dir is relative to the directory of this file now")
                && said.contains(&places),
            "{said}"
        );
    }
    let (code, ..) = outcome(program(at, &["--config", "conf/c.toml", "--data-dir", "data", "config", "check"])).await;
    assert_eq!(code, Some(0));
    std::fs::rename(at.join("data"), at.join("conf/data")).unwrap();
    let (code, _, said) = outcome(program(at, &["--config", "conf/c.toml", "config", "check"])).await;
    assert_eq!(code, Some(0), "{said}");
}
