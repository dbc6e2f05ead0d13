//! Resource usage of this process, as the operating system reports it. Values are read on demand; one that can't be read is 0.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Resource usage at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Processor time since the start, in seconds.
    pub cpu_seconds: f64,
    /// Open files and sockets.
    pub open_fds: usize,
    /// The limit on open files and sockets.
    pub max_fds: u64,
}

impl Process {
    /// Reads the current values. Blocks briefly, because it reads `/proc`.
    pub fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident: resident().unwrap_or(0),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            // One of them belongs to the directory listing itself.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// Returns the resident memory in bytes: the second field of `statm`, which is in pages (proc(5)). Blocks briefly.
pub fn resident() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_read_returns_memory_and_files() {
        let process = Process::read();
        assert!(process.resident > 100_000 && process.open_fds >= 3 && process.max_fds > 3, "{process:?}");
    }
}
