//! Root's work on somebody else's data directory is done as that one: what it makes there belongs to the owner, and nothing
//! that the owner has laid there, a link for example, leads root anywhere.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::config::Config;
use crate::data_dir;

/// The directory that we work in, by a path that leads through no other: sled makes relative ones absolute.
const HERE: &str = "/proc/self/cwd";

/// As long as it lives, this thread and those that it starts are the owner of the data directory, and work in it.
pub(super) struct AsOwner(());

impl AsOwner {
    /// Where root runs this and the data directory of `config`, or, where it is not there yet, the one that it will be in, is
    /// somebody else's: becomes that one and goes there. To be called before any other thread is started: what a thread may do
    /// is its own on Linux. Paths of others' must be absolute from here on.
    pub(super) fn of(config: &mut Config) -> anyhow::Result<Option<Self>> {
        let data = &config.server.data_dir;
        let there = |place: &Path| Some((place.to_owned(), fs::metadata(place).ok()?));
        let named = |place: &Path| if place.as_os_str().is_empty() { PathBuf::from(".") } else { place.to_owned() };
        let Some((place, meta)) = data.ancestors().find_map(|place| there(&named(place))) else { return Ok(None) };
        if !cfg!(target_os = "linux") || !geteuid().is_root() || meta.uid() == 0 {
            return Ok(None);
        }
        let rest = if place == Path::new(".") { data.clone() } else { data.strip_prefix(&place)?.to_owned() };
        // Its path may lead through directories that only root may enter, as with systemd's dynamic users.
        std::env::set_current_dir(&place).with_context(|| format!("can't enter {}", place.display()))?;
        if fs::metadata(".")?.uid() != meta.uid() {
            bail!("{} has just changed its owner", place.display());
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
        config.server.data_dir = HERE.into();
        Ok(Some(this))
    }
}

/// Makes the data directory ready to be used: ours, by now, whoever runs this.
pub(super) fn prepare(data: &Path) -> anyhow::Result<()> {
    if data != Path::new(HERE) {
        data_dir::prepare(data)?;
    }
    Ok(())
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let back = set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
        if let Err(error) = back.and_then(|()| set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)) {
            eprintln!("qy-lty: can't be root again: {error}");
        }
    }
}
