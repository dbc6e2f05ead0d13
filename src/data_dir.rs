//! The data directory: created private, and refused when other users could have changed it; its free space, and the ballast that
//! gives some back on a full disk.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::core::disk::Explained;

/// The mode of the data directory: access for the owner only.
const DIRECTORY_MODE: u32 = 0o700;

/// The store's directory in the data directory.
pub const STORE_DIRECTORY: &str = "store";

/// The directory of [`TLS_FILES`] in the data directory.
pub const TLS_DIRECTORY: &str = "tls";

/// Files in the data directory that are part of a backup besides the store: the self-signed certificate.
pub const TLS_FILES: [&str; 3] = ["tls/cert.pem", "tls/key.pem", "tls/names"];

/// The reason a data directory is refused. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is a symbolic link, whose owner could change the target.
    #[error("the data directory {0} is a symbolic link; name the directory itself")]
    Symlink(PathBuf),
    /// It is a file, or another non-directory.
    #[error("the data directory {0} is not a directory")]
    NotADirectory(PathBuf),
    /// Another user owns it, and could change its content.
    #[error("the data directory {path} belongs to user id {owner}, not to the user who runs qy-lty (id {euid})")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user id of this process.
        euid: u32,
    },
    /// Every user could have changed its content.
    #[error("the data directory {0} can be written by everybody; check its content, then run: chmod 700 {0}")]
    WorldWritable(PathBuf),
    /// An operation on it failed.
    #[error("failed to open the data directory {path}: {}", Explained(.source))]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Creates `path`, or checks it if it exists, sets its mode to 0700, and returns it as an absolute path.
///
/// # Errors
/// [`DataDirError`]: a symbolic link, not a directory, owned by another user, writable by everybody, or an I/O error.
pub fn prepare(path: &Path) -> Result<PathBuf, DataDirError> {
    // Remove a trailing slash, with which a link would be resolved before it is checked.
    let path = &path.components().collect::<PathBuf>();
    let io_error = |source| DataDirError::Io { path: path.into(), source };
    if let Err(error) = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(io_error(error));
    }
    let meta = fs::symlink_metadata(path).map_err(io_error)?;
    let euid = rustix::process::geteuid().as_raw();
    if meta.is_symlink() {
        return Err(DataDirError::Symlink(path.into()));
    }
    if !meta.is_dir() {
        return Err(DataDirError::NotADirectory(path.into()));
    }
    if meta.uid() != euid {
        return Err(DataDirError::Foreign { path: path.into(), owner: meta.uid(), euid });
    }
    if meta.mode() & 0o002 != 0 {
        return Err(DataDirError::WorldWritable(path.into()));
    }
    if meta.mode() & 0o777 != DIRECTORY_MODE {
        // A directory that was created by other means has the mode of its umask.
        fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)).map_err(io_error)?;
    }
    let store = path.join(STORE_DIRECTORY);
    if store.is_symlink() {
        return Err(DataDirError::Symlink(store));
    }
    fs::canonicalize(path).map_err(io_error)
}

/// Writes a file with mode 0600, atomically. The file is synced, its directory is not: that is left to the caller.
///
/// # Errors
/// An I/O error.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// The ballast file in the data directory.
const BALLAST: &str = "ballast";
/// The free space, in bytes, that is needed to open the store safely.
pub const MIN_BYTES_TO_OPEN: u64 = 8 << 20;

/// Returns the bytes on the file system of `path` that are available to unprivileged users.
///
/// # Errors
/// An I/O error.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Deletes the ballast if the disk is full. Call it before the store is opened, which needs free space: the store writes while it
/// opens.
pub fn release_ballast_if_full(data: &Path) {
    let ballast = data.join(BALLAST);
    if ballast.exists() && free_bytes(data).is_ok_and(|free| free < MIN_BYTES_TO_OPEN) {
        match fs::remove_file(&ballast) {
            Ok(()) => tracing::error!("the disk is full; deleted the ballast to open the store, free some disk space"),
            Err(error) => tracing::error!(%error, "the disk is full and the ballast can't be deleted"),
        }
    }
}

/// Creates the ballast of `bytes` bytes if it does not exist and leaves at least `min_free` bytes free. 0: no ballast.
pub fn create_ballast(data: &Path, bytes: u64, min_free: u64) {
    let path = data.join(BALLAST);
    let fits = free_bytes(data).is_ok_and(|free| free > min_free.saturating_add(bytes));
    if bytes == 0 || path.exists() || !fits {
        return;
    }
    let create = || {
        let file = fs::File::create(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()
    };
    if let Err(error) = create() {
        tracing::warn!(%error, "failed to create the ballast");
        let _ = fs::remove_file(&path); // remove a partial ballast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn prepare_sets_the_mode_of_new_and_existing_directories() {
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
    fn ballast_is_created_if_it_fits_and_kept_unless_the_disk_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = dir.path().join(BALLAST);
        create_ballast(dir.path(), 1 << 20, u64::MAX - (1 << 20));
        assert!(!ballast.exists(), "less than the minimum would be free");
        create_ballast(dir.path(), 1 << 20, 0);
        assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
        release_ballast_if_full(dir.path());
        assert!(ballast.exists());
    }

    #[test]
    fn prepare_of_a_directory_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (open, link, file) = (dir.path().join("open"), dir.path().join("link"), dir.path().join("file"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(prepare(&open), Err(DataDirError::WorldWritable(_))));
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(matches!(prepare(&link), Err(DataDirError::Symlink(_))));
        assert!(matches!(prepare(&link.join("")), Err(DataDirError::Symlink(_))), "with a trailing slash");
        let outer = dir.path().join("outer");
        fs::create_dir(&outer).unwrap();
        std::os::unix::fs::symlink(&open, outer.join(STORE_DIRECTORY)).unwrap();
        assert!(matches!(prepare(&outer), Err(DataDirError::Symlink(_))));
        fs::write(&file, "").unwrap();
        assert!(matches!(prepare(&file), Err(DataDirError::NotADirectory(_))));
        assert!(matches!(prepare(&file.join("x")), Err(DataDirError::Io { .. })));
        // A directory of another user: the root directory, or, when running as root, one given to another user.
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
