//! `qy-lty link`.

use std::io::IsTerminal;

use clap::Args;

use super::control_client::ControlClient;
use super::output::{Output, count, note};
use crate::ops::first_start::ADMIN;

/// The arguments of `link`.
#[derive(Debug, Args)]
pub(super) struct Link {
    /// User: a name, or id:NUMBER
    #[arg(default_value = ADMIN)]
    user: String,
}

impl Link {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        client.require_server("the link would lead nowhere; start one first").await?;
        let id = client.user_id(&self.user).await?;
        let made = client.post_raw(&format!("/control/users/{id}/link"), String::new()).await?;
        if out.is_json() {
            return out.line(&made.to_string());
        }
        out.line(made["url"].as_str().unwrap_or_default())?;
        if std::io::stdout().is_terminal() {
            let minutes = count(made["expires_in"].as_u64().unwrap_or(0) / 60, "minute");
            note(&format!("good once, for {minutes}, in a browser on this machine; it logs in as {}", self.user));
        }
        Ok(())
    }
}
