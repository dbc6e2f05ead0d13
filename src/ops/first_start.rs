//! The first start: creates an administrator.

use std::os::fd::AsFd;

use crate::app::App;
use crate::auth::{AuthError, random_password};

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// Creates [`ADMIN`] on a store without users, with the password `given` or a random one. Returns a random password, for the
/// [`banner`](super::banner) to print. Not where standard output is systemd's journal, which keeps everything and shows it to others: root
/// sets another password with `qy-lty user set-password admin`.
///
/// # Errors
/// A given password that can't be used, a failure of the random number generator or of the store.
pub async fn ensure_admin(app: &App, given: Option<String>) -> Result<Option<String>, AuthError> {
    if !app.store.is_new()? {
        if given.is_some() {
            tracing::info!("there are users already; QY_LTY_ADMIN_PASSWORD was ignored");
        }
        return Ok(None);
    }
    let generated = if given.is_some() { None } else { Some(random_password().ok_or(AuthError::NoRandom)?) };
    let password = given.as_deref().or(generated.as_deref()).unwrap_or_default();
    let admin = app.accounts().create_first_admin(ADMIN, password).await?;
    tracing::info!(user = %admin.id, "created the first administrator");
    if generated.is_some() && in_journal(std::io::stdout(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        tracing::warn!(
            "the first administrator has a random password that was not printed; set one: qy-lty user set-password {ADMIN}"
        );
        return Ok(None);
    }
    Ok(generated)
}

/// Reports whether `out` is the stream to systemd's journal that `stream` names: the `DEVICE:INODE` in `JOURNAL_STREAM`.
fn in_journal(out: impl AsFd, stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|text| text.split_once(':')) else { return false };
    rustix::fs::fstat(out).is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_is_recognised_by_its_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(in_journal(&file, Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        for other in [None, Some(""), Some("8:1"), Some("a:b"), Some("18446744073709551616:1")] {
            assert!(!in_journal(&file, other), "{other:?}");
        }
    }
}
