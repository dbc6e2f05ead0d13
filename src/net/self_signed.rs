//! A certificate of our own, for a box on a network without names: made once, kept in the data directory.
//!
//! Nobody vouches for it: clients pin its fingerprint, or accept it once. It has no end that anybody would live to see, and a
//! beginning before any clock could be: a box without a battery starts in the past, and a pinned certificate that changes
//! would lock its devices out.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use crate::data_dir::{TLS_DIRECTORY, write_private};

/// Why there is no certificate of our own. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// The disk's fault.
    #[error("can't write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that can't be in a certificate, for example.
    #[error("the self-signed certificate could not be made: {0}")]
    Unmakeable(String),
}

/// What it was made for, beside it.
const NAMES: &str = "names";

/// The paths of certificate and key below `data`, made for `names`, this machine's name, loopback and `listen` when they are
/// not there yet.
///
/// # Errors
/// [`SelfSignedError`]: the disk's, or a name that can't be in a certificate.
pub(super) fn ensure(data: &Path, names: &[String], listen: SocketAddr) -> Result<(PathBuf, PathBuf), SelfSignedError> {
    let at = data.join(TLS_DIRECTORY);
    let (cert, key) = (at.join("cert.pem"), at.join("key.pem"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| SelfSignedError::Io { path, source }
    };
    let said = names.join("\n");
    if cert.exists() && key.exists() {
        if fs::read_to_string(at.join(NAMES)).is_ok_and(|then| then != said) {
            tracing::warn!(directory = %at.display(), "tls.names has changed since the certificate was made: remove the directory for a new one, which devices must be told of");
        }
        return Ok((cert, key));
    }
    if cert.exists() || key.exists() {
        tracing::warn!(directory = %at.display(), "half of the certificate's files were missing: there is a new one, which devices must be told of");
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&at).map_err(failed(&at))?;
    let made = KeyPair::generate().and_then(|pair| Ok((parameters(names, listen)?.self_signed(&pair)?, pair)));
    let (certificate, pair) = made.map_err(|error| SelfSignedError::Unmakeable(error.to_string()))?;
    write_private(&at.join(NAMES), said.as_bytes()).map_err(failed(&at))?;
    // The certificate last: it stands for both being there.
    write_private(&key, pair.serialize_pem().as_bytes()).map_err(failed(&key))?;
    write_private(&cert, certificate.pem().as_bytes()).map_err(failed(&cert))?;
    File::open(&at).and_then(|directory| directory.sync_all()).map_err(failed(&at))?;
    Ok((cert, key))
}

/// What the certificate says.
fn parameters(names: &[String], listen: SocketAddr) -> Result<CertificateParams, rcgen::Error> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if let Some(host) = host_name() {
        all.push(format!("{host}.local"));
        all.push(host);
    }
    if !listen.ip().is_unspecified() {
        all.push(listen.ip().to_string());
    }
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    let mut parameters = CertificateParams::new(all)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "qy-lty");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.not_before = date_time_ymd(2000, 1, 1);
    parameters.not_after = date_time_ymd(2049, 12, 31); // the last year that every parser reads (RFC 5280 section 4.1.2.5.1)
    Ok(parameters)
}

/// This machine's name, where it is one that a certificate can hold.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!name.is_empty() && name != "localhost" && name.chars().all(good) && name.parse::<IpAddr>().is_err()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_and_private() {
        let data = tempfile::tempdir().unwrap();
        let listen = "192.0.2.7:1".parse().unwrap();
        let (cert, key) = ensure(data.path(), &["box.lan".into()], listen).unwrap();
        let first = fs::read(&cert).unwrap();
        for path in [&cert, &key] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        ensure(data.path(), &["other.lan".into()], listen).unwrap();
        assert_eq!(fs::read(&cert).unwrap(), first);
        fs::remove_file(&key).unwrap();
        ensure(data.path(), &[], listen).unwrap();
        assert_ne!(fs::read(&cert).unwrap(), first, "half of a pair is no pair");
        let odd = ensure(tempfile::tempdir().unwrap().path(), &["ü\u{0}".into()], listen);
        assert!(matches!(odd, Err(SelfSignedError::Unmakeable(_))));
    }
}
