//! The flags that choose settings, and the configuration that a command uses.

use std::path::{Path, PathBuf};

use clap::Args;

use super::help::GLOBAL;
use crate::config::{Config, Flag, Layers};
use crate::data_dir::STORE_DIRECTORY;

/// The configuration of an installed package.
const PACKAGED_CONFIG: &str = "/etc/qy-lty/config.toml";

/// The sources of settings besides the environment; every command has these flags.
#[derive(Debug, Default, Args)]
pub(super) struct SettingFlags {
    /// Configuration file (TOML)
    ///
    /// Without this flag, the file that QY_LTY_CONFIG names, else the defaults. Commands for a server use
    /// /etc/qy-lty/config.toml where no file is named and no data directory is found.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Override a setting of file and environment, such as limits.ping_seconds=20
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Address and port to listen on (server.listen)
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Data directory (server.data_dir)
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    data_dir: Option<String>,
}

impl SettingFlags {
    /// Returns the flags with these names and values; others are ignored.
    pub(super) fn of(given: &[(String, String)]) -> Self {
        let mut flags = Self::default();
        for (name, value) in given {
            match name.as_str() {
                "config" => flags.config = Some(value.into()),
                "set" => flags.set.push(value.clone()),
                "data-dir" => flags.data_dir = Some(value.clone()),
                _ => {}
            }
        }
        flags
    }

    /// Returns the layers of the file, the environment and these flags.
    pub(super) fn layers(self) -> anyhow::Result<Layers> {
        let mut flags = self.set.iter().map(|text| Flag::set(text)).collect::<Result<Vec<_>, _>>()?;
        flags.extend(self.listen.map(|value| Flag::dedicated("--listen", "server.listen", value)));
        flags.extend(self.data_dir.map(|value| Flag::dedicated("--data-dir", "server.data_dir", value)));
        Ok(Layers::from_process(self.config, flags))
    }

    /// Returns the layers of the server that a command is for: those of an installed package where no file is named and there is no
    /// store in the data directory.
    pub(super) fn layers_for_commands(self) -> anyhow::Result<Layers> {
        let layers = self.layers()?;
        let packaged = Path::new(PACKAGED_CONFIG);
        if layers.file().is_some()
            || !packaged.exists()
            || layers.read_without_upstreams()?.server.data_dir.join(STORE_DIRECTORY).exists()
        {
            return Ok(layers);
        }
        Ok(layers.with_fallback_file(packaged))
    }

    /// Returns the configuration that these layers make.
    pub(super) fn for_commands(self) -> anyhow::Result<Config> {
        Ok(self.layers_for_commands()?.read_without_upstreams()?)
    }
}
