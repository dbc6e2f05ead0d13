//! The command line.

mod config;
mod journal;
mod log;
mod reload;
mod serve;

use clap::{Parser, Subcommand};

/// Companion devices, apps and web pages talk to each other in real time.
#[derive(Debug, Parser)]
#[command(name = "qy-lty", version, about)]
pub struct Cli {
    #[command(flatten)]
    settings: config::Settings,

    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command)
    Serve,
    /// Check, show or begin a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Reads the arguments and does what they say. Ends the process itself for `--help`, `--version` and wrong arguments.
///
/// # Errors
/// Whatever kept the command from doing its work; prints as one plain sentence.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(cli.settings.layers()?),
        Command::Config(command) => config::run(command, cli.settings, cli.json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::path::PathBuf;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["qy-lty", "serve", "--config", "x.toml"]);
        assert_eq!(cli.settings.config, Some(PathBuf::from("x.toml")));
        assert!(Cli::parse_from(["qy-lty"]).command.is_none());
    }
}
