//! A power cut, as far as it can be simulated: the server keeps its data on a loop-mounted ext4 image; at a random moment it is
//! stopped (SIGSTOP), the image is copied as the "disk" holds it then, without what only the page cache of that file system
//! has, and the copy is mounted and served. Every accepted message must be there.
//!
//! Needs root and a kernel that mounts; else it says that it was skipped. 10 trials;
//! `QY_LTY_POWER_TRIALS=50 cargo test --release --test power_cut -- --nocapture` for more.

use std::path::{Path, PathBuf};
use std::process::Command as Std;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::ADMIN_PASSWORD;
use crate::support::load::Load;
use crate::support::program::{Running, program};
use tokio::process::Command;
use tokio::task::JoinSet;

/// A mounted ext4 image; unmounted when dropped.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

fn run(program: &str, args: &[&Path]) -> bool {
    Std::new(program).args(args).output().is_ok_and(|o| o.status.success())
}

impl Disk {
    fn format(dir: &Path) -> Option<Self> {
        let (image, mount) = (dir.join("disk.img"), dir.join("mnt"));
        std::fs::create_dir(&mount).ok()?;
        std::fs::File::create(&image).ok()?.set_len(256 << 20).ok()?;
        if !run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image]) {
            return None;
        }
        Self { image, mount }.mounted()
    }

    fn mounted(self) -> Option<Self> {
        let done = run("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.mount]);
        if done { Some(self) } else { None }
    }

    /// The disk as it is at this moment, as another one.
    fn cut(&self, dir: &Path) -> Self {
        let (image, mount) = (dir.join("copy.img"), dir.join("copy"));
        std::fs::copy(&self.image, &image).unwrap();
        std::fs::create_dir_all(&mount).unwrap();
        Self { image, mount }.mounted().expect("the copy mounts")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !run("umount", &[&self.mount]) {
            run("umount", &[Path::new("-l"), &self.mount]);
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

fn serve(dir: &Path, data: &Path) -> Command {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n[mailbox]\nmessages = 0\nbytes = 0\n[limits]\nconnects_per_minute = 0\nlogins_per_minute = 0\n",
        data.join("data").display()
    );
    std::fs::write(dir.join("c.toml"), text).unwrap();
    let mut command = program(dir, &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    command
}

/// One trial: how many accepted messages were compared.
async fn trial(n: u32) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::format(dir.path())?;
    let mut server = Running::spawn(serve(dir.path(), &disk.mount)).await.quiet();
    let load = Load::prepare(&server.address, ADMIN_PASSWORD, 3).await;
    let mut tasks = JoinSet::new();
    if n % 3 == 2 {
        // Idle between sends: nothing else flushes what the last one wrote.
        for to in 0..3 {
            load.send(to, if to == 1 { 150_000 } else { 20 }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..300))).await;
        }
    } else {
        load.publish(&mut tasks, 8, 20);
        if n % 3 == 1 {
            load.come_and_go(&mut tasks);
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..1500))).await;
    }
    server.signal("STOP");
    // What was answered before the stop may still be on its way to the books.
    tokio::time::sleep(Duration::from_millis(100)).await;
    load.stop.store(true, Ordering::Release);
    let copy = disk.cut(dir.path());
    server.signal("KILL");
    server.signal("CONT");
    server.ended().await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    drop(disk);
    let mut again = Running::spawn(serve(dir.path(), &copy.mount)).await.quiet();
    *load.address.lock().unwrap() = again.address.clone();
    let total = load.settle().await;
    again.signal("TERM");
    again.ended().await;
    Some(total)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_message_is_lost() {
    let trials: u32 = std::env::var("QY_LTY_POWER_TRIALS").map_or(10, |n| n.parse().unwrap());
    let mut total = 0;
    for n in 0..trials {
        match trial(n).await {
            Some(messages) => total += messages,
            None => {
                println!("SKIPPED: no ext4 image can be made and mounted here (root is needed)");
                return;
            }
        }
    }
    println!("{trials} power cuts, {total} accepted messages, 0 lost, every store opened");
    assert!(total as u32 > trials);
}
