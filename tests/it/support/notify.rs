//! A service manager that records notifications.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A datagram socket as systemd's `NOTIFY_SOCKET`; everything that comes is kept.
pub struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    pub fn start(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = socket.recv(&mut bytes) {
                to.lock().unwrap().push(String::from_utf8_lossy(&bytes[..n]).into_owned());
            }
        });
        Self { path, heard }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of datagrams that contain `words`.
    pub fn count(&self, words: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|text| text.contains(words)).count()
    }

    /// Returns all of them, in order.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}
