//! TLS: rustls with the configured certificate or a self-signed one, read again when its files change.
//!
//! Connections keep the certificate that they began with; only new connections get a new one.

use std::fs::{self, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::{self_signed, validity};
use crate::config::TlsConfig;
use crate::core::disk::Explained;
use crate::core::time::Timestamp;

/// The interval at which the files are checked for changes.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// An error of setting TLS up. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or written.
    #[error("can't use {path}: {}", Explained(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file holds no PEM of the right kind.
    #[error("{path} contains no {what} in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// The parser's error.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit each other, or are of an unknown kind.
    #[error("the certificate {cert} and the key {key} can't be used together: {source}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// rustls's error.
        source: rustls::Error,
    },
    /// The self-signed certificate can't be generated.
    #[error(transparent)]
    SelfSigned(#[from] self_signed::SelfSignedError),
}

/// Makes ring the process's TLS provider, so that this program's clients use the same as its server. Only the first call has an
/// effect; all calls ask for the same.
pub fn install_provider() {
    let _ = ring::default_provider().install_default();
}

/// The acceptor of new connections.
pub type CurrentAcceptor = Arc<ArcSwapOption<TlsAcceptor>>;

/// A request to [`Tls::follow`] to read the files at once.
pub struct ReadFiles {
    /// Certificate and key, where they differ from the previous ones.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Receives the outcome; an error where the files can't be used, and nothing has changed.
    pub done: oneshot::Sender<Result<(), TlsError>>,
}

/// The end of validity of the certificate in use, in seconds since 1970; 0 where it is not known.
pub type CertificateEnd = Arc<AtomicI64>;

/// A certificate that was read.
struct Pair {
    acceptor: TlsAcceptor,
    /// The SHA-256 of the certificate.
    fingerprint: [u8; 32],
    /// The end of its validity, in seconds since 1970; 0 where it is not known.
    end: i64,
}

/// The certificate in use and where it comes from.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// The state of the files that were read last, usable or not.
    stamp: Stamp,
    current: CurrentAcceptor,
    /// The SHA-256 of the certificate.
    fingerprint: [u8; 32],
    end: CertificateEnd,
}

impl Tls {
    /// Reads the configured certificate, or the self-signed one, which is generated where it is missing. Blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(config: &TlsConfig, data: &Path, listen: SocketAddr) -> Result<Self, TlsError> {
        let (cert, key) = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => self_signed::ensure(data, &config.names, listen)?,
        };
        if !config.self_signed {
            warn_if_readable(&key);
        }
        let stamp = Stamp::of(&cert, &key);
        let Pair { acceptor, fingerprint, end } = read(&cert, &key)?;
        let current = Arc::new(ArcSwapOption::from_pointee(acceptor));
        Ok(Self { cert, key, stamp, current, fingerprint, end: Arc::new(end.into()) })
    }

    /// Returns the acceptor that is loaded for each new connection.
    pub fn current(&self) -> CurrentAcceptor {
        self.current.clone()
    }

    /// Returns the end of validity of the certificate, which follows the one in use.
    pub fn end(&self) -> CertificateEnd {
        self.end.clone()
    }

    /// Returns the certificate's SHA-256 as people compare it: `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.map(|byte| format!("{byte:02X}")).join(":")
    }

    /// Checks that the files that `config` names can be used. Blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(config: &TlsConfig) -> Result<(), TlsError> {
        match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => read(cert, key).map(drop),
            _ => Ok(()),
        }
    }

    /// Follows the files until its task is aborted, and reads them on request. An unusable pair is logged once; the previous one stays
    /// in use.
    pub async fn follow(mut self, mut requests: mpsc::Receiver<ReadFiles>) {
        let mut tick = interval(FILE_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let request = tokio::select! {
                _ = tick.tick() => None,
                Some(request) = requests.recv() => Some(request),
            };
            let read = tokio::task::spawn_blocking(move || {
                match request {
                    None => self.read_if_changed(),
                    Some(ReadFiles { files, done }) => drop(done.send(self.read_again(files))),
                }
                self
            });
            match read.await {
                Ok(this) => self = this,
                Err(_) => return, // the runtime is shutting down
            }
        }
    }

    /// Reads `files`, or the previous ones again, changed or not, and uses them where that is possible.
    fn read_again(&mut self, files: Option<(PathBuf, PathBuf)>) -> Result<(), TlsError> {
        let (cert, key) = files.unwrap_or_else(|| (self.cert.clone(), self.key.clone()));
        let moved = (&cert, &key) != (&self.cert, &self.key);
        let stamp = Stamp::of(&cert, &key);
        let pair = read(&cert, &key);
        if !moved {
            self.stamp = stamp; // the caller gets the error; it need not be logged as well
        } else if pair.is_ok() {
            warn_if_readable(&key);
            (self.cert, self.key, self.stamp) = (cert, key, stamp);
        }
        self.replace(pair?);
        Ok(())
    }

    fn replace(&mut self, Pair { acceptor, fingerprint, end }: Pair) {
        self.current.store(Some(Arc::new(acceptor)));
        self.end.store(end, Ordering::Relaxed);
        if self.fingerprint != fingerprint {
            self.fingerprint = fingerprint;
            tracing::info!(fingerprint = self.fingerprint(), "using a new certificate");
        }
    }

    fn read_if_changed(&mut self) {
        let stamp = Stamp::of(&self.cert, &self.key);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match read(&self.cert, &self.key) {
            Ok(pair) => self.replace(pair),
            Err(error) => tracing::error!(%error, "the new certificate can't be used; the previous one stays in use"),
        }
    }
}

/// Logs a warning where everybody can read the private key.
fn warn_if_readable(key: &Path) {
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        tracing::warn!(key = %key.display(), "the private key can be read by everybody on this machine; chmod it to 600");
    }
}

/// The state of a pair of files, to detect changes: inode number, size and time of change of each; `None` where one is missing.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

impl Stamp {
    fn of(cert: &Path, key: &Path) -> Self {
        let of = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        Self([cert, key].map(|path| fs::metadata(path).ok().map(of)))
    }
}

/// Reads a pair of PEM files.
fn read(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let open = |path: &Path| fs::read(path).map_err(|source| TlsError::Io { path: path.into(), source });
    let wrong = |path: &Path, what, source| TlsError::Pem { path: path.into(), what, source };
    let chain = CertificateDer::pem_slice_iter(&open(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| wrong(cert, "certificate", source))?;
    let first = chain.first().ok_or_else(|| wrong(cert, "certificate", rustls::pki_types::pem::Error::NoItemsFound))?;
    let (fingerprint, end) = (Sha256::digest(first).into(), validity::end(first).map_or(0, Timestamp::unix_seconds));
    let private = PrivateKeyDer::from_pem_slice(&open(key)?).map_err(|source| wrong(key, "private key", source))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|source| TlsError::Pair { cert: cert.into(), key: key.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Pair { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(data: &Path) -> Tls {
        let config = TlsConfig { self_signed: true, ..TlsConfig::default() };
        Tls::open(&config, data, "127.0.0.1:1".parse().unwrap()).unwrap()
    }

    #[test]
    fn changed_pair_is_used_and_unusable_one_is_not() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let first = tls.fingerprint();
        assert_eq!(first.len(), 95);
        tls.read_if_changed();
        assert_eq!(tls.fingerprint(), first);
        fs::copy(&other.cert, &tls.cert).unwrap();
        let before = tls.current.load_full().unwrap();
        tls.read_if_changed();
        assert!(Arc::ptr_eq(&before, &tls.current.load_full().unwrap()), "a certificate without its key");
        fs::copy(&other.key, &tls.key).unwrap();
        tls.read_if_changed();
        assert_eq!(tls.fingerprint(), other.fingerprint());
        fs::remove_file(&tls.cert).unwrap();
        tls.read_if_changed();
        assert!(tls.current.load().is_some());
    }

    #[test]
    fn other_files_are_used_if_they_can_be() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let first = tls.fingerprint();
        assert!(tls.read_again(Some((other.cert.clone(), tls.key.clone()))).is_err());
        assert_eq!(tls.fingerprint(), first);
        tls.read_again(Some((other.cert.clone(), other.key.clone()))).unwrap();
        assert_eq!((tls.fingerprint(), &tls.cert), (other.fingerprint(), &other.cert));
        tls.read_again(None).unwrap();
        assert_eq!(tls.fingerprint(), other.fingerprint());
    }

    #[test]
    fn request_reports_an_unusable_pair_every_time() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let (first, whole) = (tls.fingerprint(), fs::read(&tls.cert).unwrap());
        let named = Some((tls.cert.clone(), tls.key.clone()));
        fs::write(&tls.cert, "nothing").unwrap();
        tls.read_if_changed(); // the change has been noticed already
        for files in [named.clone(), None, named.clone()] {
            assert!(tls.read_again(files).unwrap_err().to_string().contains("contains no certificate"));
        }
        assert!(tls.current.load().is_some() && tls.fingerprint() == first);
        fs::write(&tls.cert, whole).unwrap();
        tls.read_again(named.clone()).unwrap();
        for (from, to) in [(&other.cert, &tls.cert), (&other.key, &tls.key)] {
            fs::copy(from, to).unwrap();
        }
        tls.read_again(named).unwrap();
        assert_eq!(tls.fingerprint(), other.fingerprint());
    }

    #[test]
    fn error_names_the_file() {
        let data = tempfile::tempdir().unwrap();
        let (tls, empty) = (own(data.path()), data.path().join("empty.pem"));
        fs::write(&empty, "").unwrap();
        let error = |cert: &Path, key: &Path| read(cert, key).err().unwrap().to_string();
        assert!(error(Path::new("/nowhere/c.pem"), &tls.key).starts_with("can't use /nowhere/c.pem: No such file"));
        assert!(error(&empty, &tls.key).contains("empty.pem contains no certificate in PEM"));
        assert!(error(&tls.cert, &empty).contains("empty.pem contains no private key in PEM"));
    }
}
