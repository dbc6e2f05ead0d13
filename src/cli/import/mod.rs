//! `qy-lty import`: takes over the accounts, tokens and devices of the Django system.
//!
//! The file is read and checked here, as the caller of the command. Its records go to the server, or to this process where none is
//! running, in parts. Either all of it is new, or nothing is changed.

mod dump;
mod found;
mod plan;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use self::found::{Found, Models};
use self::plan::Plan;
use super::control_client::{self, ControlClient};
use super::output::{Column, Output, count};
use crate::change::MAX_IMPORT_ROWS;
use crate::config::Config;
use crate::core::disk::Explained;
use crate::core::text::visible;
use crate::store::{ImportState, Imported};

/// The longest part of an import that is sent at once, in bytes of its JSON, as long as one record is not longer.
const MAX_PART_BYTES: usize = 32 << 10;

const REMARK_COLUMNS: [Column; 4] = [("MODEL", "model"), ("KEY", "pk"), ("ROW", "row"), ("REMARK", "reason")];

const RENUMBERED_COLUMNS: [Column; 4] = [("OF", "what"), ("NAME", "name"), ("KEY", "was"), ("ID HERE", "id")];

const CONFLICT_COLUMNS: [Column; 3] = [("OF", "what"), ("NAME", "name"), ("PROBLEM", "reason")];

/// The arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// File that `manage.py dumpdata` has written, perhaps compressed with gzip; - is standard input
    file: PathBuf,
    /// Report what would be taken, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Model of the users, such as accounts.user, where it is not recognised
    #[arg(long, value_name = "MODEL")]
    user_model: Option<String>,
    /// Model of the devices, such as device_interaction.device
    #[arg(long, value_name = "MODEL")]
    device_model: Option<String>,
    /// Model that has the devices of each user, such as device_interaction.userdevice
    #[arg(long, value_name = "MODEL")]
    binding_model: Option<String>,
}

impl Import {
    /// Runs the command, whether a server is running or not, and where there is no data yet.
    pub(super) fn run(self, config: Config, out: Output) -> anyhow::Result<()> {
        let Self { file, dry_run, user_model, device_model, binding_model } = self;
        let mut found = Found::new(Models { user: user_model, device: device_model, binding: binding_model });
        let source: Box<dyn Read> = if file == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(&file).map_err(|error| anyhow!("can't read {}: {}", file.display(), Explained(&error)))?)
        };
        dump::read(source, |record| found.add(record))?;
        found.check_models()?;
        if found.users.is_empty() {
            report(&Plan::new(&found, 0, 0), &found, 0, "Found", out)?;
            bail!("the file has no user that can be taken: name auth.user, or the model of your users, for dumpdata");
        }
        if dry_run && control_client::has_no_data(&config.server.data_dir) {
            return report(&Plan::new(&found, 0, 0), &found, 0, "Would import", out);
        }
        let job = async |client: &ControlClient, out| import(client, &found, dry_run, out).await;
        control_client::run_anywhere(config, out, job)
    }
}

/// Plans the import on the state of the server's store, and sends it.
async fn import(client: &ControlClient, found: &Found, dry_run: bool, out: Output) -> anyhow::Result<()> {
    let given = client.get("/control/import").await?;
    let last: Option<ImportState> = serde_json::from_value(given["last"].clone())?;
    let cut_off = last.and_then(|last| {
        let plan = Plan::new(found, last.users_before, last.devices_before);
        (plan.state == ImportState { done: 0, ..last.clone() }).then_some((plan, last.done))
    });
    let number = |name: &str| given[name].as_u64().unwrap_or(0);
    let (plan, done) = cut_off.unwrap_or_else(|| (Plan::new(found, number("users"), number("devices")), 0));
    if done == plan.state.rows {
        return report(&plan, found, done, "Imported earlier, nothing to do:", out);
    }
    refuse_conflicts(client, &plan, done, out).await?;
    if dry_run {
        return report(&plan, found, done, "Would import", out);
    }
    let begin = json!({"state": plan.state, "last_user": plan.last_user, "last_device": plan.last_device});
    let mut done = client.post("/control/import", &begin).await?["done"].as_u64().unwrap_or(0);
    let resumed = done;
    while let Some(rows) = part(&plan.rows, done) {
        let body = json!({"source": plan.state.source, "from": done, "rows": rows});
        if let Err(error) = client.post("/control/import/rows", &body).await {
            bail!(
                "{error}; the import ended within the part from record {} of {}: solve this, and run it again to go on",
                done + 1,
                plan.state.rows
            );
        }
        done += rows.len() as u64;
    }
    report(&plan, found, resumed, "Imported", out)
}

/// Returns the records after the first `done` that are sent at once; `None` where there are no more.
fn part(rows: &[Imported], done: u64) -> Option<&[Imported]> {
    let rest = rows.get(usize::try_from(done).ok()?..)?;
    let mut bytes = 0;
    let fits = |row: &&Imported| {
        bytes += serde_json::to_vec(row).map_or(0, |row| row.len());
        bytes <= MAX_PART_BYTES
    };
    let count = rest.iter().take(MAX_IMPORT_ROWS).take_while(fits).count();
    (!rest.is_empty()).then(|| &rest[..count.max(1)])
}

/// Refuses an import of which a record would take the place of another.
async fn refuse_conflicts(client: &ControlClient, plan: &Plan, done: u64, out: Output) -> anyhow::Result<()> {
    let (mut done, mut conflicts) = (done, Vec::new());
    while let Some(rows) = part(&plan.rows, done) {
        let refused = client.post("/control/import/check", &json!({"rows": rows})).await?;
        for conflict in refused.as_array().into_iter().flatten() {
            let row = conflict["row"].as_u64().and_then(|row| rows.get(usize::try_from(row).ok()?));
            let (what, name) = row.map_or(("", None), described);
            conflicts.push(json!({"what": what, "name": name, "reason": conflict["reason"]}));
        }
        done += rows.len() as u64;
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    if out.is_json() {
        out.line(&json!({"conflicts": conflicts}).to_string())?;
    } else {
        out.table(&conflicts, &CONFLICT_COLUMNS, "")?;
    }
    bail!(
        "{} there already; nothing was imported",
        match conflicts.len() {
            1 => "one record is".to_owned(),
            number => format!("{number} records are"),
        }
    )
}

/// Describes a record, without secrets.
fn described(row: &Imported) -> (&'static str, Option<&str>) {
    match row {
        Imported::User(user) => ("user", Some(&user.username)),
        Imported::Device(device) => ("device", Some(device.serial.as_deref().unwrap_or(&device.name))),
        Imported::Token(_) => ("token", None),
    }
}

/// Reports what was taken, and what was not. `earlier` records were there from an attempt that was cut off.
fn report(plan: &Plan, found: &Found, earlier: u64, what: &str, out: Output) -> anyhow::Result<()> {
    let Plan { users, devices, tokens, remarks, renumbered, .. } = plan;
    let (remarks, renumbered) = (json!(remarks), json!(renumbered));
    let primaries: usize = plan.rows.iter().map(|row| if let Imported::Device(d) = row { d.primary_of.len() } else { 0 }).sum();
    if out.is_json() {
        let data = json!({
            "result": what.trim_end_matches(':'), "users": users, "tokens": tokens, "devices": devices, "primaries": primaries,
            "without_password": found.without_password, "earlier": earlier, "remarks": remarks, "renumbered": renumbered,
            "not_read": found.unread,
        });
        return out.line(&data.to_string());
    }
    let rows = |value: Value| value.as_array().cloned().unwrap_or_default();
    for (title, rows, columns) in [
        ("Not taken, or not as it is in the file:", rows(remarks), &REMARK_COLUMNS),
        ("The key is not free; programs that name it need the id that it has here:", rows(renumbered), &RENUMBERED_COLUMNS),
    ] {
        if !rows.is_empty() {
            out.line(title)?;
            out.table(&rows, columns, "")?;
            out.line("")?;
        }
    }
    if !found.unread.is_empty() {
        let models: Vec<String> = found.unread.iter().map(|(model, number)| format!("{} ({number})", visible(model))).collect();
        out.line(&format!("Not read: {}", models.join(", ")))?;
    }
    if found.without_password > 0 {
        let text = "without a password that can be used here; their tokens work, and `qy-lty user set-password` sets one";
        out.line(&format!("{} {text}", count(found.without_password, "user")))?;
    }
    if !plan.has_admin {
        out.line("None of the users is an administrator; `qy-lty user set-role NAME admin` makes one")?;
    }
    out.line(&format!(
        "{what} {}, {}, {} ({} primary)",
        count(*users as u64, "user"),
        count(*tokens as u64, "token"),
        count(*devices as u64, "device"),
        primaries
    ))
}
