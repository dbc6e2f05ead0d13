//! `qy-lty status`, `backup`, `restore`, `check`, `compact`: operating a server.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::control_client::{self, ControlClient, is_served};
use super::output::{Column, Output, bytes, count, done_although};
use super::run_as::{self, RunAs};
use crate::config::Config;
use crate::core::disk::Explained;
use crate::data_dir::STORE_DIRECTORY;
use crate::store;

const STATUS_FIELDS: [Column; 15] = [
    ("server", "state"),
    ("version", "version"),
    ("process id", "pid"),
    ("uptime in seconds", "uptime_seconds"),
    ("address", "listen"),
    ("data directory", "data_dir"),
    ("epoch", "epoch"),
    ("enough disk space", "disk_ok"),
    ("connections", "connections"),
    ("mailboxes in use", "mailboxes"),
    ("queued messages", "messages"),
    ("oldest of them", "oldest"),
    ("size of them", "bytes"),
    ("size of the store", "store_bytes"),
    ("free disk space", "free_bytes"),
];

/// Shows the status of the server.
pub(super) async fn status(client: &ControlClient, out: Output) -> anyhow::Result<()> {
    let mut status = client.get("/control/status").await?;
    if !out.is_json() {
        for field in ["store_bytes", "free_bytes", "bytes"] {
            status[field] = bytes(status[field].as_u64().unwrap_or(0)).into();
        }
        status["state"] = if status["running"] == true { "running" } else { "stopped" }.into();
        if status["disk_ok"] == false {
            let floor = bytes(status["min_free_bytes"].as_u64().unwrap_or(0));
            status["disk_ok"] = format!("no: messages are refused with less than {floor} free").into();
        }
        if status["running"] != true {
            status["pid"] = Value::Null;
            status["uptime_seconds"] = Value::Null;
        }
    }
    out.fields(&status, &STATUS_FIELDS)
}

/// The beginning of the names of unfinished backups.
const DRAFT_PREFIX: &str = ".qy-lty-backup-";

/// The age from which a draft that is not locked is abandoned.
const MIN_DRAFT_AGE: Duration = Duration::from_secs(60);

/// The longest answer to a question that is read.
const MAX_ANSWER_BYTES: u64 = 100;

/// The arguments of `backup`.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// File to write; - is standard output
    file: PathBuf,
    /// Replace a file that is no backup without asking
    #[arg(long)]
    force: bool,
}

impl Backup {
    /// Runs the command, whether a server is running or not.
    pub(super) fn run(self, config: Config, out: Output) -> anyhow::Result<()> {
        if self.file == Path::new("-") {
            let sink = Box::new(io::stdout());
            return control_client::run(config, out, async |client, _| download(client, sink).await);
        }
        let file = std::path::absolute(&self.file)?; // the working directory may change
        let cant = |error: &dyn std::fmt::Display| anyhow!("can't write {}: {error}", self.file.display());
        let failed = |error: io::Error| cant(&Explained(&error));
        if fs::symlink_metadata(&file).is_ok_and(|meta| !meta.is_file()) {
            bail!("can't write {}: it exists and is not a regular file", self.file.display());
        }
        if file.exists() && !self.force && !may_be_replaced(&file) {
            may_replace(&self.file)?;
        }
        let directory = file.parent().unwrap_or(Path::new("/"));
        remove_abandoned_drafts(directory);
        // Opened as the caller, before anything else: the server needs no access to it. Readable by its owner only, and deleted
        // unless it becomes the backup.
        let draft = tempfile::Builder::new().prefix(DRAFT_PREFIX).tempfile_in(directory).map_err(failed)?;
        // Released with the process, however that ends.
        flock(draft.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        let sink = Box::new(draft.as_file().try_clone()?);
        control_client::run(config, out, async |client, _| download(client, sink).await)?;
        draft.as_file().sync_all().map_err(failed)?;
        let (header, amount) = store::verify(io::BufReader::new(draft.reopen()?)).map_err(|error| cant(&error))?;
        let size = draft.as_file().metadata()?.len();
        draft.persist(&file).map_err(|error| failed(error.error))?;
        File::open(directory)?.sync_all()?;
        let data = json!({"file": file, "size": size, "records": amount.records, "epoch": header.epoch});
        let text = format!("Wrote {}: {} records, {}, verified", file.display(), amount.records, bytes(size));
        out.done(&data, &text)
    }
}

/// Asks whether a file that is no backup may be replaced.
///
/// # Errors
/// The answer is no, or nobody can be asked.
fn may_replace(file: &Path) -> anyhow::Result<()> {
    let what = format!("{} exists and is no backup", file.display());
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!("{what}; choose another name, or pass --force to replace it");
    }
    if confirmed(&format!("{what}. Replace it?"), &mut io::stdin().lock(), &mut io::stderr())? {
        return Ok(());
    }
    bail!("{what}; it was not replaced")
}

/// Asks a question that is answered with no, unless with y or yes.
fn confirmed(question: &str, input: &mut impl io::BufRead, output: &mut impl Write) -> io::Result<bool> {
    write!(output, "{question} [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    io::BufRead::read_line(&mut io::Read::take(input, MAX_ANSWER_BYTES), &mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Returns whether a backup may take the place of a file: it is one, or empty.
fn may_be_replaced(file: &Path) -> bool {
    let empty = || fs::metadata(file).is_ok_and(|meta| meta.len() == 0);
    File::open(file).is_ok_and(|file| store::is_backup(io::BufReader::new(file))) || empty()
}

/// Removes the unfinished files of backups that were killed.
fn remove_abandoned_drafts(directory: &Path) {
    let drafts = fs::read_dir(directory).into_iter().flatten().flatten();
    for draft in drafts.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(DRAFT_PREFIX.as_bytes())) {
        // A backup locks its draft a moment after it has created it.
        let age = draft.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok()).unwrap_or_default();
        let unlocked = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let abandoned = age > MIN_DRAFT_AGE && File::open(draft.path()).is_ok_and(unlocked);
        if abandoned && let Err(error) = fs::remove_file(draft.path()) {
            tracing::warn!(%error, file = %draft.path().display(), "can't remove what a killed backup has left");
        }
    }
}

async fn download(client: &ControlClient, mut sink: Box<dyn Write>) -> anyhow::Result<()> {
    let mut stream = client.stream("/control/backup").await?;
    while let Some(chunk) = stream.chunk().await.map_err(|_| anyhow!("the backup was interrupted; see the server's log"))? {
        sink.write_all(&chunk).map_err(|error| anyhow!("failed to write the backup: {}", Explained(&error)))?;
    }
    Ok(sink.flush()?)
}

/// The arguments of `restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// Backup to restore; - is standard input
    file: PathBuf,
}

impl Restore {
    /// Restores the backup into the data directory of the configuration, which must be empty.
    pub(super) fn run(self, mut config: Config, out: Output) -> anyhow::Result<()> {
        let source: Box<dyn io::Read> = if self.file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            // Opened before anything is changed.
            Box::new(File::open(&self.file).map_err(|error| anyhow!("can't read {}: {error}", self.file.display()))?)
        };
        let shown = std::path::absolute(&config.server.data_dir)?;
        let run_as = RunAs::owner_of(&mut config)?;
        let data = config.server.data_dir;
        run_as::prepare(&data)?;
        let report = store::restore(io::BufReader::new(source), &data)?;
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
        let mut found = match self.repair {
            false if is_served(&data) => control_client::run(config, out, async |client, _| client.get("/control/check").await)?,
            false => json!(offline(config, "a check", store::check)?),
            true => json!(offline(config, "a repair", store::repair)?),
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
    let done = offline(config, "compacting", store::compact)?;
    let text = format!("Compacted {} records: {} before, {} now", done.records, bytes(done.before), bytes(done.after));
    out.done(&serde_json::to_value(done)?, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_replaces_a_file() {
        let answer = |input: &str| {
            let mut shown = Vec::new();
            let yes = confirmed("Replace it?", &mut input.as_bytes(), &mut shown).unwrap();
            assert_eq!(shown, b"Replace it? [y/N] ");
            yes
        };
        for (input, yes) in
            [("y\n", true), (" YES \r\n", true), ("\n", false), ("n\n", false), ("", false), ("yesterday\n", false)]
        {
            assert_eq!(answer(input), yes, "{input:?}");
        }
        assert!(!answer(&"y".repeat(1 << 20)));
    }
}
