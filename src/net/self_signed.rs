//! A self-signed certificate, for a machine on a network without names: generated once, kept in the data directory.
//!
//! No authority vouches for it: clients pin its fingerprint, or accept it once. It is valid from 2000 to 2049: a machine without a
//! battery starts with a clock in the past, and a pinned certificate that changes would lock the devices out.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

use crate::core::disk::Explained;
use crate::data_dir::{TLS_DIRECTORY, write_private};

/// An error of generating the certificate. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// A file can't be written.
    #[error("can't write {path}: {}", Explained(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The certificate can't be generated, for example because a name can't be part of one.
    #[error("failed to generate the self-signed certificate: {0}")]
    Generate(String),
}

/// The file with the names that the certificate was generated for, beside it.
const NAMES_FILE: &str = "names";

/// Returns the paths of certificate and key below `data`. Generates them for `names`, this machine's name, loopback and `listen` where
/// they are missing.
///
/// # Errors
/// [`SelfSignedError`]: a file that can't be written, or a name that can't be part of a certificate.
pub(super) fn ensure(data: &Path, names: &[String], listen: SocketAddr) -> Result<(PathBuf, PathBuf), SelfSignedError> {
    let at = data.join(TLS_DIRECTORY);
    let (cert, key) = (at.join("cert.pem"), at.join("key.pem"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| SelfSignedError::Io { path, source }
    };
    let names_text = names.join("\n");
    if cert.exists() && key.exists() {
        if fs::read_to_string(at.join(NAMES_FILE)).is_ok_and(|then| then != names_text) {
            tracing::warn!(directory = %at.display(), "tls.names has changed since the certificate was generated; delete the directory to get a new certificate, and pin it on the devices");
        }
        return Ok((cert, key));
    }
    if cert.exists() || key.exists() {
        tracing::warn!(directory = %at.display(), "certificate or key was missing; generated a new certificate, which devices must pin");
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&at).map_err(failed(&at))?;
    let generated = KeyPair::generate().and_then(|pair| Ok((parameters(names, listen)?.self_signed(&pair)?, pair)));
    let (certificate, pair) = generated.map_err(|error| SelfSignedError::Generate(error.to_string()))?;
    write_private(&at.join(NAMES_FILE), names_text.as_bytes()).map_err(failed(&at))?;
    // The certificate last: only a complete pair has one.
    write_private(&key, pair.serialize_pem().as_bytes()).map_err(failed(&key))?;
    write_private(&cert, certificate.pem().as_bytes()).map_err(failed(&cert))?;
    File::open(&at).and_then(|directory| directory.sync_all()).map_err(failed(&at))?;
    Ok((cert, key))
}

/// Returns the parameters of the certificate: its names, purpose and period.
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
    parameters.not_after = date_time_ymd(2049, 12, 31); // the last year that every parser accepts (RFC 5280 section 4.1.2.5.1)
    Ok(parameters)
}

/// Returns this machine's name, where a certificate can hold it.
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!name.is_empty() && name != "localhost" && name.chars().all(good) && name.parse::<IpAddr>().is_err()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn certificate_is_generated_once_and_private() {
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
        assert_ne!(fs::read(&cert).unwrap(), first, "a certificate without its key is replaced");
        let odd = ensure(tempfile::tempdir().unwrap().path(), &["ü\u{0}".into()], listen);
        assert!(matches!(odd, Err(SelfSignedError::Generate(_))));
    }
}
