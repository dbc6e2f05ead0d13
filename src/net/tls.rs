//! TLS: rustls with the configured certificate, or with one of our own, read anew when its files change.
//!
//! Connections keep the certificate they began with; only new ones see a new one.

use std::fs::{self, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

use super::self_signed;
use crate::config::TlsConfig;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Why TLS can't be served. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or written.
    #[error("can't use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no PEM of the right kind.
    #[error("{path} holds no {what} in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the parser said.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit each other, or are of an unknown kind.
    #[error("the certificate {cert} and the key {key} can't be used together: {source}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// There is no certificate of our own.
    #[error(transparent)]
    SelfSigned(#[from] self_signed::SelfSignedError),
}

/// Has clients of ours use the same TLS as the server. Only the first call sets it; all want the same.
pub fn install_provider() {
    let _ = ring::default_provider().install_default();
}

/// What new connections are served with.
pub type Current = Arc<ArcSwapOption<TlsAcceptor>>;

/// Asks who follows the files to look at once, and perhaps elsewhere.
pub struct Look {
    /// Certificate and key, where they are others than before.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Told when it is done; an error where the files can't be used, and nothing has changed.
    pub done: oneshot::Sender<Result<(), TlsError>>,
}

/// The certificate in use and where it comes from.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    /// Of the files that were read last, whether they could be used or not.
    stamp: Stamp,
    current: Current,
    /// SHA-256 of the certificate.
    fingerprint: [u8; 32],
}

impl Tls {
    /// Reads, or makes, the certificate. Blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(config: &TlsConfig, data: &Path, listen: SocketAddr) -> Result<Self, TlsError> {
        let (cert, key) = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => self_signed::ensure(data, &config.names, listen)?,
        };
        if !config.self_signed {
            warn_of(&key);
        }
        let stamp = Stamp::of(&cert, &key);
        let (acceptor, fingerprint) = read(&cert, &key)?;
        Ok(Self { cert, key, stamp, current: Arc::new(ArcSwapOption::from_pointee(acceptor)), fingerprint })
    }

    /// What the acceptor looks at for each connection.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// The certificate's SHA-256 as people compare it: `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.map(|byte| format!("{byte:02X}")).join(":")
    }

    /// Whether the files that `config` names can be used. Blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(config: &TlsConfig) -> Result<(), TlsError> {
        match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => read(cert, key).map(drop),
            _ => Ok(()),
        }
    }

    /// Follows the files until its task is aborted, and looks when it is asked to. A pair that can't be used is said once and
    /// changes nothing.
    pub async fn follow(mut self, mut looks: mpsc::Receiver<Look>) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = tick.tick() => None,
                Some(look) = looks.recv() => Some(look),
            };
            let looked = tokio::task::spawn_blocking(move || {
                match asked {
                    None => self.look(),
                    Some(Look { files, done }) => drop(done.send(self.turn_to(files))),
                }
                self
            });
            match looked.await {
                Ok(this) => self = this,
                Err(_) => return, // the runtime ends
            }
        }
    }

    /// Reads these files, or the same as before, whether they look changed or not, and goes on with them where they can be used.
    fn turn_to(&mut self, files: Option<(PathBuf, PathBuf)>) -> Result<(), TlsError> {
        let same = (self.cert.clone(), self.key.clone());
        let (cert, key) = files.unwrap_or_else(|| same.clone());
        let others = (&cert, &key) != (&same.0, &same.1);
        let stamp = Stamp::of(&cert, &key);
        let pair = read(&cert, &key);
        if !others {
            self.stamp = stamp; // who asked hears what is wrong; it need not be said again
        } else if pair.is_ok() {
            warn_of(&key);
            (self.cert, self.key, self.stamp) = (cert, key, stamp);
        }
        self.take(pair?);
        Ok(())
    }

    fn take(&mut self, (acceptor, fingerprint): (TlsAcceptor, [u8; 32])) {
        self.current.store(Some(Arc::new(acceptor)));
        if self.fingerprint != fingerprint {
            self.fingerprint = fingerprint;
            tracing::info!(fingerprint = self.fingerprint(), "a new certificate is in use");
        }
    }

    fn look(&mut self) {
        let stamp = Stamp::of(&self.cert, &self.key);
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        match read(&self.cert, &self.key) {
            Ok(pair) => self.take(pair),
            Err(error) => tracing::error!(%error, "the new certificate can't be used; the old one stays"),
        }
    }
}

fn warn_of(key: &Path) {
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        tracing::warn!(key = %key.display(), "everybody on this machine can read the private key");
    }
}

/// Tells whether a pair of files has changed: size, time and number of each; `None` where it is not there.
#[derive(Debug, PartialEq, Eq)]
struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

impl Stamp {
    fn of(cert: &Path, key: &Path) -> Self {
        let of = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        Self([cert, key].map(|path| fs::metadata(path).ok().map(of)))
    }
}

/// Reads a pair of PEM files; also gives the certificate's SHA-256.
fn read(cert: &Path, key: &Path) -> Result<(TlsAcceptor, [u8; 32]), TlsError> {
    let open = |path: &Path| fs::read(path).map_err(|source| TlsError::Io { path: path.into(), source });
    let wrong = |path: &Path, what, source| TlsError::Pem { path: path.into(), what, source };
    let chain = CertificateDer::pem_slice_iter(&open(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| wrong(cert, "certificate", source))?;
    let first = chain.first().ok_or_else(|| wrong(cert, "certificate", rustls::pki_types::pem::Error::NoItemsFound))?;
    let fingerprint = Sha256::digest(first).into();
    let private = PrivateKeyDer::from_pem_slice(&open(key)?).map_err(|source| wrong(key, "private key", source))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|source| TlsError::Pair { cert: cert.into(), key: key.into(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(data: &Path) -> Tls {
        let config = TlsConfig { self_signed: true, ..TlsConfig::default() };
        Tls::open(&config, data, "127.0.0.1:1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_changed_pair_is_taken_and_a_broken_one_is_not() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let first = tls.fingerprint();
        assert_eq!(first.len(), 95);
        tls.look();
        assert_eq!(tls.fingerprint(), first);
        fs::copy(&other.cert, &tls.cert).unwrap();
        let before = tls.current.load_full().unwrap();
        tls.look();
        assert!(Arc::ptr_eq(&before, &tls.current.load_full().unwrap()), "a certificate without its key");
        fs::copy(&other.key, &tls.key).unwrap();
        tls.look();
        assert_eq!(tls.fingerprint(), other.fingerprint());
        fs::remove_file(&tls.cert).unwrap();
        tls.look();
        assert!(tls.current.load().is_some());
    }

    #[test]
    fn other_files_are_turned_to_where_they_can_be_used() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let first = tls.fingerprint();
        assert!(tls.turn_to(Some((other.cert.clone(), tls.key.clone()))).is_err());
        assert_eq!(tls.fingerprint(), first);
        tls.turn_to(Some((other.cert.clone(), other.key.clone()))).unwrap();
        assert_eq!((tls.fingerprint(), &tls.cert), (other.fingerprint(), &other.cert));
        tls.turn_to(None).unwrap();
        assert_eq!(tls.fingerprint(), other.fingerprint());
    }

    #[test]
    fn who_asks_hears_of_a_broken_pair_however_often() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut tls, other) = (own(here.path()), own(there.path()));
        let (first, whole) = (tls.fingerprint(), fs::read(&tls.cert).unwrap());
        let named = Some((tls.cert.clone(), tls.key.clone()));
        fs::write(&tls.cert, "nothing").unwrap();
        tls.look(); // has seen it
        for files in [named.clone(), None, named.clone()] {
            assert!(tls.turn_to(files).unwrap_err().to_string().contains("holds no certificate"));
        }
        assert!(tls.current.load().is_some() && tls.fingerprint() == first);
        fs::write(&tls.cert, whole).unwrap();
        tls.turn_to(named.clone()).unwrap();
        for (from, to) in [(&other.cert, &tls.cert), (&other.key, &tls.key)] {
            fs::copy(from, to).unwrap();
        }
        tls.turn_to(named).unwrap();
        assert_eq!(tls.fingerprint(), other.fingerprint());
    }

    #[test]
    fn errors_name_the_file() {
        let data = tempfile::tempdir().unwrap();
        let (tls, empty) = (own(data.path()), data.path().join("empty.pem"));
        fs::write(&empty, "").unwrap();
        let said = |cert: &Path, key: &Path| read(cert, key).err().unwrap().to_string();
        assert!(said(Path::new("/nowhere/c.pem"), &tls.key).starts_with("can't use /nowhere/c.pem: No such file"));
        assert!(said(&empty, &tls.key).contains("empty.pem holds no certificate in PEM"));
        assert!(said(&tls.cert, &empty).contains("empty.pem holds no private key in PEM"));
    }
}
