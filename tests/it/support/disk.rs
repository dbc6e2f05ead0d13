//! Disks: file systems of their own that fill up, hang and are cut off. All need root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted when dropped.
pub struct Disk {
    /// The file that holds it; none for one in memory.
    image: Option<PathBuf>,
    /// The directory that it is mounted on.
    pub path: PathBuf,
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Disk {
    /// Mounts a file system in memory with room for `megabytes`; `None` where that is not possible.
    pub fn in_memory(dir: &Path, megabytes: u32) -> Option<Self> {
        let path = dir.join("mnt");
        std::fs::create_dir(&path).ok()?;
        let options = format!("size={megabytes}m");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path));
        Self { image: None, path }.if_so(mounted)
    }

    /// Makes an ext4 file system in a file of `megabytes` and mounts it; `None` where that is not possible.
    pub fn ext4(dir: &Path, megabytes: u64) -> Option<Self> {
        let image = dir.join("disk.img");
        std::fs::File::create(&image).ok()?.set_len(megabytes << 20).ok()?;
        let formatted = run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        formatted.then(|| Self::mount(image, dir.join("mnt")))?
    }

    fn mount(image: PathBuf, path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).ok()?;
        let mounted = run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
        Self { image: Some(image), path }.if_so(mounted)
    }

    fn if_so(self, mounted: bool) -> Option<Self> {
        if !mounted {
            println!("SKIPPED: no file system can be mounted here (root is needed)");
            std::mem::forget(self); // nothing to unmount
            return None;
        }
        Some(self)
    }

    /// Gives one in memory room for `megabytes`.
    pub fn grow(&self, megabytes: u32) {
        assert!(run(Command::new("mount").args(["-o", &format!("remount,size={megabytes}m")]).arg(&self.path)));
    }

    /// Makes it read-only, or writable again. Nothing may have a file of it open for writing.
    pub fn set_read_only(&self, read_only: bool) {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        assert!(run(Command::new("mount").args(["-o", option]).arg(&self.path)));
    }

    /// Copies the image as it is at this moment, without what is only in the page cache, and mounts the copy.
    pub fn copy(&self, dir: &Path) -> Self {
        let image = dir.join("copy.img");
        std::fs::copy(self.image.as_ref().unwrap(), &image).unwrap();
        Self::mount(image, dir.join("copy")).expect("the copy mounts")
    }

    /// Makes writes wait, or lets them go on; false where that is not possible.
    pub fn freeze(&self, freeze: bool) -> bool {
        run(Command::new("fsfreeze").arg(if freeze { "-f" } else { "-u" }).arg(&self.path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.image.is_some() {
            self.freeze(false);
        }
        if !run(Command::new("umount").arg(&self.path)) {
            run(Command::new("umount").arg("-l").arg(&self.path));
        }
        if let Some(image) = &self.image {
            let _ = std::fs::remove_file(image);
        }
    }
}
