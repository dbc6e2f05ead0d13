//! `qy-lty queue`.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::confirm::confirm;
use super::control_client::ControlClient;
use super::lookup::Names;
use super::output::{Column, Output, count};

/// A mailbox on the command line.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct MailboxArgs {
    /// User: a name, or id:NUMBER
    user: Option<String>,
    /// Device: its number, or a name that only one device has
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

/// A mailbox that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mailbox {
    /// That of a user, by id.
    User(u64),
    /// That of a device, by id.
    Device(u64),
}

impl MailboxArgs {
    /// Returns the mailbox; `None` where none is named.
    pub(super) async fn find(&self, client: &ControlClient) -> anyhow::Result<Option<Mailbox>> {
        Ok(match (&self.user, &self.device) {
            (Some(user), _) => Some(Mailbox::User(client.user_id(user).await?)),
            (None, Some(device)) => Some(Mailbox::Device(client.device_id(device).await?)),
            (None, None) => None,
        })
    }
}

impl Mailbox {
    /// Returns its path in the REST API.
    fn path(self) -> String {
        match self {
            Self::User(id) => format!("/api/queue/user/{id}"),
            Self::Device(id) => format!("/api/queue/device/{id}"),
        }
    }

    /// Returns the query parameter that stands for it.
    pub(super) fn parameter(self) -> String {
        match self {
            Self::User(id) => format!("user={id}"),
            Self::Device(id) => format!("device={id}"),
        }
    }
}

/// The commands below `queue`.
#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List queued messages by recipient, or show one mailbox
    List(#[command(flatten)] MailboxArgs),
    /// Delete the queued messages of one mailbox, or of all
    Clear {
        #[command(flatten)]
        mailbox: MailboxArgs,
        /// Clear every mailbox
        #[arg(long, conflicts_with_all = ["user", "device"])]
        all: bool,
        /// Clear every mailbox without asking
        #[arg(long, requires = "all", conflicts_with_all = ["user", "device"])]
        yes: bool,
    },
}

const COLUMNS: [Column; 5] =
    [("RECIPIENT", "recipient"), ("NAME", "name"), ("MESSAGES", "messages"), ("SIZE", "bytes"), ("OLDEST", "oldest")];

const FIELDS: [Column; 3] = [("messages", "messages"), ("size", "bytes"), ("oldest", "oldest")];

impl QueueCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::List(mailbox) => match mailbox.find(client).await? {
                Some(mailbox) => out.fields(&client.get(&mailbox.path()).await?, &FIELDS),
                None => list(client, out).await,
            },
            Self::Clear { mailbox, all, yes } => {
                let path = match mailbox.find(client).await? {
                    Some(mailbox) => mailbox.path(),
                    None if all => {
                        confirm(&everything(client).await?, yes)?;
                        "/api/queue".into()
                    }
                    None => bail!("no mailbox: name a user, or pass --device or --all"),
                };
                let cleared = client.delete(&path).await?;
                let messages = count(cleared["messages"].as_u64().unwrap_or(0), "queued message");
                out.done(&cleared, &format!("Deleted {messages}"))
            }
        }
    }
}

/// Lists the mailboxes that are not empty.
async fn list(client: &ControlClient, out: Output) -> anyhow::Result<()> {
    let mut rows = client.list("/control/queue").await?;
    if !out.is_json() {
        let mut names = Names::new(client);
        let of = |kind: &str| rows.iter().filter(|row| row["recipient"].as_str().is_some_and(|to| to.starts_with(kind))).count();
        let (users, devices) = (of("user:"), of("device:"));
        names.expect_users(users).await?;
        names.expect_devices(devices).await?;
        for row in &mut rows {
            row["name"] = names.recipient(row["recipient"].as_str().unwrap_or_default()).await?.into();
        }
    }
    out.table(&rows, &COLUMNS, "No queued messages")
}

/// Returns the question before all mailboxes are cleared.
async fn everything(client: &ControlClient) -> anyhow::Result<String> {
    let total = client.get("/api/queue").await?;
    let number = |field: &str| total.get(field).and_then(Value::as_u64).unwrap_or(0);
    Ok(format!("Delete {} in {}?", count(number("messages"), "queued message"), count(number("mailboxes"), "mailbox")))
}
