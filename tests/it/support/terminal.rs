//! The program on a terminal of its own.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::program::without_settings;
use super::{DEADLINE, eventually};

/// The interval at which it is read.
const READ_INTERVAL: Duration = Duration::from_millis(5);

/// A terminal, and the program that was started on it. It has no terminal emulator: what the program writes is kept as it is.
pub struct Terminal {
    pub child: Child,
    /// The side of an emulator, to type on, until it is closed.
    keyboard: Option<File>,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Holds the terminal open.
    reading: JoinHandle<()>,
}

/// Opens a terminal: the side of an emulator, and the one that programs have.
fn open() -> (OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    rustix::io::ioctl_fionbio(&ours, true).unwrap();
    (ours, theirs.into())
}

impl Terminal {
    /// Starts a shell command in directory `at`, with the terminal as its three streams and as the controlling terminal of its session.
    /// `$0` is the program.
    pub fn start(at: &Path, command: &str, variables: &[(&str, &str)]) -> Self {
        let (ours, theirs) = open();
        let stream = || theirs.try_clone().unwrap();
        let mut setsid = Command::new("setsid");
        setsid.args(["--ctty", "sh", "-c", command, env!("CARGO_BIN_EXE_qy-lty")]).current_dir(at).kill_on_drop(true);
        without_settings(&mut setsid).env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NOTIFY_SOCKET");
        setsid.envs(variables.iter().copied());
        let child = setsid.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let keyboard = Some(File::from(ours.try_clone().unwrap()));
        let reading = tokio::spawn(read(ours.into(), shown.clone()));
        Self { child, keyboard, shown, reading }
    }

    /// Returns what it shows so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).replace("\r\n", "\n")
    }

    /// Waits until it shows `text`, and returns all that it shows.
    pub async fn shows(&self, text: &str) -> String {
        eventually(text, async || self.shown().contains(text)).await;
        self.shown()
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.keyboard.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Closes it, as a window or a connection is closed.
    pub async fn close(&mut self) {
        self.keyboard = None;
        self.reading.abort();
        let _ = (&mut self.reading).await; // its side of the terminal is dropped with it
    }

    /// Waits for the end of the program.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("ends in time").unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads what comes. Not on a thread: a blocked one would hold the terminal open when it is to be closed.
async fn read(mut terminal: File, shown: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match terminal.read(&mut bytes) {
            Ok(read @ 1..) => shown.lock().unwrap().extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(READ_INTERVAL).await,
            _ => return std::future::pending().await, // the program has ended
        }
    }
}
