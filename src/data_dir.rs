//! The directory that holds everything: made private, refused when it is not ours alone.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only we read, write and enter.
const PRIVATE: u32 = 0o700;

/// Where the store is, in the data directory.
pub const STORE: &str = "store";

/// Where that is.
pub const BESIDES_DIRECTORY: &str = "tls";

/// What lies beside the store and belongs to it: the certificate that we have made.
pub const BESIDES: [&str; 3] = ["tls/cert.pem", "tls/key.pem", "tls/names"];

/// Why a data directory is refused. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A symlink could be turned elsewhere by whoever owns it.
    #[error("the data directory {0} is a symbolic link; name the directory itself")]
    Symlink(PathBuf),
    /// A file, or something else.
    #[error("the data directory {0} is not a directory")]
    NotADirectory(PathBuf),
    /// Whoever owns it could change what is in it.
    #[error("the data directory {path} belongs to user id {owner}, not to the user who runs qy-lty (id {us})")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user.
        us: u32,
    },
    /// Anybody could have put anything in it.
    #[error("the data directory {0} can be written by everybody; check what is in it, then: chmod 700 {0}")]
    WorldWritable(PathBuf),
    /// The system said no.
    #[error("the data directory {path} can't be used: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes `path`, or checks it where it exists, sets its mode to 0700, and returns it as an absolute path.
///
/// # Errors
/// [`DataDirError`]: a symlink, no directory, somebody else's, writable by everybody, or what the system says.
pub fn prepare(path: &Path) -> Result<PathBuf, DataDirError> {
    // Without a slash at the end, which would make a link look like what it points to.
    let path = &path.components().collect::<PathBuf>();
    let io_error = |source| DataDirError::Io { path: path.into(), source };
    if let Err(error) = DirBuilder::new().recursive(true).mode(PRIVATE).create(path)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(io_error(error));
    }
    let meta = fs::symlink_metadata(path).map_err(io_error)?;
    let us = rustix::process::geteuid().as_raw();
    if meta.is_symlink() {
        return Err(DataDirError::Symlink(path.into()));
    }
    if !meta.is_dir() {
        return Err(DataDirError::NotADirectory(path.into()));
    }
    if meta.uid() != us {
        return Err(DataDirError::Foreign { path: path.into(), owner: meta.uid(), us });
    }
    if meta.mode() & 0o002 != 0 {
        return Err(DataDirError::WorldWritable(path.into()));
    }
    if meta.mode() & 0o777 != PRIVATE {
        // A fresh clone's directory has the umask's mode.
        fs::set_permissions(path, Permissions::from_mode(PRIVATE)).map_err(io_error)?;
    }
    let store = path.join(STORE);
    if store.is_symlink() {
        return Err(DataDirError::Symlink(store));
    }
    fs::canonicalize(path).map_err(io_error)
}

/// Writes a file for our eyes only, whole or not at all. Its directory is to be synced by who needs that.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// The ballast's file, in the data directory.
const BALLAST: &str = "ballast";
/// With less free space than this, the store can't be opened safely.
const TIGHT: u64 = 8 << 20;

/// Free bytes on the file system that holds `path`, for who is not root.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Before the store is opened: on a full disk gives the ballast's room up, since a full disk can't even be read from (the
/// store writes while it opens).
pub fn drop_ballast_where_tight(data: &Path) {
    let ballast = data.join(BALLAST);
    if ballast.exists() && free_bytes(data).is_ok_and(|free| free < TIGHT) {
        match fs::remove_file(&ballast) {
            Ok(()) => tracing::error!("the disk is full: the ballast has been dropped to open the store; make room"),
            Err(error) => tracing::error!(%error, "the disk is full and the ballast can't be dropped"),
        }
    }
}

/// While there is room for it above `floor`, keeps `bytes` in reserve. 0: none is kept.
pub fn keep_ballast(data: &Path, bytes: u64, floor: u64) {
    let path = data.join(BALLAST);
    let room = free_bytes(data).is_ok_and(|free| free > floor.saturating_add(bytes));
    if bytes == 0 || path.exists() || !room {
        return;
    }
    let make = || {
        let file = fs::File::create(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()
    };
    if let Err(error) = make() {
        tracing::warn!(%error, "no ballast could be laid");
        let _ = fs::remove_file(&path); // half a ballast is none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn made_private_or_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let (new, loose) = (dir.path().join("a/b"), dir.path().join("loose"));
        prepare(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::create_dir(&loose).unwrap();
        fs::set_permissions(&loose, Permissions::from_mode(0o755)).unwrap();
        prepare(&loose).unwrap();
        assert_eq!(mode(&loose), 0o700);
    }

    #[test]
    fn ballast_is_laid_where_there_is_room_and_kept_where_it_is_not_tight() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = dir.path().join(BALLAST);
        keep_ballast(dir.path(), 1 << 20, u64::MAX - (1 << 20));
        assert!(!ballast.exists(), "no room above the floor");
        keep_ballast(dir.path(), 1 << 20, 0);
        assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
        drop_ballast_where_tight(dir.path());
        assert!(ballast.exists());
    }

    #[test]
    fn refused_when_not_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (open, link, file) = (dir.path().join("open"), dir.path().join("link"), dir.path().join("file"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(prepare(&open), Err(DataDirError::WorldWritable(_))));
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(matches!(prepare(&link), Err(DataDirError::Symlink(_))));
        assert!(matches!(prepare(&link.join("")), Err(DataDirError::Symlink(_))), "with a slash at the end");
        let outer = dir.path().join("outer");
        fs::create_dir(&outer).unwrap();
        std::os::unix::fs::symlink(&open, outer.join(STORE)).unwrap();
        assert!(matches!(prepare(&outer), Err(DataDirError::Symlink(_))));
        fs::write(&file, "").unwrap();
        assert!(matches!(prepare(&file), Err(DataDirError::NotADirectory(_))));
        assert!(matches!(prepare(&file.join("x")), Err(DataDirError::Io { .. })));
        // Somebody else's directory: the root directory's owner is not us, or we are root and take one from nobody.
        if rustix::process::geteuid().is_root() {
            let other = dir.path().join("other");
            fs::create_dir(&other).unwrap();
            std::os::unix::fs::chown(&other, Some(65_534), None).unwrap();
            assert!(matches!(prepare(&other), Err(DataDirError::Foreign { owner: 65_534, .. })));
        } else {
            assert!(matches!(prepare(Path::new("/")), Err(DataDirError::Foreign { owner: 0, .. })));
        }
    }
}
