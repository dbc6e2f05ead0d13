//! `qy-lty send`, `qy-lty queue`, `qy-lty tail`.

use std::io::IsTerminal;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::value::RawValue;

use super::control_client::ControlClient;
use super::message;
use super::output::{Column, Output, count, note};

/// A mailbox on the command line.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct MailboxArgs {
    /// User: a name, or id:NUMBER
    user: Option<String>,
    /// Device
    #[arg(long, value_name = "ID")]
    device: Option<u64>,
}

impl MailboxArgs {
    /// Returns the path of the mailbox below `/api/queue`; `None` where no mailbox is named.
    async fn path(&self, client: &ControlClient) -> anyhow::Result<Option<String>> {
        Ok(match (&self.user, self.device) {
            (Some(user), _) => Some(format!("/api/queue/user/{}", client.user_id(user).await?)),
            (None, Some(id)) => Some(format!("/api/queue/device/{id}")),
            (None, None) => None,
        })
    }
}

/// The arguments of `send`.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// User (a name, or id:NUMBER) and message, or the message alone with --device or --all
    ///
    /// The message is a text. A JSON object, list or string is sent as that; with --json, so is any JSON, and nothing else. With - it is
    /// read from standard input.
    #[arg(value_names = ["USER", "TEXT"], num_args = 1.., required = true)]
    words: Vec<String>,
    /// Send to a device
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    device: Option<u64>,
    /// Send to everybody
    #[arg(long)]
    all: bool,
    /// Type of the message
    #[arg(long = "type", default_value = "system")]
    kind: String,
    /// Time until a queued message expires
    #[arg(long, value_name = "SECONDS", conflicts_with = "live")]
    ttl: Option<u64>,
    /// Send to recipients that are connected now, without queueing
    #[arg(long)]
    live: bool,
}

impl Send {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let (path, message) = match (&self.words[..], self.device, self.all) {
            ([message], Some(id), false) => (format!("/api/messages/device/{id}"), message),
            ([message], None, true) => ("/api/messages/broadcast".into(), message),
            ([user, message], None, false) => (format!("/api/messages/user/{}", client.user_id(user).await?), message),
            ([_], None, false) => bail!("no recipient: name a user before the message, or pass --device or --all"),
            ([_, _], ..) => bail!("more than one recipient: name a user, or pass --device or --all"),
            _ => bail!("the message has several words: put it in quotes, 'like this'"),
        };
        let message = message::read(message, out.is_json())?;
        #[derive(serde::Serialize)]
        struct SendMessage<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            message: &'a RawValue,
            delivery: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            ttl: Option<u64>,
        }
        let delivery = if self.live { "live" } else { "queued" };
        let body = serde_json::to_string(&SendMessage { kind: &self.kind, message: &message, delivery, ttl: self.ttl })?;
        let sent = client.post_raw(&path, body).await?;
        let connected = count(sent["recipients"].as_u64().unwrap_or(0), "connection");
        let text = match sent["id"].as_u64() {
            Some(id) => format!("Queued message {id}; its recipient has {connected}"),
            None => format!("Sent a live message to {connected}"),
        };
        out.done(&sent, &text)
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
    },
}

const COLUMNS: [Column; 4] = [("RECIPIENT", "recipient"), ("MESSAGES", "messages"), ("BYTES", "bytes"), ("OLDEST", "oldest")];

impl QueueCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::List(mailbox) => match mailbox.path(client).await? {
                Some(path) => out.fields(&client.get(&path).await?, &COLUMNS),
                None => out.table(&client.list("/control/queue").await?, &COLUMNS, "No queued messages"),
            },
            Self::Clear { mailbox, all } => {
                let path = match mailbox.path(client).await? {
                    Some(path) => path,
                    None if all => "/api/queue".into(),
                    None => bail!("no mailbox: name a user, or pass --device or --all"),
                };
                let cleared = client.delete(&path).await?;
                let messages = count(cleared["messages"].as_u64().unwrap_or(0), "queued message");
                out.done(&cleared, &format!("Deleted {messages}"))
            }
        }
    }
}

/// The arguments of `tail`.
#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    mailbox: MailboxArgs,
}

impl Tail {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        client.require_server("there are no messages to show").await?;
        let query = match (&self.mailbox.user, self.mailbox.device) {
            (Some(user), _) => format!("?user={}", client.user_id(user).await?),
            (None, Some(id)) => format!("?device={id}"),
            (None, None) => String::new(),
        };
        let mut stream = client.stream(&format!("/control/tail{query}")).await?;
        if std::io::stdout().is_terminal() {
            note("showing messages as they are sent; Ctrl-C ends");
        }
        let mut unread = Vec::new();
        while let Some(chunk) = stream.chunk().await.map_err(|_| anyhow!("the server stopped"))? {
            unread.extend_from_slice(&chunk);
            while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                show(&line, out)?;
            }
        }
        Ok(())
    }
}

/// Writes one message.
fn show(line: &[u8], out: Output) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(default)]
        missed: bool,
        recipient: &'a str,
        id: Option<u64>,
        #[serde(borrow)]
        message: &'a RawValue,
    }
    let text = std::str::from_utf8(line)?.trim_end();
    if out.is_json() {
        return out.line(text);
    }
    let line: Line<'_> = serde_json::from_str(text)?;
    if line.missed {
        out.line("(some messages before this one were missed)")?;
    }
    let id = line.id.map_or_else(|| "live".into(), |id| format!("#{id}"));
    out.line(&format!("{}  {id}  {}", line.recipient, line.message))
}
