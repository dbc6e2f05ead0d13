//! `qy-lty restore`, `check`, `compact`: the care of a store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::control_client::{self, ControlClient};
use super::endpoint::is_served;
use super::failure::{Interrupted, Refused};
use super::interrupts::Interrupts;
use super::output::{Column, Output, bytes, count, done_although};
use super::progress::{Bar, Input, Watched};
use super::run_as::{self, RunAs};
use crate::config::Config;
use crate::data_dir::STORE_DIRECTORY;
use crate::store::{self, Watch};

/// The end of an interrupted job, for the error.
const UNCHANGED: &str = "nothing was changed";

/// The arguments of `restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// Backup to restore; - is standard input
    file: PathBuf,
}

impl Restore {
    /// Restores the backup into the data directory of the configuration, which must be empty.
    pub(super) fn run(self, mut config: Config, out: Output) -> anyhow::Result<()> {
        let (from_input, interrupts) = (self.file == Path::new("-"), Interrupts::watch()?);
        let (source, size): (Box<dyn io::Read>, _) = if from_input {
            (Box::new(Input::new(interrupts.clone())), None)
        } else {
            // Opened before anything is changed.
            let file = File::open(&self.file).map_err(|error| anyhow!("can't read {}: {error}", self.file.display()))?;
            let size = file.metadata().ok().map(|meta| meta.len());
            (Box::new(file), size)
        };
        let shown = std::path::absolute(&config.server.data_dir)?;
        let run_as = RunAs::owner_of(&mut config)?;
        let data = config.server.data_dir;
        run_as::prepare(&data)?;
        let source = Watched::new(source, Bar::bytes("Restoring", size), interrupts.clone());
        let restored = store::restore(io::BufReader::new(source), &data).map_err(Into::into);
        let report = interrupts.explain(restored, "nothing was restored")?;
        drop(run_as);
        let text = format!(
            "Restored {} records of {} into {}; clients that remember message ids start over (epoch {})",
            report.amount.records,
            report.header.created_at,
            shown.display(),
            report.new_epoch
        );
        out.done(&serde_json::to_value(&report)?, &text)
    }
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Rebuild the store from the records that can be read; the server must be stopped
    #[arg(long)]
    repair: bool,
    /// Note that you know of a loss that was noticed: the server is ready again
    #[arg(long, conflicts_with = "repair")]
    acknowledge: bool,
}

const FINDING_COLUMNS: [Column; 3] = [("TREE", "tree"), ("RECORD", "key"), ("PROBLEM", "what")];

const NAME_COLUMNS: [Column; 5] = [("OF", "of"), ("ID", "id"), ("FIELD", "field"), ("TEXT", "text"), ("PROBLEM", "problem")];

impl Check {
    /// Runs the command: through the server where one is running, else on the store itself.
    pub(super) fn run(self, config: Config, out: Output) -> anyhow::Result<()> {
        let data = std::path::absolute(&config.server.data_dir)?;
        if self.acknowledge {
            return acknowledge(&data, config, out);
        }
        let interrupts = Interrupts::watch()?;
        let mut found = match self.repair {
            false if is_served(&data) => {
                control_client::run(config, out, async |client, _| watched_check(client, &interrupts).await)?
            }
            false => json!(watched(config, "a check", "Checking", &interrupts, store::check)?),
            true => json!(watched(config, "a repair", "Repairing", &interrupts, store::repair)?),
        };
        // By the path that the caller knows: the store was opened as the working directory.
        if let Some(place) = found["quarantine"].as_str().and_then(|place| Path::new(place).file_name()) {
            found["quarantine"] = data.join(store::QUARANTINE).join(place).to_string_lossy().into();
        }
        let shown = report(&found, out);
        match (found["wrong"].as_u64().unwrap_or(0), self.repair) {
            (_, true) => {
                done_although(shown);
                Ok(())
            }
            (0, false) => shown,
            (wrong, false) => {
                shown?;
                Err(anyhow!("{}; `qy-lty check --repair` keeps the records that can be read", count(wrong, "finding")))
            }
        }
    }
}

/// Has a running server check its store, and shows the progress. One of an earlier version does not report any.
async fn watched_check(client: &ControlClient, interrupts: &Interrupts) -> anyhow::Result<Value> {
    let mut stream = match client.stream("/control/check/watched").await {
        Ok(stream) => stream,
        Err(_) => return client.get("/control/check").await,
    };
    let (bar, mut unread) = (Bar::records("Checking"), Vec::new());
    loop {
        let chunk = tokio::select! {
            chunk = stream.chunk() => chunk.map_err(|_| anyhow!("the check was interrupted; see the server's log"))?,
            () = interrupts.wait() => return Err(Interrupted(UNCHANGED).into()),
        };
        let chunk = chunk.ok_or_else(|| anyhow!("the server stopped before the check was over"))?;
        unread.extend_from_slice(&chunk);
        while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let mut line: Value = serde_json::from_slice(&line)?;
            if line["found"].is_object() {
                return Ok(line["found"].take());
            }
            if let Some(message) = line["error"]["message"].as_str() {
                let code = line["error"]["code"].as_str().map(str::to_owned);
                return Err(Refused { code, message: message.to_owned() }.into());
            }
            let number = |field: &str| line[field].as_u64().unwrap_or(0);
            bar.part(line["tree"].as_str().unwrap_or_default(), number("number"), number("of"));
            bar.at(number("records"));
        }
    }
}

/// Runs `job` on a store that no server has open, as [`offline`] does; shows its progress as that of `doing`.
fn watched<T>(
    config: Config,
    what: &str,
    doing: &str,
    interrupts: &Interrupts,
    job: impl FnOnce(&Path, Watch<'_>) -> store::Result<T>,
) -> anyhow::Result<T> {
    let done = offline(config, what, |path| {
        let bar = Bar::records(doing);
        job(
            path,
            Watch::new(&|progress| {
                bar.show(progress);
                interrupts.flow()
            }),
        )
    });
    interrupts.explain(done, UNCHANGED)
}

/// Notes that the operator knows of a loss.
fn acknowledge(data: &Path, config: Config, out: Output) -> anyhow::Result<()> {
    if is_served(data) {
        control_client::run(config, out, async |client, _| client.delete("/control/loss").await)?;
    } else {
        offline(config, "this", store::acknowledge_loss)?;
    }
    out.done(&json!({"acknowledged": true}), "Acknowledged")
}

fn report(found: &Value, out: Output) -> anyhow::Result<()> {
    if out.is_json() {
        return out.line(&found.to_string());
    }
    let rows = found["findings"].as_array().cloned().unwrap_or_default();
    out.table(&rows, &FINDING_COLUMNS, "No problems found")?;
    out.line(&format!("Checked {} records: {}", found["records"], count(found["wrong"].as_u64().unwrap_or(0), "finding")))?;
    report_names(&found["names"], out)?;
    match found["quarantine"].as_str() {
        Some(place) => {
            out.line(&format!("Rebuilt the store from the records that could be read; the previous one is in {place}"))
        }
        None => Ok(()),
    }
}

/// Lists the names that would be refused today, of which there may be more than are listed.
fn report_names(names: &Value, out: Output) -> anyhow::Result<()> {
    let (total, listed) = (names["total"].as_u64().unwrap_or(0), names["listed"].as_array().cloned().unwrap_or_default());
    if total == 0 {
        return Ok(());
    }
    out.line(&format!(
        "\n{} would be refused today, and still {}:",
        count(total, "name"),
        if total == 1 { "works" } else { "work" }
    ))?;
    out.table(&listed, &NAME_COLUMNS, "")?;
    match total.saturating_sub(listed.len() as u64) {
        0 => Ok(()),
        more => out.line(&format!("and {more} more")),
    }
}

/// Runs `job` on a store that no server has open. `what` names the job in the error for a running server.
fn offline<T>(mut config: Config, what: &str, job: impl FnOnce(&Path) -> store::Result<T>) -> anyhow::Result<T> {
    let data = &config.server.data_dir;
    control_client::require_data(data)?;
    if is_served(data) {
        bail!("a server is running on {}; stop it before {what}", data.display());
    }
    let _run_as = RunAs::owner_of(&mut config)?;
    Ok(job(&config.server.data_dir.join(STORE_DIRECTORY))?)
}

/// Rewrites the store without the space of deleted records.
pub(super) fn compact(config: Config, out: Output) -> anyhow::Result<()> {
    let done = watched(config, "compacting", "Compacting", &Interrupts::watch()?, store::compact)?;
    let text = format!("Compacted {} records: {} before, {} now", done.records, bytes(done.before), bytes(done.after));
    out.done(&serde_json::to_value(done)?, &text)
}
