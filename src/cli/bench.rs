//! `qy-lty bench`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use futures_util::future::LocalBoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::control_client::{self, ControlClient};
use super::endpoint;
use super::failure::Interrupted;
use super::output::{Output, note};
use super::runtime::block_on;
use super::settings::SettingFlags;
use crate::config::parse_seconds;
use crate::core::disk::Explained;
use crate::core::time::Timestamp;
use crate::load::compare::{Noise, Run, compare};
use crate::load::http::Http;
use crate::load::own_server::Processors;
use crate::load::process::{Machine, Process};
use crate::load::report::{Report, SCHEMA, ServerInfo};
use crate::load::work::{Bench as Load, Progress, Sizes, Workload};
use crate::load::{OwnServer, OwnServerOptions, Population, Target};

/// The environment variable with an administrator's token, where no flag has one.
const TOKEN: &str = "QY_LTY_BENCH_TOKEN";
/// The lifetime of a token that is created over the control socket, in seconds, in case it can't be deleted.
const TOKEN_SECONDS: u32 = 86_400;
/// The parts of a bar of progress for each workload.
const STEPS: u64 = 100;

/// The arguments of `bench`.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// Server to measure, such as http://127.0.0.1:8000; without it, one of its own on a temporary directory
    url: Option<String>,
    /// Token of an administrator of that server; also read from QY_LTY_BENCH_TOKEN, else made over the control socket
    #[arg(long, requires = "url")]
    token: Option<String>,
    /// Load a running server without asking
    #[arg(long, requires = "url")]
    yes: bool,
    /// End in about 20 seconds
    #[arg(long)]
    quick: bool,
    /// Workloads: idle, echo, fan-out, push-live, push-queued, offline, storm, mixed
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',', value_parser = workload)]
    only: Vec<Workload>,
    #[command(flatten)]
    sizes: SizeFlags,
    /// Directory to make the temporary one in: on the disk to be measured
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// Run its own server on the first processor and the load on the others, so that they don't compete
    #[arg(long, conflicts_with = "url")]
    pin: bool,
    /// Compare two runs that --json has printed, and measure nothing
    #[arg(long, num_args = 2, value_names = ["FILE", "FILE"],
        conflicts_with_all = ["url", "quick", "only", "dir", "pin", "SizeFlags"])]
    compare: Vec<PathBuf>,
}

/// The sizes that can be chosen.
#[derive(Debug, Args)]
struct SizeFlags {
    /// Time of each measurement, in seconds or with a unit, up to an hour: 30, 90s, 5m
    #[arg(long, value_name = "TIME", value_parser = measured_seconds)]
    seconds: Option<u64>,
    /// Connections of idle, up to 1000000
    #[arg(long, value_name = "N", value_parser = bounded(1, 1_000_000))]
    connections: Option<u64>,
    /// Recipients of fan-out and pushes, connections of storm, up to 100000
    #[arg(long, value_name = "N", value_parser = bounded(1, 100_000))]
    recipients: Option<u64>,
    /// Connections that push, up to 1024
    #[arg(long, value_name = "N", value_parser = bounded(1, 1024))]
    senders: Option<u64>,
    /// Pushes a second where they are not sent as fast as possible
    #[arg(long, value_name = "N", value_parser = bounded(1, 1_000_000))]
    rate: Option<u64>,
    /// Messages of offline, up to 10000000
    #[arg(long, value_name = "N", value_parser = bounded(1, 10_000_000))]
    waiting: Option<u64>,
    /// Devices of mixed, up to 100000
    #[arg(long, value_name = "N", value_parser = bounded(1, 100_000))]
    devices: Option<u64>,
    /// Bytes of a message's text, 1 to 10000
    #[arg(long, value_name = "BYTES", value_parser = bounded(1, 10_000))]
    size: Option<u64>,
}

fn bounded(low: u64, high: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(low..=high)
}

/// Parses the time of a measurement.
fn measured_seconds(text: &str) -> Result<u64, String> {
    let seconds = parse_seconds(text)?;
    if (1..=3600).contains(&seconds) { Ok(seconds) } else { Err("must be from 1 second to 1 hour".into()) }
}

/// Parses the name of a workload.
fn workload(name: &str) -> Result<Workload, String> {
    let names = || Workload::ALL.map(Workload::name).join(", ");
    Workload::named(name).ok_or_else(|| format!("there are {}", names()))
}

impl SizeFlags {
    /// Returns all sizes.
    fn sizes(&self, quick: bool) -> Sizes {
        let mut sizes = if quick { Sizes::quick() } else { Sizes::full() };
        let chosen = |flag: Option<u64>, size: &mut usize| {
            if let Some(n) = flag.and_then(|n| usize::try_from(n).ok()) {
                *size = n;
            }
        };
        chosen(self.connections, &mut sizes.connections);
        chosen(self.recipients, &mut sizes.recipients);
        chosen(self.senders, &mut sizes.senders);
        chosen(self.waiting, &mut sizes.waiting);
        chosen(self.devices, &mut sizes.devices);
        chosen(self.size, &mut sizes.size);
        if let Some(seconds) = self.seconds {
            sizes.seconds = seconds as f64;
        }
        if let Some(rate) = self.rate {
            sizes.rate = rate as f64;
        }
        sizes
    }
}

impl Bench {
    /// Runs the command.
    pub(super) fn run(self, flags: SettingFlags, out: Output) -> anyhow::Result<()> {
        if let [first, second] = &self.compare[..] {
            return compared(first, second, out);
        }
        let mut sizes = self.sizes.sizes(self.quick);
        if let Some(line) = sizes.fit() {
            note(&line);
        }
        let report = match &self.url {
            None => self.own(sizes)?,
            Some(url) => self.running(url, sizes, flags, out)?,
        };
        if out.is_json() {
            out.line(&serde_json::to_string(&report)?)?;
        } else {
            out.text(&report.text())?;
        }
        report.complaint().map_or(Ok(()), |complaint| Err(anyhow!(complaint)))
    }

    /// The workloads that run: those that are named, or all. A broadcast reaches everybody, and so only a server of the load's own
    /// unless it is named.
    fn workloads(&self) -> Vec<Workload> {
        let named = |workload: &Workload| self.only.contains(workload);
        let usual = |workload: &Workload| self.only.is_empty() && (self.url.is_none() || *workload != Workload::FanOut);
        Workload::ALL.into_iter().filter(|workload| named(workload) || usual(workload)).collect()
    }

    /// Measures a server of its own.
    fn own(&self, sizes: Sizes) -> anyhow::Result<Report> {
        let mut options =
            OwnServerOptions::new(std::env::current_exe().context("can't find this program's file")?, users(&sizes));
        options.directory.clone_from(&self.dir);
        // Before this process leaves a processor to the server.
        let machine = Machine::this();
        // The threads of the runtime are where this one is.
        let mut _load_on = None;
        if self.pin {
            let allowed = Processors::allowed();
            let [first, others @ ..] = &allowed[..] else { bail!("--pin needs two processors") };
            if others.is_empty() {
                bail!("--pin needs two processors, and this process has one");
            }
            options.processors = vec![*first];
            _load_on = Some(Processors::set(others));
        }
        block_on(async {
            let server = interruptible(Box::pin(async { Ok(OwnServer::start(options).await?) })).await?;
            let outcome = interruptible(Box::pin(async {
                let mut population = server.population().await?;
                let (process, data) = (Some(server.process()?), Some(server.data()));
                let info = ServerInfo { url: None, visible: true, pinned: self.pin };
                self.measure(&mut population, process, data, sizes, info, machine).await
            }));
            let outcome = outcome.await;
            server.stop().await;
            outcome
        })
    }

    /// Measures a running server.
    fn running(&self, url: &str, sizes: Sizes, flags: SettingFlags, out: Output) -> anyhow::Result<Report> {
        let target = Target::parse(url)?;
        if !self.yes {
            ask(&target)?;
        }
        let given = self.token.clone().or_else(|| std::env::var(TOKEN).ok()).filter(|token| !token.is_empty());
        if let Some(token) = given {
            return block_on(self.with_token(&target, &token, None, None, sizes));
        }
        let config = flags.for_commands()?;
        if !endpoint::is_served(&config.server.data_dir) {
            bail!(
                "it takes an administrator of {}: pass --token or set {TOKEN}, or name the data directory of the running server with --data-dir",
                target.url()
            );
        }
        let data = config.server.data_dir.clone();
        let job = async |client: &ControlClient, _| {
            let process =
                client.get("/control/status").await?["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).map(Process);
            let (id, token) = temporary_token(client).await?;
            let outcome = self.with_token(&target, &token, process, Some(data.clone()), sizes).await;
            if let Err(error) = client.delete(&format!("/control/tokens/{id}")).await {
                note(&format!("the token {id} with the label bench could not be deleted: {error:#}"));
            }
            outcome
        };
        control_client::run(config, out, job)
    }

    /// Measures a running server with an administrator's token; what is created there is deleted again.
    async fn with_token(
        &self,
        target: &Target,
        token: &str,
        process: Option<Process>,
        data: Option<PathBuf>,
        sizes: Sizes,
    ) -> anyhow::Result<Report> {
        let me = interruptible(Box::pin(async { Ok(Http::new(target, token).call("GET", "/api/auth/me", &Value::Null).await?) }))
            .await?;
        if me["data"]["user"]["role"].as_str().or_else(|| me["data"]["role"].as_str()) != Some("admin") {
            bail!("the token is not that of an administrator of {}", target.url());
        }
        let mut population = Population::on(target, token);
        note(&format!("creates users whose names begin with {}, and deletes them at the end", population.prefix()));
        if !self.workloads().contains(&Workload::FanOut) && self.only.is_empty() {
            note("fan-out is left out, since a broadcast reaches every client of the server; name it with --only to run it");
        }
        let info = ServerInfo { url: Some(target.url()), visible: process.is_some(), pinned: false };
        let outcome = interruptible(Box::pin(self.measure(&mut population, process, data, sizes, info, Machine::this()))).await;
        // A second signal ends this, too.
        if let Err(error) = interruptible(Box::pin(async { Ok(population.remove().await?) })).await {
            note(&format!("users whose names begin with {} could not be deleted: {error:#}", population.prefix()));
        }
        outcome
    }

    /// Runs the workloads.
    async fn measure(
        &self,
        population: &mut Population,
        process: Option<Process>,
        data: Option<PathBuf>,
        sizes: Sizes,
        server: ServerInfo,
        machine: Machine,
    ) -> anyhow::Result<Report> {
        let workloads = self.workloads();
        let mut report = Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Timestamp::now().to_string(),
            machine,
            server,
            sizes: sizes.clone(),
            workloads: Vec::new(),
            sizing: Vec::new(),
            clean: true,
        };
        let bar = Arc::new(Bar::new(workloads.len()));
        let mut load = Load { population, process, data, sizes, progress: bar.clone() };
        for workload in workloads {
            report
                .workloads
                .extend(load.run(workload).await.with_context(|| format!("the workload {} failed", workload.name()))?);
            bar.done.fetch_add(1, Ordering::Relaxed);
        }
        bar.bar.finish_and_clear();
        report.finish();
        Ok(report)
    }
}

/// Returns how many users a server of the load's own needs.
fn users(sizes: &Sizes) -> usize {
    sizes.recipients.max(sizes.echo).max(sizes.devices.div_ceil(50))
}

/// Asks at the terminal whether a server may be loaded.
///
/// # Errors
/// The answer is not yes, or nobody can be asked.
fn ask(target: &Target) -> anyhow::Result<()> {
    let url = target.url();
    let mut stdin = std::io::stdin().lock();
    if !stdin.is_terminal() {
        bail!("{url} is a server that this command did not start: pass --yes to load it");
    }
    let _ = write!(std::io::stderr(), "Load {url}? Its clients will find it slower meanwhile. [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(anyhow!("not confirmed, nothing was done")) }
}

/// Creates a token of an administrator over the control socket; returns its id and itself.
async fn temporary_token(client: &ControlClient) -> anyhow::Result<(u64, String)> {
    let users = client.list("/api/users").await?;
    let admin = users.iter().find(|user| user["role"] == "admin" && user["disabled"] != true);
    let id = &admin.context("the server has no administrator that is not disabled")?["id"];
    let body = json!({"label": "bench", "expires_in": TOKEN_SECONDS});
    let made = client.post(&format!("/control/users/{id}/tokens"), &body).await?;
    let token = made["token"].as_str().context("the server's reply has no token")?;
    Ok((made["id"].as_u64().unwrap_or(0), token.to_owned()))
}

/// Runs `work` until it ends, or a signal asks this process to end; then it is dropped where it is.
async fn interruptible<T>(work: LocalBoxFuture<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        outcome = work => outcome,
        outcome = interrupted() => Err(outcome.err().unwrap_or_else(|| Interrupted("what it had made was removed").into())),
    }
}

/// Waits for a signal that asks this process to end.
fn interrupted() -> LocalBoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(())
    })
}

/// A bar on standard error, where that is a terminal.
#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    /// Workloads that have ended.
    done: AtomicUsize,
}

impl Bar {
    fn new(workloads: usize) -> Self {
        let bar = ProgressBar::new(workloads as u64 * STEPS);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
            bar.set_style(style);
        }
        Self { bar, done: AtomicUsize::new(0) }
    }
}

impl Progress for Bar {
    fn show(&self, name: &str, share: f64) {
        self.bar.set_message(name.to_owned());
        self.bar.set_position(self.done.load(Ordering::Relaxed) as u64 * STEPS + (share * STEPS as f64) as u64);
    }
}

/// Prints the comparison of two runs.
fn compared(first: &Path, second: &Path, out: Output) -> anyhow::Result<()> {
    let noise = Noise::default();
    let comparison = compare(&read(first)?, &read(second)?, noise);
    if out.is_json() { out.line(&serde_json::to_string(&comparison)?) } else { out.text(&comparison.text(noise)) }
}

/// Reads what `--json` has printed.
fn read(path: &Path) -> anyhow::Result<Run> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| anyhow!("can't read {shown}: {}", Explained(&error)))?;
    Run::parse(&text).map_err(|why| anyhow!("{shown} is not what qy-lty bench --json prints: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    fn parsed(line: &str) -> Result<Bench, String> {
        let words = std::iter::once("bench").chain(line.split_ascii_whitespace());
        Line::try_parse_from(words).map(|line| line.bench).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_have_bounds_and_override_those_of_the_run() {
        let bench = parsed("--quick --connections 70 --rate 5 --seconds 2s --size 1000").unwrap();
        let sizes = bench.sizes.sizes(bench.quick);
        let expected = Sizes { connections: 70, rate: 5.0, seconds: 2.0, size: 1000, ..Sizes::quick() };
        assert_eq!(sizes, expected);
        assert_eq!(parsed("").unwrap().sizes.sizes(false), Sizes::full());
        for line in
            ["--connections 0", "--seconds 0", "--rate x", "--size 10001", "--senders 1025", "--seconds 3601", "--seconds 2h"]
        {
            assert!(parsed(line).unwrap_err().contains("invalid value"), "{line}");
        }
    }

    #[test]
    fn workloads_run_in_their_order_and_broadcasts_only_where_asked_for() {
        let names = |line: &str| parsed(line).unwrap().workloads().into_iter().map(Workload::name).collect::<Vec<_>>();
        assert_eq!(names(""), Workload::ALL.map(Workload::name));
        assert_eq!(names("--only storm,echo --only idle"), ["idle", "echo", "storm"]);
        assert!(!names("http://box").contains(&"fan-out") && names("http://box").len() == 7);
        assert_eq!(names("http://box --only fan-out"), ["fan-out"]);
        assert!(parsed("--only speed").unwrap_err().contains("push-queued"));
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for line in [
            "--yes",
            "--token x",
            "http://box --pin",
            "http://box --dir x",
            "--compare a",
            "--compare a b --quick",
            "http://box --compare a b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        assert_eq!(parsed("--compare a b").unwrap().compare.len(), 2);
    }

    #[test]
    fn files_that_are_no_runs_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for (text, why) in [
            ("x", "expected value"),
            ("{}", "no schema"),
            (r#"{"schema":99}"#, "version 99"),
            (r#"{"schema":1}"#, "no workloads"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("a.json is not what qy-lty bench --json prints") && error.contains(why), "{error}");
        }
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().starts_with("can't read"));
    }
}
