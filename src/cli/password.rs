//! Passwords that are typed or piped.

use std::io::{IsTerminal, Read};

use anyhow::{anyhow, bail};

use crate::core::text::secret_in;

/// The longest input that is read for a password.
const MAX_INPUT_BYTES: u64 = 4096;

/// Reads a password: prompts for it twice at a terminal, else reads the first line of standard input that
/// is not empty. A password is never an
/// argument, which everybody on the machine can read.
///
/// # Errors
/// Two different entries, no entry, or an input that can't be read.
pub(super) fn read_password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Repeat password: ")? != password {
            bail!("passwords do not match");
        }
        return Ok(password);
    }
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut text);
    read.map_err(|error| anyhow!("failed to read the password from standard input: {error}"))?;
    let password = secret_in(&text);
    if password.is_empty() { Err(anyhow!("no password on standard input")) } else { Ok(password.to_owned()) }
}
