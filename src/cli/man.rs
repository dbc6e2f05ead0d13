//! `qy-lty man`: the man pages, made from the definition of the command line.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde_json::json;

use super::output::Output;

/// Prints the page of the program.
pub(super) fn print(program: Command, out: Output) -> anyhow::Result<()> {
    let page = String::from_utf8(page(&prepared(program))?)?;
    out.line(page.trim_end())
}

/// Writes a page for the program and one for each command into `directory`: `qy-lty.1`, `qy-lty-user.1`, `qy-lty-user-create.1`.
pub(super) fn write_all(program: Command, directory: &Path, out: Output) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("can't create {}", directory.display()))?;
    let count = write(&prepared(program), directory)?;
    let data = json!({"directory": directory, "pages": count});
    out.done(&data, &format!("Wrote {count} man pages to {}", directory.display()))
}

/// Writes the page of `command` and those below it; returns their number.
fn write(command: &Command, directory: &Path) -> anyhow::Result<usize> {
    let file = directory.join(Man::new(command.clone()).get_filename());
    fs::write(&file, page(command)?).with_context(|| format!("can't write {}", file.display()))?;
    let mut below = command.get_subcommands().map(|command| write(command, directory));
    below.try_fold(1, |count, written| Ok(count + written?))
}

/// Without the `help` commands that `clap` adds, and with each command's whole name.
fn prepared(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

/// Returns the page of `command`, in roff.
fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(concat!("qy-lty ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let below = command.get_after_long_help().or_else(|| command.get_after_help());
    if let Some(below) = below {
        sections(&below.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// Turns `Heading:` and indented lines into sections whose lines are kept as they are.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => {
                roff.control("fi", []).control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
            }
            _ => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
    }
    roff.control("fi", []);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_page_is_written_for_each_command() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("dist/man");
        write_all(super::super::Cli::command(), &target, Output::new(true)).unwrap();
        let page = |name: &str| fs::read_to_string(target.join(name)).unwrap();
        let program = page("qy-lty.1");
        for part in [".TH qy-lty 1", ".SH NAME", ".SH SUBCOMMANDS", ".SH EXAMPLES", ".SH ENVIRONMENT", "NO_COLOR", ".SH FILES"] {
            assert!(program.contains(part), "{part} in {program}");
        }
        assert!(!program.contains('\x1b'));
        assert!(page("qy-lty-user-create.1").contains("\\-\\-admin"));
        assert!(page("qy-lty-queue.1").contains("qy\\-lty queue clear"));
        assert!(page("qy-lty-link.1").contains("[default: admin]") && page("qy-lty-send.1").contains("read from standard input"));
        assert!(!target.join("qy-lty-help.1").exists() && !target.join("qy-lty-user-add.1").exists());
    }
}
