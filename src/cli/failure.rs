//! The end of a command: its exit status, and its error for people or for programs.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use crate::config::ConfigError;

/// The exit status of a command that failed.
const FAILED: u8 = 1;
/// The exit status after arguments that can't be parsed.
const USAGE: u8 = 2;
/// The exit status where no server is running, of `status` and of commands that need one.
const NO_SERVER: u8 = 3;
/// The exit status of a command that a signal ended: 128 and the number of SIGINT, as in shells.
pub(super) const INTERRUPTED: u8 = 130;

/// A command needs a server, and none is running; the text says what for.
#[derive(Debug, thiserror::Error)]
#[error("no running server; {0}")]
pub(super) struct NoServer(pub(super) &'static str);

/// `status` has shown that no server is running.
#[derive(Debug, thiserror::Error)]
#[error("no server is running")]
pub(super) struct Stopped;

/// A signal has ended the command; the text says what became of its work.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {0}")]
pub(super) struct Interrupted(pub(super) &'static str);

/// The server, or this process in its place, has refused a request.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// The code of the REST API.
    pub(super) code: Option<String>,
    /// The text of the reply.
    pub(super) message: String,
}

/// Returns the exit status after `error`, and its code, where it has one.
fn class(error: &anyhow::Error) -> (u8, Option<&str>) {
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>());
    if error.is::<NoServer>() || error.is::<Stopped>() {
        (NO_SERVER, Some("no_server"))
    } else if error.is::<Interrupted>() {
        (INTERRUPTED, Some("interrupted"))
    } else if error.is::<ConfigError>() {
        (FAILED, Some("configuration"))
    } else {
        (FAILED, refused.and_then(|refused| refused.code.as_deref()))
    }
}

/// Returns the text of an error. Those of this program include their cause; a context that was added to another error does not.
fn text(error: &anyhow::Error) -> String {
    let (text, cause) = (error.to_string(), error.root_cause().to_string());
    if text.contains(&cause) { text } else { format!("{text}: {cause}") }
}

/// Returns an error as programs read it.
fn as_json(code: Option<&str>, message: &str) -> String {
    let mut error = json!({"message": message});
    if let Some(code) = code {
        error["code"] = code.into();
    }
    json!({"error": error}).to_string()
}

/// Writes the error of a command to standard error, as JSON where `json`, and returns the exit status.
pub(super) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let (status, code) = class(error);
    if !error.is::<Stopped>() {
        let line = if json { as_json(code, &text(error)) } else { format!("qy-lty: {}", text(error)) };
        let _ = writeln!(io::stderr(), "{line}"); // it may be closed, which is no reason to panic
    }
    ExitCode::from(status)
}

/// Ends the process for `--help`, `--version` and arguments that can't be parsed; the error is JSON where `json`.
pub(super) fn exit_for(error: &clap::Error, json: bool) -> ! {
    if json && error.use_stderr() {
        let text = error.to_string();
        let message = text.trim_end().strip_prefix("error: ").unwrap_or(text.trim_end());
        let _ = writeln!(io::stderr(), "{}", as_json(Some("usage"), message));
        std::process::exit(USAGE.into());
    }
    error.exit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn errors_have_statuses_and_codes() {
        let refused = || Refused { code: Some("not_found".into()), message: "no such user".into() };
        for (error, expected) in [
            (anyhow!("x"), (1, None)),
            (NoServer("y").into(), (3, Some("no_server"))),
            (Stopped.into(), (3, Some("no_server"))),
            (Interrupted("z").into(), (130, Some("interrupted"))),
            (ConfigError::Secret("s".into()).into(), (1, Some("configuration"))),
            (refused().into(), (1, Some("not_found"))),
            (anyhow::Error::from(refused()).context("the workload failed"), (1, Some("not_found"))),
        ] {
            assert_eq!(class(&error), expected, "{error}");
        }
    }

    #[test]
    fn text_has_the_cause_once() {
        let disk = || io::Error::other("the disk is full");
        assert_eq!(text(&Err::<(), _>(disk()).context("can't write b").unwrap_err()), "can't write b: the disk is full");
        assert_eq!(text(&anyhow!("can't write b: the disk is full")), "can't write b: the disk is full");
        assert_eq!(as_json(None, "a\"b"), r#"{"error":{"message":"a\"b"}}"#);
        assert_eq!(as_json(Some("usage"), "x"), r#"{"error":{"code":"usage","message":"x"}}"#);
    }
}
