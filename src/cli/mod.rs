//! The command line.

mod audit;
mod backup;
mod bench;
mod clients;
#[cfg(feature = "cluster")]
mod cluster;
mod complete;
mod completions;
mod config;
mod confirm;
mod control_client;
mod devices;
mod endpoint;
mod failure;
mod help;
mod import;
mod interrupts;
mod link;
mod lookup;
mod maintenance;
mod man;
mod message;
mod messages;
mod output;
mod password;
mod people;
mod progress;
mod queue;
mod receipts;
mod reload;
mod run_as;
mod runtime;
mod serve;
mod settings;
mod status;
mod tail;
mod terminal;
mod tokens;
mod users;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::control_client::ControlClient;
use self::output::{Output, ReaderClosed, ReplyUnreadable, note};
use crate::core::disk::remedy;

/// Send messages to companion devices, apps and web pages in real time
#[derive(Debug, Parser)]
#[command(name = "qy-lty", version, after_help = help::EXAMPLES, after_long_help = help::EXAMPLES_AND_ENVIRONMENT)]
struct Cli {
    #[command(flatten)]
    settings: settings::SettingFlags,

    /// Print JSON (for the log, set log.format)
    #[arg(long, global = true, help_heading = help::GLOBAL)]
    json: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default command)
    Serve(serve::Serve),
    #[command(flatten)]
    Control(ControlCommand),
    /// Write a backup to a file
    #[command(after_help = help::BACKUP)]
    Backup(backup::Backup),
    /// Restore a backup into an empty data directory
    #[command(after_help = help::RESTORE)]
    Restore(maintenance::Restore),
    /// Import users, tokens and devices from a Django system
    #[command(after_help = help::IMPORT)]
    Import(import::Import),
    /// Verify the data store
    #[command(after_help = help::CHECK)]
    Check(maintenance::Check),
    /// Reclaim disk space while the server is stopped
    Compact,
    /// Manage the cluster that this node is one of
    #[cfg(feature = "cluster")]
    #[command(subcommand, after_help = help::CLUSTER)]
    Cluster(cluster::ClusterCommand),
    /// Measure what a server can take on this machine
    #[command(after_help = help::BENCH)]
    Bench(bench::Bench),
    /// Check or show the configuration
    #[command(subcommand, after_help = help::CONFIG)]
    Config(config::ConfigCommand),
    /// Print the completion script of a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// Shell to print the script for
        shell: Shell,
    },
    /// Print the man page, or write all man pages to a directory
    #[command(after_help = help::MAN)]
    Man {
        /// Directory to write to, created where it is missing
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// The commands that use the control socket of a running server, or that of this process.
#[derive(Debug, Subcommand)]
enum ControlCommand {
    /// Manage users
    #[command(subcommand, after_help = help::USER)]
    User(users::UserCommand),
    /// Manage the tokens that programs and devices log in with
    #[command(subcommand, after_help = help::TOKEN)]
    Token(tokens::TokenCommand),
    /// Manage devices
    #[command(subcommand, after_help = help::DEVICE)]
    Device(devices::DeviceCommand),
    /// Send a message
    #[command(override_usage = "qy-lty send [OPTIONS] <USER|--device DEVICE|--all> <TEXT|->", after_help = help::SEND)]
    Send(messages::Send),
    /// Manage the clients of a user
    #[command(subcommand, after_help = help::CLIENT)]
    Client(clients::ClientCommand),
    /// List or clear queued messages
    #[command(subcommand, after_help = help::QUEUE)]
    Queue(queue::QueueCommand),
    /// Show who logged in, was refused, or changed accounts and devices
    #[command(after_help = help::AUDIT)]
    Audit(audit::Audit),
    /// Print a link that logs a browser on this machine in, once
    #[command(after_help = help::LINK)]
    Link(link::Link),
    /// Show messages as they are sent
    #[command(after_help = help::TAIL)]
    Tail(tail::Tail),
    /// Show the delivery status of a message
    #[command(after_help = help::RECEIPT)]
    Receipt(receipts::Receipt),
    /// Show the messages that are queued or kept for a user or a device
    #[command(after_help = help::HISTORY)]
    History(receipts::History),
    /// Show server status
    #[command(after_help = help::STATUS)]
    Status,
}

impl ControlCommand {
    async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::User(command) => command.run(client, out).await,
            Self::Token(command) => command.run(client, out).await,
            Self::Device(command) => command.run(client, out).await,
            Self::Send(command) => command.run(client, out).await,
            Self::Client(command) => command.run(client, out).await,
            Self::Queue(command) => command.run(client, out).await,
            Self::Audit(command) => command.run(client, out).await,
            Self::Link(command) => command.run(client, out).await,
            Self::Tail(command) => command.run(client, out).await,
            Self::Receipt(command) => command.run(client, out).await,
            Self::History(command) => command.run(client, out).await,
            Self::Status => status::status(client, out).await,
        }
    }
}

/// Parses the arguments, runs their command and returns the exit status; writes its error to standard error. Ends the process for
/// `--help`, `--version` and invalid arguments.
pub fn run() -> ExitCode {
    // Not among the commands, which help and scripts would list.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|name| name == complete::COMMAND) {
        return complete::run(&Cli::command(), arguments);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => failure::exit_for(&error, std::env::args_os().any(|argument| argument == "--json")),
    };
    let json = cli.json;
    match dispatch(cli) {
        Err(error) if error.is::<ReaderClosed>() => ExitCode::SUCCESS,
        Err(error) if error.is::<ReplyUnreadable>() => {
            note(&error.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => failure::report(&explained(error), json),
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// Adds the remedy to an error that is one of the disk, where its text lacks it.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let Some(cause) = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()) else { return error };
    match remedy(cause.kind()) {
        Some(remedy) if !format!("{error:#}").contains(remedy) => anyhow!("{error}: {cause}: {remedy}"),
        _ => error,
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let out = Output::new(cli.json);
    let flags = cli.settings;
    match cli.command.unwrap_or(Command::Serve(serve::Serve::default())) {
        Command::Serve(serve) => serve.run(flags.layers()?),
        Command::Config(command) => config::run(command, flags, out),
        Command::Control(command) => {
            control_client::run(flags.for_commands()?, out, async |client, out| command.run(client, out).await)
        }
        Command::Backup(command) => command.run(flags.for_commands()?, out),
        Command::Restore(command) => command.run(flags.for_commands()?, out),
        Command::Import(command) => command.run(flags.for_commands()?, out),
        Command::Check(command) => command.run(flags.for_commands()?, out),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => command.run(flags, out),
        Command::Bench(command) => command.run(flags, out),
        Command::Compact => maintenance::compact(flags.for_commands()?, out),
        Command::Completions { shell } => out.line(&completions::script(shell, &mut Cli::command())?),
        Command::Man { directory: None } => man::print(Cli::command(), out),
        Command::Man { directory: Some(directory) } => man::write_all(Cli::command(), &directory, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("qy-lty").chain(arguments.iter().copied()))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
        let cli = parsed(&["serve", "--config", "x.toml"]).unwrap();
        assert_eq!(cli.settings.config, Some(PathBuf::from("x.toml")));
        assert!(parsed(&[]).unwrap().command.is_none());
        assert!(parsed(&["user", "list", "--json"]).unwrap().json);
        assert!(parsed(&["send", "--all", "--device", "3", "{}"]).is_err(), "one recipient");
        assert!(parsed(&["send", "--device", "lamp", "--ttl", "1h", "x"]).is_ok());
        assert!(
            parsed(&["send", "ana", "x", "--ttl", "1.5h"]).is_err()
                && parsed(&["token", "create", "ana", "--expires", "30d"]).is_ok()
        );
        assert!(parsed(&["queue", "clear", "--all", "--yes"]).is_ok() && parsed(&["queue", "clear", "ana", "--yes"]).is_err());
        assert!(parsed(&["history", "ana", "--limit", "0"]).is_err() && parsed(&["receipt", "x"]).is_err());
        assert!(parsed(&["send", "--all", "{}"]).is_ok());
        assert!(parsed(&["send", "ana", "hello", "world"]).is_ok(), "refused with a hint");
        assert!(parsed(&["send", "ana", "-"]).is_ok() && parsed(&["send"]).is_err());
        for line in [&["link"][..], &["link", "admin"]] {
            assert!(format!("{:?}", parsed(line).unwrap()).contains("Link { user: \"admin\" }"));
        }
    }

    #[test]
    fn former_command_names_are_hidden_aliases() {
        let pairs = [
            ("user add ana", "user create ana"),
            ("user passwd ana", "user set-password ana"),
            ("user role ana admin", "user set-role ana admin"),
            ("user remove ana", "user delete ana"),
            ("device add lamp --user ana", "device create lamp --user ana"),
            ("device remove 3", "device delete 3"),
        ];
        for (former, name) in pairs {
            let parsed = |line: &str| format!("{:?}", parsed(&line.split(' ').collect::<Vec<_>>()).unwrap());
            assert_eq!(parsed(former), parsed(name));
        }
        let help = |path: &str| parsed(&[path, "--help"]).unwrap_err().to_string();
        assert!(!help("user").contains("passwd") && !help("device").contains(" add"));
    }

    #[test]
    fn exit_statuses_are_documented() {
        let help = parsed(&["--help"]).unwrap_err().to_string();
        for line in ["0 ", "1 ", "2 ", "3 ", "130"] {
            assert!(help.lines().any(|shown| shown.trim_start().starts_with(line)), "{line}: {help}");
        }
        let short = parsed(&["status", "--help"]).unwrap_err().to_string();
        assert!(short.contains("Exit status"), "{short}");
    }

    #[test]
    fn help_of_every_command_is_one_line_that_begins_with_a_verb() {
        fn walk(command: &clap::Command) {
            let about = command.get_about().unwrap_or_else(|| panic!("{} has no help", command.get_name())).to_string();
            assert!(!about.contains('\n') && about.len() <= 80 && !about.ends_with('.'), "{about}");
            let first = about.split(' ').next().unwrap_or_default();
            assert!(first.starts_with(char::is_uppercase) && !first.ends_with('s') && first != "A", "{about}");
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
