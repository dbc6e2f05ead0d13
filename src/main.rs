//! The program: see [`qy_lty::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match qy_lty::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Our errors name their causes themselves; what only says what was being done does not.
            let (said, cause) = (error.to_string(), error.root_cause().to_string());
            if said.contains(&cause) {
                eprintln!("qy-lty: {said}")
            } else {
                eprintln!("qy-lty: {said}: {cause}")
            }
            ExitCode::FAILURE
        }
    }
}
