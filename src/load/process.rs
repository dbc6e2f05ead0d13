//! What the kernel says of a process, and of the machine: processor time, memory, files, disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// A process of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// This one.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Returns the processor time so far, of all threads, in seconds: to a microsecond or better, or to a hundredth where the system
    /// refuses its clock. `None` where it can't be read.
    pub fn cpu_seconds(self) -> Option<f64> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.0.try_into().ok()?));
        match clock.and_then(clock_gettime) {
            Ok(time) => Some(Duration::from(time).as_secs_f64()),
            Err(_) => self.cpu_ticks(),
        }
    }

    fn cpu_ticks(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name of the program, in parentheses, may contain blanks and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks = |field: &str| field.parse::<u64>().ok();
        let (user, system) = (ticks(fields.next()?)?, ticks(fields.next()?)?);
        Some((user + system) as f64 / clock_ticks_per_second() as f64)
    }

    /// Returns the resident memory, in bytes. `None` where it can't be read.
    pub fn memory(self) -> Option<u64> {
        // Counted page by page: what `status` has is rounded in favour of speed.
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).ok();
        rollup.and_then(|text| kib(&text, "Rss:")).or_else(|| self.status("VmRSS:"))
    }

    /// Returns the highest resident memory so far, in bytes. `None` where it can't be read.
    pub fn highest_memory(self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Option<u64> {
        kib(&fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?, name)
    }
}

/// Returns a figure in bytes from lines such as `VmRSS:  123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The machine that a load runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its processor, as the kernel names it.
    pub processor: String,
    /// The processors that this process may use.
    pub cores: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// The kernel's version.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let named = |line: &str| ["model name", "Model"].iter().any(|name| line.starts_with(name));
        let processor = cpu.lines().find(|line| named(line)).and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
        Self {
            processor: processor.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory: kib(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Returns the bytes that files and directories below `path` take on the disk.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Files that this process has open beside the connections of a load.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files as far as it goes, and returns how many connections it leaves room for.
pub fn connection_room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES);
    usize::try_from(files.min(local_ports())).unwrap_or(usize::MAX)
}

/// Returns how many connections one address can have to another one and a port, at three quarters of the ports that there are.
fn local_ports() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_ascii_whitespace().filter_map(|bound| bound.parse::<u64>().ok());
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    high.saturating_sub(low) * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_are_read() {
        let own = Process::own();
        let mut sum = 0_u64;
        let begin = own.cpu_seconds().unwrap();
        while own.cpu_seconds().unwrap() < begin + 0.02 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own.memory().unwrap() > 1 << 16 && own.highest_memory().unwrap() > 1 << 16);
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory > 1 << 20 && !machine.processor.is_empty());
        assert!(connection_room() > 0);
        assert_eq!(Process(u32::MAX).cpu_seconds(), None);
    }

    #[test]
    fn figures_of_the_kernel_are_in_kib() {
        assert_eq!(kib("VmRSS:\t    12 kB\nVmHWM: 3 kB\n", "VmHWM:"), Some(3072));
        assert_eq!(kib("Rss: x kB", "Rss:"), None);
    }

    #[test]
    fn disk_use_counts_what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!((100_000..300_000).contains(&disk_bytes(dir.path())));
        assert_eq!(disk_bytes(&dir.path().join("nowhere")), 0);
    }
}
