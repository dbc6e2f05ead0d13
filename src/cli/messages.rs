//! `qy-lty send`.

use anyhow::bail;
use clap::Args;
use serde_json::value::RawValue;

use super::control_client::ControlClient;
use super::message;
use super::output::{Output, count};
use crate::config::parse_seconds;

/// The arguments of `send`.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// User (a name, or id:NUMBER) and message, or the message alone with --device or --all
    ///
    /// The message is a text. A JSON object, list or string is sent as that; with --json, so is any JSON, and nothing else. With - it is
    /// read from standard input.
    #[arg(value_names = ["USER", "TEXT"], num_args = 1.., required = true)]
    words: Vec<String>,
    /// Send to a device: its number, or a name that only one device has
    #[arg(long, value_name = "DEVICE", conflicts_with = "all")]
    device: Option<String>,
    /// Send to everybody
    #[arg(long)]
    all: bool,
    /// Type of the message
    #[arg(long = "type", default_value = "system")]
    kind: String,
    /// Time until a queued message expires, in seconds or with a unit: 90s, 15m, 12h, 7d
    #[arg(long, value_name = "TIME", conflicts_with = "live", value_parser = parse_seconds)]
    ttl: Option<u64>,
    /// Send to recipients that are connected now, without queueing
    #[arg(long)]
    live: bool,
}

impl Send {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let (path, message) = match (&self.words[..], &self.device, self.all) {
            ([message], Some(device), false) => (format!("/api/messages/device/{}", client.device_id(device).await?), message),
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
