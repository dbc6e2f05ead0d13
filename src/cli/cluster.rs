//! `qy-lty cluster`: several nodes as one.

use anyhow::{anyhow, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::control_client;
use super::endpoint::is_served;
use super::output::{Column, Output};
use super::run_as::RunAs;
use super::runtime::block_on;
use super::settings::SettingFlags;
use crate::cluster::founding;
use crate::config::{ClusterConfig, Config};
use crate::data_dir;

/// The commands for clusters.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Make the data of this machine the first node of a new cluster
    Found,
    /// Show what this node knows of its cluster
    Status,
    /// Make the copy of this node the data of one machine
    Leave {
        /// Do it without a question
        #[arg(long)]
        yes: bool,
    },
}

const FIELDS: [Column; 9] = [
    ("cluster", "cluster"),
    ("node", "node"),
    ("state", "standing"),
    ("position", "position"),
    ("end of the log", "end"),
    ("number of the log", "generation"),
    ("copies agree", "agrees"),
    ("other nodes", "others"),
    ("snapshots at", "snapshots"),
];

impl ClusterCommand {
    /// Runs the command.
    pub(super) fn run(self, flags: SettingFlags, out: Output) -> anyhow::Result<()> {
        // With secrets: the engine asks for a password. Those of upstreams may be missing.
        let (loaded, _) = flags.layers_for_commands()?.read_lenient()?;
        match self {
            Self::Found => found(loaded.config, out),
            Self::Status => {
                control_client::run(loaded.config, out, async |client, out| status(client.get("/control/cluster").await?, out))
            }
            Self::Leave { yes } => leave(loaded.config, yes, out),
        }
    }
}

/// Returns the section `[cluster]`.
fn section(config: &Config) -> anyhow::Result<ClusterConfig> {
    config
        .cluster
        .clone()
        .ok_or_else(|| anyhow!("the configuration has no section [cluster]; `qy-lty config default` describes it"))
}

/// Refuses a data directory that a server has open.
fn require_stopped(config: &Config) -> anyhow::Result<()> {
    if is_served(&config.server.data_dir) {
        bail!("a server is running on {}; stop it before this", config.server.data_dir.display());
    }
    Ok(())
}

fn found(mut config: Config, out: Output) -> anyhow::Result<()> {
    let cluster = section(&config)?;
    require_stopped(&config)?;
    let _run_as = RunAs::owner_of(&mut config)?;
    // Where there is no data, the first node to start creates the administrator.
    let data = data_dir::prepare(&config.server.data_dir)?;
    block_on(async { Ok(founding::found(&cluster, &config, &data).await?) })?;
    let text = format!("Founded the cluster {}. Start this node, then the others with empty data directories", cluster.name);
    out.done(&json!({"cluster": cluster.name}), &text)
}

fn leave(mut config: Config, yes: bool, out: Output) -> anyhow::Result<()> {
    control_client::require_data(&config.server.data_dir)?;
    require_stopped(&config)?;
    confirm("The other nodes go on without this one, and the data of this one is its own from here on. Leave?", yes)?;
    let _run_as = RunAs::owner_of(&mut config)?;
    let data = config.server.data_dir;
    let (position, epoch) = block_on(async { Ok(founding::leave(&data).await?) })?;
    let text = format!(
        "Left the cluster at position {position}. Remove the section [cluster] before the next start; clients that remember message ids \
         start over (epoch {epoch})"
    );
    out.done(&json!({"position": position, "epoch": epoch}), &text)
}

fn status(mut status: Value, out: Output) -> anyhow::Result<()> {
    if !out.is_json() {
        let listed = |values: &Value, text: &dyn Fn(&Value) -> String| {
            let all: Vec<String> = values.as_array().into_iter().flatten().map(text).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        let other = |node: &Value| format!("{} ({} s ago)", node["node"].as_str().unwrap_or_default(), node["seconds"]);
        status["others"] = listed(&status["others"], &other).into();
        status["snapshots"] = listed(&status["snapshots"], &Value::to_string).into();
        if status["end"].is_null() {
            status["end"] = "not known: the log can't be reached".into();
        }
    }
    out.fields(&status, &FIELDS)
}
