//! The program: see [`qy_lty::run`].

use std::process::ExitCode;

/// Every allocation of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    qy_lty::run()
}
