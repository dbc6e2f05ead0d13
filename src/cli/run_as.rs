//! Runs root's commands as the owner of the data directory: the files they create belong to the owner, and nothing that the owner
//! has put there, a link for example, leads root anywhere.

use std::fs::{self, DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::config::Config;
use crate::data_dir;

/// The working directory, by a path that leads through no other directory: sled makes relative paths absolute.
const WORKING_DIRECTORY: &str = "/proc/self/cwd";

/// While it exists, this thread and those that it starts run as the owner of the data directory, with the data directory as their
/// working directory.
pub(super) struct RunAs(());

impl RunAs {
    /// Switches to the owner of `config`'s data directory, or of the closest parent that exists, and enters the directory, creating
    /// it where it is missing. Does nothing unless root runs this and the owner is somebody else.
    ///
    /// Call it before any other thread is started: on Linux, each thread has its own user. Paths of other files must be absolute
    /// from here on.
    ///
    /// # Errors
    /// A directory that can't be entered or created, or that changes its owner meanwhile.
    pub(super) fn owner_of(config: &mut Config) -> anyhow::Result<Option<Self>> {
        let data = &config.server.data_dir;
        let Some((place, meta)) = foreign_place(data) else { return Ok(None) };
        let rest = if place == Path::new(".") { data.clone() } else { data.strip_prefix(&place)?.to_owned() };
        // The path may lead through directories that only root can enter, as with systemd's dynamic users.
        std::env::set_current_dir(&place).with_context(|| format!("can't enter {}", place.display()))?;
        if fs::metadata(".")?.uid() != meta.uid() {
            bail!("the owner of {} changed while it was opened; try again", place.display());
        }
        let (user, group, root) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()), (Uid::ROOT, Gid::ROOT));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, root.1)?;
        set_thread_res_uid(user, user, root.0)?;
        let this = Self(());
        if !rest.as_os_str().is_empty() && rest != Path::new(".") {
            DirBuilder::new().recursive(true).mode(0o700).create(&rest)?;
            std::env::set_current_dir(&rest)?;
        }
        data_dir::prepare(Path::new("."))?;
        config.server.data_dir = WORKING_DIRECTORY.into();
        Ok(Some(this))
    }
}

/// Returns the data directory, or the closest parent that exists, where root runs this and the owner is somebody else.
fn foreign_place(data: &Path) -> Option<(PathBuf, Metadata)> {
    let metadata = |place: &Path| Some((place.to_owned(), fs::metadata(place).ok()?));
    let named = |place: &Path| if place.as_os_str().is_empty() { PathBuf::from(".") } else { place.to_owned() };
    let (place, meta) = data.ancestors().find_map(|place| metadata(&named(place)))?;
    (cfg!(target_os = "linux") && geteuid().is_root() && meta.uid() != 0).then_some((place, meta))
}

/// Returns whether only [`RunAs::owner_of`] may open the data directory.
pub(super) fn is_wanted(data: &Path) -> bool {
    foreign_place(data).is_some()
}

/// Prepares the data directory, unless [`RunAs::owner_of`] has done so.
///
/// # Errors
/// As [`data_dir::prepare`].
pub(super) fn prepare(data: &Path) -> anyhow::Result<()> {
    if data != Path::new(WORKING_DIRECTORY) {
        data_dir::prepare(data)?;
    }
    Ok(())
}

impl Drop for RunAs {
    fn drop(&mut self) {
        let restored = set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
        if let Err(error) = restored.and_then(|()| set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)) {
            super::output::note(&format!("failed to switch back to root: {error}"));
        }
    }
}
