//! `qy-lty status`.

use super::control_client::ControlClient;
use super::failure::Stopped;
use super::output::{Column, Output, bytes};
use serde_json::Value;

const FIELDS: [Column; 15] = [
    ("server", "state"),
    ("version", "version"),
    ("process id", "pid"),
    ("uptime", "uptime_seconds"),
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
///
/// # Errors
/// [`Stopped`], after it was shown, where no server is running.
pub(super) async fn status(client: &ControlClient, out: Output) -> anyhow::Result<()> {
    let mut status = client.get("/control/status").await?;
    let running = status["running"] == true;
    if !out.is_json() {
        status["state"] = if running { "running" } else { "stopped" }.into();
        if status["disk_ok"] == false {
            let floor = bytes(status["min_free_bytes"].as_u64().unwrap_or(0));
            status["disk_ok"] = format!("no: messages are refused with less than {floor} free").into();
        }
        if !running {
            status["pid"] = Value::Null;
            status["uptime_seconds"] = Value::Null;
        }
    }
    out.fields(&status, &FIELDS)?;
    if running { Ok(()) } else { Err(Stopped.into()) }
}
