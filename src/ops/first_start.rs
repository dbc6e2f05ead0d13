//! The first start: an administrator, and what to do next.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use crate::app::App;
use crate::auth::{AuthError, random_password};
use crate::store::{Authority, Role};
use crate::telemetry::audit::{self, AuditEvent};

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// On a store without accounts, creates [`ADMIN`] with `given` or with a random password; the latter is printed on standard
/// output, this once, with what can be pasted to try the server at `address`, and the `fingerprint` of its certificate where it
/// has one. Where standard output is systemd's journal, which keeps everything and shows it to others, it is told to nobody:
/// root sets another one with `qy-lty user passwd admin`.
///
/// # Errors
/// When the given password can't be used, there are no random numbers, or the store fails.
pub async fn ensure_admin(
    app: &App,
    given: Option<String>,
    address: SocketAddr,
    fingerprint: Option<&str>,
) -> Result<(), AuthError> {
    if !app.store.is_new()? {
        if given.is_some() {
            tracing::info!("there are accounts already: QY_LTY_ADMIN_PASSWORD changes nothing");
        }
        return Ok(());
    }
    let made = if given.is_some() { None } else { Some(random_password().ok_or(AuthError::NoRandom)?) };
    let password = given.as_deref().or(made.as_deref()).unwrap_or_default();
    let admin = app.auth.create_user(ADMIN, password, Role::Admin, Authority::System).await?;
    tracing::info!(user = %admin.id, "created the first administrator");
    audit::record(AuditEvent::UserCreated(admin.id, Role::Admin.name()), None, None);
    if let Some(password) = made {
        if in_journal(std::io::stdout(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
            tracing::warn!("the first administrator has no password that anybody knows; set one: qy-lty user passwd {ADMIN}");
            return Ok(());
        }
        let text = welcome(address, fingerprint, &password, admin.id.0);
        // To standard output only: the log never holds the secret.
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            tracing::warn!(
                "the first password could not be printed; start anew with QY_LTY_ADMIN_PASSWORD on an empty data directory"
            );
        }
    }
    Ok(())
}

/// Whether `out` is the stream to systemd's journal that `stream` names: `DEVICE:INODE`, as systemd has it in `JOURNAL_STREAM`.
fn in_journal(out: impl AsFd, stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|text| text.split_once(':')) else { return false };
    rustix::fs::fstat(out).is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// An address to type: a server that listens everywhere is reached here by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// What is printed.
fn welcome(address: SocketAddr, fingerprint: Option<&str>, password: &str, admin: u64) -> String {
    let at = reachable(address);
    let s = if fingerprint.is_some() { "s" } else { "" };
    let certificate = fingerprint.map(|text| format!("  SHA-256   {text}      (of the certificate)\n")).unwrap_or_default();
    // Nobody vouches for our own certificate, nor any other for this address: the first try takes it as it is.
    let (insecure, unchecked) = if fingerprint.is_some() { (" -k", " --no-check") } else { ("", "") };
    format!(
        r#"
qy-lty is ready at http{s}://{at}

  user      {ADMIN}
  password  {password}      (shown this once)
{certificate}
Try it: log in, listen, and from a second terminal (log in there too) push a message:

  TOKEN=$(curl -s{insecure} http{s}://{at}/api/auth/login -H 'Content-Type: application/json' -d '{{"username":"{ADMIN}","password":"{password}"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  npx -y wscat{unchecked} -c "ws{s}://{at}/ws/device/?token=$TOKEN"
  curl -s{insecure} http{s}://{at}/api/messages/ -H "Authorization: Token $TOKEN" -H 'Content-Type: application/json' -d '{{"type":"notice","message":"hello","user_id":{admin}}}'

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(in_journal(&file, Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        for other in [None, Some(""), Some("8:1"), Some("a:b"), Some("18446744073709551616:1")] {
            assert!(!in_journal(&file, other), "{other:?}");
        }
    }

    #[test]
    fn the_lines_can_be_pasted() {
        let text = welcome("0.0.0.0:8000".parse().unwrap(), None, "p-_w", 1);
        assert!(text.contains("ready at http://127.0.0.1:8000\n"));
        assert!(text.contains(r#"-d '{"username":"admin","password":"p-_w"}'"#));
        assert!(text.contains("ws://127.0.0.1:8000/ws/device/?token=$TOKEN"));
        assert_eq!(text.matches("p-_w").count(), 2);
        let text = welcome("0.0.0.0:8000".parse().unwrap(), Some("AB:CD"), "p-_w", 1);
        assert!(text.contains("SHA-256   AB:CD "));
        assert!(
            text.contains("curl -s -k https://127.0.0.1:8000/") && text.contains("wscat --no-check -c \"wss://127.0.0.1:8000/")
        );
        assert_eq!(reachable("[::1]:5".parse().unwrap()).to_string(), "[::1]:5");
    }
}
