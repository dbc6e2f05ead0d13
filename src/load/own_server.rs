//! A server of the load's own: a process on a temporary directory, which both end with the load.

use futures_util::future::BoxFuture;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::process::{Process, disk_bytes};
use super::{LoadError, Population, Result, Target};
use crate::core::awake::timeout;

/// The longest that a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that an orderly end may take; then the process is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of its log that are kept, for the reason of a failure.
const KEPT_LOG_BYTES: usize = 4096;

/// What a load from one address would run into: each is switched off.
const UNLIMITED: &str = "[mailbox]\nmessages = 0\nbytes = 0\nsender_bytes = 0\nreaders = 0\n[chat]\nper_minute = 0\n[limits]\n\
    messages_per_minute = 0\nuser_messages_per_minute = 0\nconnections_per_user = 0\nconnections_per_address = 0\nconnections = 0\n\
    connects_per_minute = 0\nlogins_per_minute = 0\nrefusals_per_minute = 0\nframes_per_minute = 0\nrequests_per_minute = 0\n\
    trusted_requests_per_minute = 0\npairings_per_minute = 0\nsockets = 0\ndevices_per_user = 0\n";

/// A hash of PBKDF2 that fits no password: accounts are made with it at once, since none is hashed, and only their tokens are used.
const UNUSED_HASH: &str = "pbkdf2_sha256$1$unused$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// How to start a server.
#[derive(Debug, Clone)]
pub struct OwnServerOptions {
    /// The executable.
    pub program: PathBuf,
    /// Users to create, beside an administrator, each with a token.
    pub users: usize,
    /// The directory to make the temporary one in; that of the system where there is none.
    pub directory: Option<PathBuf>,
    /// Further settings, as for `--set`.
    pub settings: Vec<String>,
    /// The processors that it may use; all where there are none.
    pub processors: Vec<usize>,
}

impl OwnServerOptions {
    /// Of that executable, with so many users.
    pub fn new(program: impl Into<PathBuf>, users: usize) -> Self {
        Self { program: program.into(), users, directory: None, settings: Vec::new(), processors: Vec::new() }
    }
}

/// A running server.
#[derive(Debug)]
pub struct OwnServer {
    options: OwnServerOptions,
    child: Option<Child>,
    log: Arc<Mutex<Vec<u8>>>,
    reading: Option<AbortOnDropHandle<()>>,
    target: Target,
    admin: String,
    tokens: Vec<String>,
    /// After the child: it is removed last.
    directory: TempDir,
}

impl OwnServer {
    /// Makes the directory with its accounts, and starts the server.
    ///
    /// # Errors
    /// A directory that can't be made, or a server that does not start; then with the end of its log.
    pub fn start(options: OwnServerOptions) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            let mut builder = tempfile::Builder::new();
            builder.prefix("qy-lty-bench-");
            let made = match &options.directory {
                Some(directory) => builder.tempdir_in(directory),
                None => builder.tempdir(),
            };
            let directory = made.map_err(LoadError::io("can't make a temporary directory"))?;
            let (admin, tokens) = (secret(), (0..options.users).map(|_| secret()).collect::<Vec<_>>());
            prepare(directory.path(), &admin, &tokens).map_err(LoadError::io("can't write to the temporary directory"))?;
            let target = Target::parse("http://127.0.0.1:1")?;
            let log = Arc::new(Mutex::new(Vec::new()));
            let mut this = Self { options, child: None, log, reading: None, target, admin, tokens, directory };
            this.import().await?;
            this.spawn().await?;
            Ok(this)
        })
    }

    /// Ends the server and starts it again on the same data.
    ///
    /// # Errors
    /// As [`OwnServer::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.end().await;
        self.spawn().await
    }

    /// Returns its address.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns its process.
    ///
    /// # Errors
    /// It has ended.
    pub fn process(&self) -> Result<Process> {
        let id = self.child.as_ref().and_then(Child::id);
        id.map(Process).ok_or_else(|| LoadError::Other("the server has ended".into()))
    }

    /// Returns the token of its administrator.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Returns its accounts.
    ///
    /// # Errors
    /// A server that does not answer.
    pub async fn population(&self) -> Result<Population> {
        Population::imported(&self.target, &self.admin, &self.tokens).await
    }

    /// Returns its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Returns what its store takes on the disk, in bytes.
    pub fn store_bytes(&self) -> u64 {
        disk_bytes(&self.data().join("store"))
    }

    /// Runs a command of the same program on the same data, and returns its standard output.
    ///
    /// # Errors
    /// A command that fails, with its standard error.
    pub fn command<'a>(&'a self, arguments: &'a [&'a str]) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let mut command = program(&self.options, self.directory.path());
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = command.output().await.map_err(LoadError::io("can't start the program"))?;
            if !output.status.success() {
                return Err(LoadError::Other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    /// Ends the server in order, and removes its directory.
    pub async fn stop(mut self) {
        self.end().await;
    }

    /// Ends the server in order; its data stay until this is dropped.
    pub fn end(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(mut child) = self.child.take() else { return };
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
            if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        })
    }

    /// Creates the accounts.
    async fn import(&self) -> Result<()> {
        self.command(&["import", &self.directory.path().join("accounts.json").to_string_lossy()]).await.map(drop)
    }

    fn spawn(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut command = program(&self.options, self.directory.path());
            // It ends with this process, however that ends: its standard input does.
            command.args(["serve", "--until-stdin-ends"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            command.process_group(0); // Ctrl-C at a terminal is for this process, which ends the server in its own time
            let mut child = {
                let _on = Processors::set(&self.options.processors);
                command.spawn().map_err(LoadError::io("can't start the server"))?
            };
            let (address, found) = oneshot::channel();
            if let Some(stderr) = child.stderr.take() {
                self.reading = Some(AbortOnDropHandle::new(tokio::spawn(read_log(stderr, self.log.clone(), address))));
            }
            self.child = Some(child);
            match timeout(START_TIMEOUT, found).await {
                Ok(Ok(address)) => self.target = Target::parse(&format!("http://{address}"))?,
                _ => {
                    let log = String::from_utf8_lossy(&self.log.lock()).trim().to_owned();
                    return Err(LoadError::Other(format!("the server did not start: {log}")));
                }
            }
            Ok(())
        })
    }
}

impl Drop for OwnServer {
    /// Ends the server at once where it still runs, and waits for that, so that it makes no file in the directory any more.
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = child.start_kill();
        let begin = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes configuration and accounts.
fn prepare(directory: &Path, admin: &str, tokens: &[String]) -> std::io::Result<()> {
    let data = directory.join("data");
    let config = format!("[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = {:?}\n{UNLIMITED}", data.display().to_string());
    fs::write(directory.join("c.toml"), config)?;
    let mut out = std::io::BufWriter::new(fs::File::create(directory.join("accounts.json"))?);
    let mut account = |key: usize, name: &str, superuser: bool, token: &str| {
        let begin = if key == 1 { "[" } else { ",\n" };
        write!(
            out,
            r#"{begin}{{"model":"auth.user","pk":{key},"fields":{{"username":"{name}","password":"{UNUSED_HASH}","last_login":null,"is_active":true,"is_superuser":{superuser}}}}},
{{"model":"authtoken.token","pk":"{token}","fields":{{"user":{key},"created":"2024-01-02T03:04:05.678Z"}}}}"#
        )
    };
    account(1, "admin", true, admin)?;
    for (n, token) in tokens.iter().enumerate() {
        account(n + 2, &Population::imported_name(n), false, token)?;
    }
    out.write_all(b"]\n")?;
    out.flush()
}

/// Returns a token in the form of those that are imported.
fn secret() -> String {
    crate::core::hex::hex(&rand::random::<[u8; 20]>())
}

/// Returns the program with its configuration; nothing of the environment changes it.
fn program(options: &OwnServerOptions, directory: &Path) -> Command {
    let mut command = Command::new(&options.program);
    command.arg("--config").arg(directory.join("c.toml"));
    for setting in &options.settings {
        command.args(["--set", setting]);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().to_ascii_uppercase().starts_with(b"QY_LTY_"))
    {
        command.env_remove(name);
    }
    for name in [
        "CREDENTIALS_DIRECTORY",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "JOURNAL_STREAM",
    ] {
        command.env_remove(name);
    }
    command.env("RUST_LOG", "warn,qy_lty::server=info").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Reads the log to its end: reports the address that is served, and keeps the last lines.
async fn read_log(stderr: ChildStderr, log: Arc<Mutex<Vec<u8>>>, address: oneshot::Sender<String>) {
    let (mut lines, mut address) = (BufReader::new(stderr).lines(), Some(address));
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(found) = line.split_once("serving address=").and_then(|(_, rest)| rest.split(' ').next())
            && let Some(address) = address.take()
        {
            let _ = address.send(found.to_owned());
        }
        let mut log = log.lock();
        log.extend_from_slice(line.as_bytes());
        log.push(b'\n');
        let beyond = log.len().saturating_sub(KEPT_LOG_BYTES);
        log.drain(..beyond);
    }
}

/// While it exists, this thread and processes that it starts run on certain processors only.
#[derive(Debug)]
pub struct Processors(Option<CpuSet>);

impl Processors {
    /// Moves this thread to those processors; it stays where it is when there are none, or the system refuses.
    pub fn set(processors: &[usize]) -> Self {
        let mut wanted = CpuSet::new();
        for processor in processors.iter().filter(|n| **n < CpuSet::MAX_CPU) {
            wanted.set(*processor);
        }
        let former = sched_getaffinity(None).ok().filter(|_| !processors.is_empty());
        Self(former.filter(|_| sched_setaffinity(None, &wanted).is_ok()))
    }

    /// Returns the processors that this thread may run on.
    pub fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|n| set.is_set(*n)).collect()
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        if let Some(former) = &self.0 {
            let _ = sched_setaffinity(None, former);
        }
    }
}
