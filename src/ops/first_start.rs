//! The first start: creates an administrator and prints the next steps.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use crate::app::App;
use crate::auth::{AuthError, random_password};

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// Creates [`ADMIN`] on a store without users, with the password `given` or a random one. A random password is printed on standard
/// output, once, with commands to try the server at `address` and the `fingerprint` of its certificate, where it has one. It is not
/// printed where standard output is systemd's journal, which keeps everything and shows it to others: root sets another password
/// with `qy-lty user set-password admin`.
///
/// # Errors
/// A given password that can't be used, a failure of the random number generator or of the store.
pub async fn ensure_admin(
    app: &App,
    given: Option<String>,
    address: SocketAddr,
    fingerprint: Option<&str>,
) -> Result<(), AuthError> {
    if !app.store.is_new()? {
        if given.is_some() {
            tracing::info!("there are users already; QY_LTY_ADMIN_PASSWORD was ignored");
        }
        return Ok(());
    }
    let generated = if given.is_some() { None } else { Some(random_password().ok_or(AuthError::NoRandom)?) };
    let password = given.as_deref().or(generated.as_deref()).unwrap_or_default();
    let admin = app.accounts().create_first_admin(ADMIN, password).await?;
    tracing::info!(user = %admin.id, "created the first administrator");
    if let Some(password) = generated {
        if in_journal(std::io::stdout(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
            tracing::warn!(
                "the first administrator has a random password that was not printed; set one: qy-lty user set-password {ADMIN}"
            );
            return Ok(());
        }
        let text = welcome(address, fingerprint, &password, admin.id.0);
        // To standard output only: the log never contains the password.
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            tracing::warn!("failed to print the first administrator's password; set one: qy-lty user set-password {ADMIN}");
        }
    }
    Ok(())
}

/// Reports whether `out` is the stream to systemd's journal that `stream` names: the `DEVICE:INODE` in `JOURNAL_STREAM`.
fn in_journal(out: impl AsFd, stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|text| text.split_once(':')) else { return false };
    rustix::fs::fstat(out).is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Returns an address to connect to: loopback for a server that listens on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// Returns the text for standard output.
fn welcome(address: SocketAddr, fingerprint: Option<&str>, password: &str, admin: u64) -> String {
    let at = reachable(address);
    let s = if fingerprint.is_some() { "s" } else { "" };
    let certificate = fingerprint.map(|text| format!("  SHA-256   {text}      (of the certificate)\n")).unwrap_or_default();
    // No authority vouches for a self-signed certificate, nor does another certificate name this address: the commands accept any.
    let (insecure, unchecked) = if fingerprint.is_some() { (" -k", " --no-check") } else { ("", "") };
    format!(
        r#"
qy-lty is ready at http{s}://{at}

  user      {ADMIN}
  password  {password}      (not shown again)
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
    fn journal_is_recognised_by_its_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        assert!(in_journal(&file, Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        for other in [None, Some(""), Some("8:1"), Some("a:b"), Some("18446744073709551616:1")] {
            assert!(!in_journal(&file, other), "{other:?}");
        }
    }

    #[test]
    fn welcome_contains_commands_that_can_be_pasted() {
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
