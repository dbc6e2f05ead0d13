//! Errors of the disk in plain words, with the remedy.

use std::fmt;
use std::io::{self, ErrorKind};

/// An error of the disk, with what it means and what to do about it, where that is known. Displays as a phrase that begins with the
/// system's text.
pub struct Explained<'a>(pub &'a io::Error);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied => {
                Some("this user has no right to it. Run qy-lty as the owner of the directory, or give this user the right")
            }
            kind => remedy(kind),
        };
        match remedy {
            Some(remedy) => write!(f, "{error}: {remedy}"),
            None => write!(f, "{error}"),
        }
    }
}

/// Returns the meaning of an error that only a disk has, and the remedy.
pub fn remedy(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::ReadOnlyFilesystem => {
            "the disk is read-only. After an error the system mounts a disk so (see dmesg): check it, then mount it writable, or use \
             a directory on another disk"
        }
        ErrorKind::StorageFull => "the disk is full. Free some space, then try again",
        ErrorKind::QuotaExceeded => "the disk quota of this user is used up. Free some space or raise the quota, then try again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_refuses_is_named_with_the_remedy() {
        for (errno, words) in [
            (rustix::io::Errno::ROFS, "the disk is read-only"),
            (rustix::io::Errno::NOSPC, "the disk is full"),
            (rustix::io::Errno::DQUOT, "the disk quota"),
            (rustix::io::Errno::ACCESS, "this user has no right"),
            (rustix::io::Errno::PERM, "this user has no right"),
        ] {
            let error = io::Error::from(errno);
            let text = Explained(&error).to_string();
            assert!(text.starts_with(&error.to_string()) && text.contains(words), "{text}");
        }
        let other = io::Error::from(rustix::io::Errno::IO);
        assert_eq!(Explained(&other).to_string(), other.to_string());
    }
}
