//! `qy-lty send`, `qy-lty queue`, `qy-lty tail`.

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use serde_json::value::RawValue;

use super::control::Control;
use super::print::{Column, Printer};

/// Whom it is about.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Whom {
    /// A user: a name, or id:NUMBER
    user: Option<String>,
    /// A device
    #[arg(long, value_name = "ID")]
    device: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    /// USER and JSON, or JSON alone where --device or --all says for whom
    #[arg(value_names = ["USER", "JSON"], num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// To a device
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    device: Option<u64>,
    /// To everybody
    #[arg(long)]
    all: bool,
    /// What kind of message it is
    #[arg(long = "type", default_value = "system")]
    kind: String,
    /// How many seconds it waits for its recipient
    #[arg(long, value_name = "SECONDS", conflicts_with = "live")]
    ttl: Option<u64>,
    /// Only to who is connected now
    #[arg(long)]
    live: bool,
}

impl Send {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        let (path, message) = match (&self.words[..], self.device, self.all) {
            ([message], Some(id), false) => (format!("/api/messages/device/{id}"), message),
            ([message], None, true) => ("/api/messages/broadcast".into(), message),
            ([user, message], None, false) => (format!("/api/messages/user/{}", control.user_id(user).await?), message),
            ([_], None, false) => bail!("for whom? A user before the message, or --device or --all"),
            _ => bail!("one recipient: a user, or --device, or --all"),
        };
        // Sent on as it is written: numbers keep their digits, keys their order.
        let message: Box<RawValue> = serde_json::from_str(message)
            .map_err(|error| anyhow!("the message is no JSON, {error} (a text is written '\"like this\"')"))?;
        #[derive(serde::Serialize)]
        struct Body<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            message: &'a RawValue,
            delivery: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            ttl: Option<u64>,
        }
        let delivery = if self.live { "live" } else { "queued" };
        let body = serde_json::to_string(&Body { kind: &self.kind, message: &message, delivery, ttl: self.ttl })?;
        let sent = control.post_raw(&path, body).await?;
        let to = sent["recipients"].as_u64().unwrap_or(0);
        let text = match sent["id"].as_u64() {
            Some(id) => format!("queued as message {id}; {to} connected"),
            None => format!("sent to {to} connected"),
        };
        out.done(&sent, &text)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// What waits: everywhere, or for one
    List(#[command(flatten)] Whom),
    /// Let go of what waits for one, or everywhere
    Clear {
        #[command(flatten)]
        whom: Whom,
        /// Everywhere
        #[arg(long, conflicts_with_all = ["user", "device"])]
        all: bool,
    },
}

const WAITING: [Column; 4] = [("RECIPIENT", "recipient"), ("MESSAGES", "messages"), ("BYTES", "bytes"), ("OLDEST", "oldest")];

impl Whom {
    /// The path behind `/api/queue`, where one is named.
    async fn path(&self, control: &Control) -> anyhow::Result<Option<String>> {
        Ok(match (&self.user, self.device) {
            (Some(user), _) => Some(format!("/api/queue/user/{}", control.user_id(user).await?)),
            (None, Some(id)) => Some(format!("/api/queue/device/{id}")),
            (None, None) => None,
        })
    }
}

impl Queue {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        match self {
            Self::List(whom) => match whom.path(control).await? {
                Some(path) => out.fields(&control.get(&path).await?, &WAITING),
                None => out.table(&everywhere(control).await?, &WAITING, "nothing waits"),
            },
            Self::Clear { whom, all } => {
                let path = match whom.path(control).await? {
                    Some(path) => path,
                    None if all => "/api/queue".into(),
                    None => bail!("whose queue? A user, --device or --all"),
                };
                let cleared = control.delete(&path).await?;
                out.done(&cleared, &format!("messages let go: {}", cleared["messages"]))
            }
        }
    }
}

/// All mailboxes with something in them.
async fn everywhere(control: &Control) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let Value::Array(page) = control.get(&format!("/control/queue{after}")).await? else { break };
        let Some(last) = page.last().and_then(|row| row["recipient"].as_str()) else { break };
        after = format!("?after={last}");
        all.extend(page);
    }
    Ok(all)
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    whom: Whom,
}

impl Tail {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        control.needs_server("there is nothing to follow").await?;
        let query = match (&self.whom.user, self.whom.device) {
            (Some(user), _) => format!("?user={}", control.user_id(user).await?),
            (None, Some(id)) => format!("?device={id}"),
            (None, None) => String::new(),
        };
        let mut stream = control.stream(&format!("/control/tail{query}")).await?;
        let mut rest = Vec::new();
        while let Some(piece) = stream.chunk().await.map_err(|_| anyhow!("the server has ended"))? {
            rest.extend_from_slice(&piece);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                show(&line, out)?;
            }
        }
        Ok(())
    }
}

/// One message.
fn show(line: &[u8], out: Printer) -> anyhow::Result<()> {
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
    let seen: Line<'_> = serde_json::from_str(text)?;
    if seen.missed {
        out.line("(some were missed)")?;
    }
    let id = seen.id.map_or_else(|| "live".into(), |id| format!("#{id}"));
    out.line(&format!("{}  {id}  {}", seen.recipient, seen.message))
}
