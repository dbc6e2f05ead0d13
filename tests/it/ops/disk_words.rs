//! What a disk refuses is named, with the remedy, by the server and by every command that writes.

use std::path::Path;
use std::process::Stdio;

use crate::support::disk::Disk;
use crate::support::program::{Running, output, program};
use crate::support::{ADMIN_PASSWORD, DEADLINE};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs a command to its end; returns whether it succeeded, and its standard error.
async fn run(at: &Path, args: &[&str]) -> (bool, String) {
    let output = output(program(at, args)).await;
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_disk_is_called_that_by_everything_that_writes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), 64) else { return };
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"mnt/data\"\n").unwrap();
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    Running::spawn(command).await.stop().await;
    assert!(run(at, &["backup", "b", "--config", "c.toml"]).await.0);
    disk.set_read_only(true);
    let lines = [
        "serve",
        "serve --data-dir mnt/new",
        "serve --set tls.self_signed=true",
        "user list",
        "user disable admin",
        "device list",
        "send admin {}",
        "queue clear --all --yes",
        "status",
        "backup b2",
        "backup mnt/b2",
        "check",
        "check --repair",
        "check --acknowledge",
        "compact",
        "restore b --data-dir mnt/new",
        "man mnt/man",
    ];
    for line in lines {
        let args: Vec<&str> = line.split(' ').chain(["--config", "c.toml"]).collect();
        let (done, said) = run(at, &args).await;
        assert!(!done && said.contains("the disk is read-only") && said.contains("mount it writable"), "{line}: {said}");
        assert!(!said.contains("--repair") && said.lines().count() == 1, "{line}: {said}");
    }
    disk.set_read_only(false);
    assert!(run(at, &["check", "--config", "c.toml"]).await.0, "nothing has happened to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_is_called_that_by_what_writes_beside_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    Running::spawn(command).await.stop().await;
    assert!(run(at, &["backup", "b", "--config", "c.toml"]).await.0);
    let Some(disk) = Disk::in_memory(at, 1) else { return };
    let filler = std::fs::write(disk.path.join("filler"), vec![0; 2 << 20]);
    assert!(filler.is_err());
    for line in ["serve --data-dir mnt/new", "restore b --data-dir mnt/newer", "backup mnt/b"] {
        let args: Vec<&str> = line.split(' ').chain(["--config", "c.toml"]).collect();
        let (done, said) = run(at, &args).await;
        assert!(!done && said.contains("the disk is full") && said.contains("ree some space"), "{line}: {said}");
    }
}

/// Runs a command at a terminal where `input` is typed; returns its output.
async fn at_terminal(at: &Path, args: &[&str], input: &str) -> Option<String> {
    let inner = program(at, args);
    let words: Vec<String> = std::iter::once(inner.as_std().get_program().to_string_lossy().into_owned())
        .chain(inner.as_std().get_args().map(|arg| arg.to_string_lossy().into_owned()))
        .collect();
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(at).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let Ok(mut child) = command.spawn() else {
        println!("SKIPPED: script is missing");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap();
    drop(stdin);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_asks_before_it_replaces_what_is_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("c.toml"), "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut command = program(at, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    Running::spawn(command).await.stop().await;
    let notes = at.join("notes");
    std::fs::write(&notes, "mine").unwrap();
    let backup = ["backup", "notes", "--config", "c.toml"];
    let (done, said) = run(at, &backup).await;
    assert!(!done && said.contains("notes exists and is no backup; choose another name, or pass --force"), "{said}");
    for (typed, replaced) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let Some(said) = at_terminal(at, &backup, typed).await else { return };
        assert!(said.contains("notes exists and is no backup. Replace it? [y/N]"), "{said}");
        assert_eq!(said.contains("Wrote "), replaced, "{typed:?}: {said}");
        assert_eq!(std::fs::read(&notes).unwrap() == b"mine", !replaced);
    }
    assert!(run(at, &backup).await.0, "a backup is replaced without a question");
    std::fs::write(&notes, "mine").unwrap();
    let (done, said) = run(at, &[&backup[..], &["--force"]].concat()).await;
    assert!(done && std::fs::read(&notes).unwrap() != b"mine", "{said}");
}
