//! `qy-lty tail`.

use std::io::IsTerminal;

use anyhow::anyhow;
use clap::Args;
use serde_json::value::RawValue;

use super::control_client::ControlClient;
use super::lookup::Names;
use super::output::{Output, note};
use super::queue::MailboxArgs;
use crate::core::text::visible;

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
        let query = self.mailbox.find(client).await?.map(|mailbox| format!("?{}", mailbox.parameter())).unwrap_or_default();
        let mut stream = client.stream(&format!("/control/tail{query}")).await?;
        if std::io::stdout().is_terminal() {
            note("showing messages as they are sent; Ctrl-C ends");
        }
        let (mut unread, mut names) = (Vec::new(), Names::new(client));
        while let Some(chunk) = stream.chunk().await.map_err(|_| anyhow!("the server stopped"))? {
            unread.extend_from_slice(&chunk);
            while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                show(&line, &mut names, out).await?;
            }
        }
        Ok(())
    }
}

/// Writes one message.
async fn show(line: &[u8], names: &mut Names<'_>, out: Output) -> anyhow::Result<()> {
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
    // A name that can't be looked up is no reason to stop.
    let name = names.recipient(line.recipient).await.ok().flatten().filter(|_| line.recipient != "all");
    let recipient = name.map_or_else(|| line.recipient.to_owned(), |name| format!("{} {}", line.recipient, visible(&name)));
    let id = line.id.map_or_else(|| "live".into(), |id| format!("#{id}"));
    out.line(&format!("{recipient}  {id}  {}", line.message))
}
