//! `qy-lty status`, `backup`, `restore`, `check`, `compact`: looking after a server.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::control::{self, Control, is_served, open_file};
use super::print::{Column, Printer, bytes};
use super::run_as::{self, AsOwner};
use crate::config::Config;
use crate::data_dir::STORE_DIRECTORY;
use crate::store;

const STATUS: [Column; 15] = [
    ("server", "state"),
    ("version", "version"),
    ("process", "pid"),
    ("up for seconds", "uptime_seconds"),
    ("listens on", "listen"),
    ("data directory", "data_dir"),
    ("epoch", "epoch"),
    ("room on the disk", "disk_ok"),
    ("connections", "connections"),
    ("mailboxes in use", "mailboxes"),
    ("messages waiting", "messages"),
    ("oldest of them", "oldest"),
    ("their bytes", "bytes"),
    ("store", "store_bytes"),
    ("free on the disk", "free_bytes"),
];

/// How the server is.
pub(super) async fn status(control: &Control, out: Printer) -> anyhow::Result<()> {
    let mut status = control.get("/control/status").await?;
    if !out.is_json() {
        for field in ["store_bytes", "free_bytes", "bytes"] {
            status[field] = bytes(status[field].as_u64().unwrap_or(0)).into();
        }
        status["state"] = if status["running"] == true { "runs" } else { "does not run" }.into();
        if status["disk_ok"] == false {
            let floor = bytes(status["min_free_bytes"].as_u64().unwrap_or(0));
            status["disk_ok"] = format!("no: messages are refused where less than {floor} are free").into();
        }
        if status["running"] != true {
            status["pid"] = Value::Null;
            status["uptime_seconds"] = Value::Null;
        }
    }
    out.fields(&status, &STATUS)
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// To be written; - is standard output
    file: PathBuf,
}

impl Backup {
    /// Works while the server serves, and when none runs.
    pub(super) fn run(self, config: Config, out: Printer) -> anyhow::Result<()> {
        if self.file == Path::new("-") {
            let sink = Box::new(io::stdout());
            return control::run(config, out, async |control, _| take(control, sink).await);
        }
        let file = std::path::absolute(&self.file)?; // the directory to work in may change
        let cant = |error: &dyn std::fmt::Display| anyhow!("can't write {}: {error}", self.file.display());
        if fs::symlink_metadata(&file).is_ok_and(|meta| !meta.is_file()) {
            bail!("can't write {}: it is there, and no file", self.file.display());
        }
        let directory = file.parent().unwrap_or(Path::new("/"));
        // As whoever calls, before anything else: the server needs no access to it. For its owner's eyes only, and gone again
        // unless it becomes the backup.
        let draft = tempfile::Builder::new().prefix(".qy-lty-backup-").tempfile_in(directory).map_err(|error| cant(&error))?;
        let sink = Box::new(draft.as_file().try_clone()?);
        control::run(config, out, async |control, _| take(control, sink).await)?;
        draft.as_file().sync_all().map_err(|error| cant(&error))?;
        let (header, amount) = store::verify(io::BufReader::new(draft.reopen()?)).map_err(|error| cant(&error))?;
        let size = draft.as_file().metadata()?.len();
        draft.persist(&file).map_err(|error| cant(&error.error))?;
        File::open(directory)?.sync_all()?;
        let data = json!({"file": file, "size": size, "records": amount.records, "epoch": header.epoch});
        let text = format!("{}: {} records, {}, verified", file.display(), amount.records, bytes(size));
        out.done(&data, &text)
    }
}

async fn take(control: &Control, mut sink: Box<dyn Write>) -> anyhow::Result<()> {
    let mut stream = control.stream("/control/backup").await?;
    while let Some(piece) = stream.chunk().await.map_err(|_| anyhow!("the backup broke off; the server's log tells why"))? {
        sink.write_all(&piece).map_err(|error| anyhow!("the backup can't be written: {error}"))?;
    }
    Ok(sink.flush()?)
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// A backup; - is standard input
    file: PathBuf,
}

impl Restore {
    /// Into the data directory of the configuration, which must be empty.
    pub(super) fn run(self, mut config: Config, out: Printer) -> anyhow::Result<()> {
        let source: Box<dyn io::Read> =
            if self.file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(open_file(&self.file)?) };
        let shown = std::path::absolute(&config.server.data_dir)?;
        let owner = AsOwner::of(&mut config)?;
        let data = config.server.data_dir;
        run_as::prepare(&data)?;
        let report = store::restore(io::BufReader::new(source), &data)?;
        drop(owner);
        let text = format!(
            "{} records of {} restored into {}; clients that remember ids start over (epoch {})",
            report.amount.records,
            report.header.created_at,
            shown.display(),
            report.new_epoch
        );
        out.done(&serde_json::to_value(&report)?, &text)
    }
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Write the store anew from what can be read; the server must not run
    #[arg(long)]
    repair: bool,
}

const FINDINGS: [Column; 3] = [("TREE", "tree"), ("RECORD", "key"), ("WHAT", "what")];

impl Check {
    pub(super) fn run(self, config: Config, out: Printer) -> anyhow::Result<()> {
        let data = std::path::absolute(&config.server.data_dir)?;
        let mut found = match self.repair {
            false if is_served(&data) => control::run(config, out, async |control, _| control.get("/control/check").await)?,
            false => json!(offline(config, "check", store::check)?),
            true => json!(offline(config, "repair", store::repair)?),
        };
        // By the name that whoever calls knows it by.
        if let Some(place) = found["quarantine"].as_str().and_then(|place| Path::new(place).file_name()) {
            found["quarantine"] = data.join(store::QUARANTINE).join(place).to_string_lossy().into();
        }
        report(&found, out)?;
        match (found["wrong"].as_u64().unwrap_or(0), self.repair) {
            (0, _) | (_, true) => Ok(()),
            (wrong, false) => Err(anyhow!("{wrong} findings; `qy-lty check --repair` keeps what can be read")),
        }
    }
}

fn report(found: &Value, out: Printer) -> anyhow::Result<()> {
    if out.is_json() {
        return out.line(&found.to_string());
    }
    let rows = found["findings"].as_array().cloned().unwrap_or_default();
    out.table(&rows, &FINDINGS, "nothing is wrong")?;
    out.line(&format!("{} records looked at, {} findings", found["records"], found["wrong"]))?;
    match found["quarantine"].as_str() {
        Some(place) => out.line(&format!("written anew from what can be read; what was there before is in {place}")),
        None => Ok(()),
    }
}

/// Does something with a store that no server has open.
fn offline<T>(mut config: Config, what: &str, job: impl FnOnce(&Path) -> store::Result<T>) -> anyhow::Result<T> {
    let data = &config.server.data_dir;
    control::look_for_data(data)?;
    if is_served(data) {
        bail!("a server runs on {}: stop it before this {what}", data.display());
    }
    let _owner = AsOwner::of(&mut config)?;
    Ok(job(&config.server.data_dir.join(STORE_DIRECTORY))?)
}

/// Gives room on the disk back.
pub(super) fn compact(config: Config, out: Printer) -> anyhow::Result<()> {
    let done = offline(config, "compaction", store::compact)?;
    let text = format!("{} records; {} before, {} now", done.records, bytes(done.before), bytes(done.after));
    out.done(&serde_json::to_value(done)?, &text)
}
