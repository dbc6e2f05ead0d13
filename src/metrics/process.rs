//! What the system says of this process. Everything is looked up when it is asked for; what can't be found out is 0.

use std::fs;
use std::path::Path;

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

/// Bytes that the files in directory `path` and below take on the disk; what goes away meanwhile does not count. Blocks.
pub fn bytes_below(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512, // what is taken, not what is said: sparse files are smaller than they look
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::look();
        assert!(process.resident > 100_000 && process.open_fds >= 3 && process.max_fds > 3, "{process:?}");
    }

    #[test]
    fn directories_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["x", "a/y"] {
            fs::write(dir.path().join(name), vec![1; 10_000]).unwrap();
        }
        assert!((20_000..40_000).contains(&bytes_below(dir.path())), "{}", bytes_below(dir.path()));
        assert_eq!(bytes_below(&dir.path().join("none")), 0);
    }
}
