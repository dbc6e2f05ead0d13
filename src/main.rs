//! The program: see [`qy_lty::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match qy_lty::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qy-lty: {error}"); // our errors name their causes themselves
            ExitCode::FAILURE
        }
    }
}
