//! Questions before commands that destroy something.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::bail;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 100;

/// Asks at the terminal whether to go on; not where `yes`, the flag of that name, is given.
///
/// # Errors
/// The answer is no; or nobody can be asked, since standard input or standard error is no terminal.
pub(super) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !can_ask() {
        bail!("{question} There is no terminal to ask at: pass --yes to confirm it");
    }
    if asked(question)? { Ok(()) } else { bail!("not confirmed, nothing was done") }
}

/// Reports whether there is somebody to ask.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question at the terminal.
///
/// # Errors
/// Those of the terminal.
pub(super) fn asked(question: &str) -> io::Result<bool> {
    confirmed(question, &mut io::stdin().lock(), &mut io::stderr())
}

/// Asks a question that is answered with no, unless with y or yes.
fn confirmed(question: &str, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    write!(output, "{question} [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    BufRead::read_line(&mut Read::take(input, MAX_ANSWER_BYTES), &mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_confirms() {
        let answer = |input: &str| {
            let mut shown = Vec::new();
            let yes = confirmed("Replace it?", &mut input.as_bytes(), &mut shown).unwrap();
            assert_eq!(shown, b"Replace it? [y/N] ");
            yes
        };
        for (input, yes) in
            [("y\n", true), (" YES \r\n", true), ("\n", false), ("n\n", false), ("", false), ("yesterday\n", false)]
        {
            assert_eq!(answer(input), yes, "{input:?}");
        }
        assert!(!answer(&"y".repeat(1 << 20)));
    }

    #[test]
    fn flag_confirms_without_a_question() {
        assert!(confirm("Delete it?", true).is_ok());
    }
}
