//! The command line.

mod accounts;
mod config;
mod control;
mod devices;
mod maintenance;
mod messages;
mod print;
mod reload;
mod run_as;
mod serve;

use std::path::Path;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, Layers};
use crate::data_dir::STORE_DIRECTORY;

/// Where a package puts its configuration.
const PACKAGED: &str = "/etc/qy-lty/config.toml";

/// Companion devices, apps and web pages talk to each other in real time.
#[derive(Debug, Parser)]
#[command(name = "qy-lty", version, about)]
pub struct Cli {
    #[command(flatten)]
    settings: config::Settings,

    /// Answer in JSON (the log has log.format)
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also what happens without a command)
    Serve,
    #[command(flatten)]
    Control(ControlCommand),
    /// Write everything to a file
    Backup(maintenance::Backup),
    /// Make an empty data directory into what a backup holds
    Restore(maintenance::Restore),
    /// Look whether everything in the store can be read
    Check(maintenance::Check),
    /// Give room on the disk back
    Compact,
    /// Print what makes a shell complete these commands
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Check, show or begin a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// What the console does, a server's or our own.
#[derive(Debug, Subcommand)]
enum ControlCommand {
    /// Accounts
    #[command(subcommand)]
    User(accounts::User),
    /// Tokens: what programs and devices log in with
    #[command(subcommand)]
    Token(accounts::Token),
    /// Devices
    #[command(subcommand)]
    Device(devices::Device),
    /// Send a message
    #[command(override_usage = "qy-lty send [OPTIONS] <USER|--device ID|--all> <JSON>")]
    Send(messages::Send),
    /// What waits for whom
    #[command(subcommand)]
    Queue(messages::Queue),
    /// Follow what is sent, live
    Tail(messages::Tail),
    /// How the server is
    Status,
}

impl ControlCommand {
    async fn run(self, control: &control::Control, out: print::Printer) -> anyhow::Result<()> {
        match self {
            Self::User(what) => what.run(control, out).await,
            Self::Token(what) => what.run(control, out).await,
            Self::Device(what) => what.run(control, out).await,
            Self::Send(what) => what.run(control, out).await,
            Self::Queue(what) => what.run(control, out).await,
            Self::Tail(what) => what.run(control, out).await,
            Self::Status => maintenance::status(control, out).await,
        }
    }
}

/// Reads the arguments and does what they say. Ends the process itself for `--help`, `--version` and wrong arguments.
///
/// # Errors
/// Whatever kept the command from doing its work; prints as one plain sentence.
pub fn run() -> anyhow::Result<()> {
    match act(Cli::parse()) {
        Err(error) if error.is::<print::Enough>() => Ok(()),
        outcome => outcome,
    }
}

fn act(cli: Cli) -> anyhow::Result<()> {
    let out = print::Printer::new(cli.json);
    let flags = cli.settings;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(flags.layers()?),
        Command::Config(command) => config::run(command, flags, cli.json),
        Command::Control(what) => control::run(settings(flags)?, out, async |control, out| what.run(control, out).await),
        Command::Backup(what) => what.run(settings(flags)?, out),
        Command::Restore(what) => what.run(settings(flags)?, out),
        Command::Check(what) => what.run(settings(flags)?, out),
        Command::Compact => maintenance::compact(settings(flags)?, out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "qy-lty", &mut script);
            // It names states after the program and forgets that this one has a hyphen: bash would know the first word only.
            let script = String::from_utf8(script)?.replace("qy__subcmd__lty", "qy__lty");
            out.line(script.trim_end())
        }
    }
}

/// The settings of the server that the commands are for. Where none are named and there is no data directory here, those of
/// an installed package.
fn layers(flags: config::Settings) -> anyhow::Result<Layers> {
    let layers = flags.layers()?;
    let packaged = Path::new(PACKAGED);
    if layers.file().is_some()
        || !packaged.exists()
        || layers.read_without_upstreams()?.server.data_dir.join(STORE_DIRECTORY).exists()
    {
        return Ok(layers);
    }
    Ok(layers.with_fallback_file(packaged))
}

/// What they come to.
fn settings(flags: config::Settings) -> anyhow::Result<Config> {
    Ok(layers(flags)?.read_without_upstreams()?)
}

/// Runs `job` on a runtime of its own.
fn block_on<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime could not start")?;
    let outcome = runtime.block_on(job);
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["qy-lty", "serve", "--config", "x.toml"]);
        assert_eq!(cli.settings.config, Some(PathBuf::from("x.toml")));
        assert!(Cli::parse_from(["qy-lty"]).command.is_none());
        let cli = Cli::parse_from(["qy-lty", "user", "list", "--json"]);
        assert!(cli.json);
        assert!(Cli::try_parse_from(["qy-lty", "send", "--all", "--device", "3", "{}"]).is_err(), "one recipient");
        assert!(Cli::try_parse_from(["qy-lty", "send", "--all", "{}"]).is_ok());
    }
}
