//! `qy-lty receipt` and `qy-lty history`: what has become of messages.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::control_client::ControlClient;
use super::lookup::{Names, beside};
use super::output::{Column, Output};
use super::queue::MailboxArgs;

/// The arguments of `receipt`.
#[derive(Debug, Args)]
pub(super) struct Receipt {
    /// Id of the message, which `send` prints
    id: u64,
}

const RECEIPT_FIELDS: [Column; 11] = [
    ("message", "id"),
    ("status", "status"),
    ("to", "recipient"),
    ("from", "sender"),
    ("queued", "queued_at"),
    ("sent", "sent_at"),
    ("received", "acked_at"),
    ("ended", "ended_at"),
    ("expires", "expires_at"),
    ("deliveries", "deliveries"),
    ("received by users", "received"),
];

const READER_COLUMNS: [Column; 3] = [("CLIENT", "client"), ("RECEIVED", "acked_at"), ("STATUS", "status")];

impl Receipt {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let mut receipt = client.get(&format!("/api/messages/{}", self.id)).await?;
        if out.is_json() {
            return out.line(&receipt.to_string());
        }
        let mut names = Names::new(client);
        let id = |field: &str| receipt[field].as_u64();
        let recipient = match (id("user_id"), id("device_id")) {
            (Some(user), _) => format!("user {}", beside(names.user(user).await?, user)),
            (None, Some(device)) => format!("device {}", beside(names.device(device).await?, device)),
            (None, None) => "everybody".into(),
        };
        let sender = match id("sender_id") {
            Some(0) | None => "the operator".into(),
            Some(user) => beside(names.user(user).await?, user),
        };
        if receipt["status"] != "queued" && receipt["status"] != "sent" {
            receipt["expires_at"] = Value::Null; // its life is over
        }
        receipt["recipient"] = recipient.into();
        receipt["sender"] = sender.into();
        out.fields(&receipt, &RECEIPT_FIELDS)?;
        match receipt["readers"].as_array() {
            Some(readers) if !readers.is_empty() => {
                out.line("")?;
                out.table(readers, &READER_COLUMNS, "")
            }
            _ => Ok(()),
        }
    }
}

/// The arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    mailbox: MailboxArgs,
    /// Show messages after this one only
    #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
    since: u64,
    /// Number of messages, the newest, that are shown
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

const HISTORY_COLUMNS: [Column; 5] = [("ID", "id"), ("SENT", "at"), ("FROM", "sender"), ("TYPE", "type"), ("MESSAGE", "message")];

impl History {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let Some(mailbox) = self.mailbox.find(client).await? else { bail!("no mailbox: name a user, or pass --device") };
        let mut messages = client.list(&format!("/control/history?{}&since={}", mailbox.parameter(), self.since)).await?;
        messages.drain(..messages.len().saturating_sub(usize::from(self.limit)));
        if !out.is_json() {
            for message in &mut messages {
                message["at"] = message["timestamp"].take();
                // As it would be sent again: texts without quotes, everything else as JSON.
                if !message["message"].is_string() {
                    message["message"] = message["message"].to_string().into();
                }
            }
        }
        out.table(&messages, &HISTORY_COLUMNS, "No messages that are queued or kept")
    }
}
