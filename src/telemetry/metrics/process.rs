//! What the system says of this process. Everything is looked up when it is asked for; what can't be found out is 0.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A look at the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Bytes of memory in use.
    pub resident: u64,
    /// Seconds of processor time since the start.
    pub cpu_seconds: f64,
    /// Open files and sockets.
    pub open_fds: usize,
    /// How many it may open.
    pub max_fds: u64,
}

impl Process {
    /// Looks. Blocks for a moment: it reads `/proc`.
    pub fn look() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident: resident().unwrap_or(0),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            // One of them is the listing's own.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// The second field of `statm`, in pages (proc(5)).
fn resident() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::look();
        assert!(process.resident > 100_000 && process.open_fds >= 3 && process.max_fds > 3, "{process:?}");
    }
}
