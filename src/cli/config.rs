//! `qy-lty config …`, and the flags that choose settings.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::config::{DEFAULT, Flag, Layers};
use crate::net::tls::Tls;

/// Where settings come from besides the environment; for every command.
#[derive(Debug, Default, Args)]
pub(super) struct Settings {
    /// The configuration file (TOML); without one that of the environment's QY_LTY_CONFIG, else the defaults; commands for a
    /// server take /etc/qy-lty/config.toml where there is no data directory here
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A setting, over those of file and environment, such as limits.ping_seconds=20
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Address and port: server.listen
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "ADDRESS")]
    listen: Option<String>,
    /// The data directory: server.data_dir
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "DIRECTORY")]
    data_dir: Option<String>,
}

impl Settings {
    /// The layers that these flags, the environment and the file make.
    pub(super) fn layers(self) -> anyhow::Result<Layers> {
        let mut flags = self.set.iter().map(|text| Flag::set(text)).collect::<Result<Vec<_>, _>>()?;
        flags.extend(self.listen.map(|value| Flag::dedicated("--listen", "server.listen", value)));
        flags.extend(self.data_dir.map(|value| Flag::dedicated("--data-dir", "server.data_dir", value)));
        Ok(Layers::from_process(self.config, flags))
    }
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether it can be used
    Check,
    /// Print what is in force, and where each value comes from
    Show,
    /// Print every setting with its meaning and its default, as a file to begin with
    Default,
}

/// Does it.
pub(super) fn run(command: ConfigCommand, settings: Settings, json: bool) -> anyhow::Result<()> {
    let said = match command {
        ConfigCommand::Default if json => {
            let defaults = Layers::default().read()?;
            pretty(&defaults.to_json()["config"])?
        }
        ConfigCommand::Default => DEFAULT.to_owned(),
        ConfigCommand::Check => {
            let layers = super::layers(settings)?;
            let (loaded, missing) = layers.read_lenient()?;
            Tls::check(&loaded.config.tls)?;
            let file = layers.file().map(|path| path.display().to_string());
            match json {
                true => pretty(&serde_json::json!({"usable": true, "file": file, "missing": missing}))?,
                false => {
                    let used = file.as_deref().unwrap_or("the configuration (of no file)");
                    let missing = missing.iter().map(|what| format!("when it is served: {what}\n"));
                    std::iter::once(format!("{used} can be used\n")).chain(missing).collect()
                }
            }
        }
        ConfigCommand::Show => {
            let (loaded, _) = super::layers(settings)?.read_lenient()?;
            if json { pretty(&loaded.to_json())? } else { loaded.to_toml() }
        }
    };
    match std::io::stdout().write_all(said.as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("standard output can't be written"),
    }
}

fn pretty(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
