//! `qy-lty config`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::Output;
use super::settings::SettingFlags;
use crate::config::{DEFAULT, Layers};
use crate::net::tls::Tls;

/// The commands below `config`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check whether a server can start with the configuration
    Check,
    /// Show the settings in force, and the source of each
    Show,
    /// Print every setting with its meaning and its default, as a file to start from
    Default,
}

/// Runs the command.
pub(super) fn run(command: ConfigCommand, flags: SettingFlags, out: Output) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Default if out.is_json() => out.text(&pretty(&Layers::default().read()?.to_json()["config"])?),
        ConfigCommand::Default => out.text(DEFAULT),
        ConfigCommand::Check => check(&flags.layers_for_commands()?, out),
        ConfigCommand::Show => {
            let (loaded, _) = flags.layers_for_commands()?.read_lenient()?;
            if out.is_json() { out.text(&pretty(&loaded.to_json())?) } else { out.text(&loaded.to_toml()) }
        }
    }
}

/// Checks the configuration, the certificate's files included. Secrets that can't be read from here are named and are no error:
/// those of a service often can't be read by the user of a command.
fn check(layers: &Layers, out: Output) -> anyhow::Result<()> {
    let (loaded, missing) = layers.read_lenient()?;
    Tls::check(&loaded.config.tls)?;
    let file = layers.file().map(|path| path.display().to_string());
    if out.is_json() {
        return out.text(&pretty(&json!({"usable": true, "file": file, "missing": missing}))?);
    }
    let name = file.map_or_else(|| "The configuration".to_owned(), |file| format!("The configuration {file}"));
    let missing: String = missing.iter().map(|secret| format!("Needed to serve: {secret}\n")).collect();
    out.text(&format!("{name} is valid\n{missing}"))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
