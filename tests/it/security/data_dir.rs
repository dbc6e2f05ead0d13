//! A data directory that is not ours alone: the program does not start.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::http;
use crate::support::program::{Running, configure, output, program};

/// Expects that the program ends at once, with one sentence that holds `why`, and prints nothing else: no password above all.
async fn refused(at: &Path, why: &str) {
    let output = output(program(at, &["serve", "--config", "c.toml"])).await;
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(out, "", "{said}");
    let words: Vec<&str> = said.lines().filter(|line| line.starts_with("qy-lty: ")).collect();
    assert!(words.len() == 1 && said.lines().next_back() == Some(words[0]), "one sentence, at the end: {said}");
    assert!(words[0].contains(why), "{why}: {said}");
    assert!(!said.contains("panicked") && !said.contains("serving"), "{said}");
}

fn dir_with(mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
    (dir, data)
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[tokio::test]
async fn a18_world_writable_data_directory_is_refused() {
    for mode in [0o777, 0o702, 0o1777] {
        let (dir, data) = dir_with(mode);
        refused(dir.path(), "data can be written by everybody").await;
        assert!(is_empty(&data), "{mode:o}");
        assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o7777, mode, "nothing is covered up");
    }
}

#[tokio::test]
async fn a18_symbolic_link_as_data_directory_is_refused() {
    let (dir, data) = dir_with(0o700);
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&data, &elsewhere).unwrap();
    symlink("elsewhere", &data).unwrap();
    refused(dir.path(), "data is a symbolic link").await;
    configure(dir.path(), "data_dir = \"data/\"");
    refused(dir.path(), "data is a symbolic link").await;
    assert!(is_empty(&elsewhere));
    std::fs::remove_file(&data).unwrap();
    symlink("nowhere", &data).unwrap();
    refused(dir.path(), "data is a symbolic link").await;
    assert!(!dir.path().join("nowhere").exists());
    // One level down.
    std::fs::remove_file(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    symlink("../elsewhere", data.join("store")).unwrap();
    refused(dir.path(), "store is a symbolic link").await;
    assert!(is_empty(&elsewhere));
}

#[tokio::test]
async fn a18_data_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a directory to somebody else");
        return;
    }
    let (dir, data) = dir_with(0o700);
    chown(&data, Some(65_534), None).unwrap();
    refused(dir.path(), "data belongs to user id 65534, not to the user who runs qy-lty").await;
    assert!(is_empty(&data));
}

#[tokio::test]
async fn a18_second_instance_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Running::start(dir.path()).await;
    refused(dir.path(), "another qy-lty is using").await;
    http::call(first.address, "GET", "/healthz", "", "").await.ok(); // the first one does not notice
}
