//! The async runtime of a command.

use std::time::Duration;

use anyhow::Context;

/// The wait for tasks that are still running at the end: they were cut off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// The most threads that wait for the disk or hash passwords: more would only compete for them.
const MAX_BLOCKING_THREADS: usize = 64;

/// Runs `job` to its end on a runtime of its own.
pub(super) fn block_on<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(job);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}
