//! `qy-lty backup`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::confirm::{asked, can_ask};
use super::control_client::{self, ControlClient};
use super::failure::Interrupted;
use super::interrupts::Interrupts;
use super::output::{Output, bytes};
use super::progress::{Bar, Watched};
use crate::config::Config;
use crate::core::disk::Explained;
use crate::store;

/// The beginning of the names of unfinished backups.
const DRAFT_PREFIX: &str = ".qy-lty-backup-";

/// The age from which a draft that is not locked is abandoned.
const MIN_DRAFT_AGE: Duration = Duration::from_secs(60);

/// The end of an interrupted backup, for the error.
const NOT_WRITTEN: &str = "no backup was written";

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
            let (sink, interrupts) = (Box::new(io::stdout()), Interrupts::watch()?);
            return control_client::run(config, out, async |client, _| download(client, sink, &interrupts).await);
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
        let interrupts = Interrupts::watch()?;
        let directory = file.parent().unwrap_or(Path::new("/"));
        remove_abandoned_drafts(directory);
        // Opened as the caller, before anything else: the server needs no access to it. Readable by its owner only, and deleted
        // unless it becomes the backup.
        let draft = tempfile::Builder::new().prefix(DRAFT_PREFIX).tempfile_in(directory).map_err(failed)?;
        // Released with the process, however that ends.
        flock(draft.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        let sink = Box::new(draft.as_file().try_clone()?);
        control_client::run(config, out, async |client, _| download(client, sink, &interrupts).await)?;
        draft.as_file().sync_all().map_err(failed)?;
        let size = draft.as_file().metadata()?.len();
        let source = Watched::new(draft.reopen()?, Bar::bytes("Verifying the backup", Some(size)), interrupts.clone());
        let verified = store::verify(io::BufReader::new(source)).map_err(|error| cant(&error));
        let (header, amount) = interrupts.explain(verified, NOT_WRITTEN)?;
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
    if !can_ask() {
        bail!("{what}; choose another name, or pass --force to replace it");
    }
    if asked(&format!("{what}. Replace it?"))? {
        return Ok(());
    }
    bail!("{what}; it was not replaced")
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

/// Writes a backup of the server's data to `sink`.
async fn download(client: &ControlClient, mut sink: Box<dyn Write>, interrupts: &Interrupts) -> anyhow::Result<()> {
    let mut stream = client.stream("/control/backup").await?;
    let (bar, mut written) = (Bar::bytes("Writing the backup", None), 0);
    loop {
        let chunk = tokio::select! {
            chunk = stream.chunk() => chunk.map_err(|_| anyhow!("the backup was interrupted; see the server's log"))?,
            () = interrupts.wait() => return Err(Interrupted(NOT_WRITTEN).into()),
        };
        let Some(chunk) = chunk else { break };
        sink.write_all(&chunk).map_err(|error| anyhow!("failed to write the backup: {}", Explained(&error)))?;
        written += chunk.len() as u64;
        bar.at(written);
    }
    Ok(sink.flush()?)
}
