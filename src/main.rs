//! The program: see [`qy_lty::run`].

use std::io::Write;
use std::process::ExitCode;

/// Every allocation of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match qy_lty::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // This program's errors include their cause in their text; a context that was added to another error does not.
            let (text, cause) = (error.to_string(), error.root_cause().to_string());
            let text = if text.contains(&cause) { text } else { format!("{text}: {cause}") };
            let _ = writeln!(std::io::stderr(), "qy-lty: {text}"); // it may be closed, which is no reason to panic
            ExitCode::FAILURE
        }
    }
}
