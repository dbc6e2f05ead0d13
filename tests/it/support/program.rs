//! The program, as a process.

use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{ADMIN_PASSWORD, DEADLINE, eventually};

/// Returns the program with arguments, to be run in directory `at`. Its output is piped.
pub fn program(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qy-lty"));
    without_settings(command.args(args).current_dir(at));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Removes the variables for the tests themselves, or for another server.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"QY_LTY_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG")
}

/// The same, for a command that is waited for without a runtime.
pub fn without_std_settings(command: &mut std::process::Command) -> &mut std::process::Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"QY_LTY_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG")
}

/// Runs a command to its end.
pub async fn output(mut command: Command) -> Output {
    timeout(DEADLINE, command.output()).await.expect("ends in time").unwrap()
}

/// Writes a configuration that begins in `[server]` with a free port.
pub fn configure(at: &Path, toml: &str) {
    std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"127.0.0.1:0\"\n{toml}\n")).unwrap();
}

/// The output of a process so far. A thread reads it, so that no full pipe holds the process up.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Captured {
    fn of(fd: OwnedFd) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (to, mut from) = (text.clone(), std::fs::File::from(fd));
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                to.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Self { text, reading }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// Reads to the end; the process has ended.
    fn whole(self) -> String {
        self.reading.join().unwrap();
        String::from_utf8(Arc::into_inner(self.text).unwrap().into_inner().unwrap()).unwrap()
    }
}

/// A running server.
pub struct Running {
    pub child: Child,
    /// Its listening address, as it is in the log.
    pub address: SocketAddr,
    out: Option<Captured>,
    log: Captured,
}

impl Running {
    /// Starts the program with `toml`, which begins in `[server]`, and with [`ADMIN_PASSWORD`].
    pub async fn configured(at: &Path, toml: &str) -> Self {
        configure(at, toml);
        let mut command = program(at, &["serve", "--config", "c.toml"]);
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
        Self::spawn(command).await
    }

    /// Starts the program with no more than a free port, and so with a password that it makes and prints.
    pub async fn start(at: &Path) -> Self {
        configure(at, "");
        Self::spawn(program(at, &["serve", "--config", "c.toml"])).await
    }

    /// Starts a command and waits until it serves.
    pub async fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().map(|out| Captured::of(out.into_owned_fd().unwrap()));
        let log = Captured::of(child.stderr.take().unwrap().into_owned_fd().unwrap());
        let mut address = None;
        eventually("the program serves", async || {
            let text = log.so_far();
            let found = text.split_once("serving address=").and_then(|(_, rest)| rest.split_once(' '));
            address = found.map(|(address, _)| address.parse().unwrap());
            assert!(address.is_some() || !log.reading.is_finished(), "the program has ended: {text}");
            address.is_some()
        })
        .await;
        Self { child, address: address.unwrap(), out, log }
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        self.log.so_far()
    }

    /// Returns what it has printed so far.
    pub fn printed(&self) -> String {
        self.out.as_ref().map(Captured::so_far).unwrap_or_default()
    }

    /// Its resident memory in bytes, and the most it has been since [`Running::forget_peak`].
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    /// Makes the peak of its memory start anew.
    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id().unwrap()), "5").unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("ends in time").unwrap()
    }

    /// Kills it and waits for its end.
    pub async fn kill(mut self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Shuts it down, which must succeed; returns all that it printed, and its log.
    pub async fn stop(mut self) -> (String, String) {
        self.signal("TERM");
        assert_eq!(self.ended().await.code(), Some(0), "{}", self.log());
        self.outputs()
    }

    /// Returns all that it printed, and its log; it has ended.
    pub fn outputs(self) -> (String, String) {
        (self.out.map(Captured::whole).unwrap_or_default(), self.log.whole())
    }
}
