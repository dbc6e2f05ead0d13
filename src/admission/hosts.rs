//! The host names under which pages may use this server.
//!
//! Whoever owns a domain can have its name resolve to any address (DNS rebinding): a page of that domain is then of the same origin as
//! this server, as far as the browser can tell. What gives it away is the `Host` header, which has a name that nobody gave this server.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Names below these belong to no domain that anybody can register: multicast DNS (RFC 6762), home networks (RFC 8375), and what
/// routers use instead.
const LOCAL_DOMAINS: [&str; 3] = [".local", ".home.arpa", ".lan"];

/// The known host names.
#[derive(Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Knows `names`, of which those that begin with `*.` stand for all names with one more label, and the hosts of `origins`; beside
    /// those that are known anyway: see [`knows`](Self::knows).
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, origins: &'a [String]) -> Self {
        let of_origins = origins.iter().filter_map(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        Self(names.into_iter().chain(of_origins).map(|host| name_of(host).to_ascii_lowercase()).collect())
    }

    /// Reports whether `host`, a `Host` header, names this server: by an address or a name without a dot, which nobody owns, by one of a
    /// local domain, or by one of the known names.
    pub fn knows(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok() || is_label(&name) {
            return true;
        }
        let is_local = |domain: &&'static str| name.strip_suffix(*domain).is_some_and(|rest| rest.split('.').all(is_label));
        LOCAL_DOMAINS.iter().any(is_local) || self.0.iter().any(|known| covers(known, &name))
    }
}

/// Reports whether `known` is `name`, or `*.` and all but the first label of it.
fn covers(known: &str, name: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(domain) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        None => !known.is_empty() && known == name,
    }
}

/// Returns the name or address in `host[:port]`, without brackets and the final dot of a name.
pub(super) fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.split_once('%').map_or(address, |(address, _)| address); // without a zone
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.contains(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_local_and_given_names_are_known() {
        let origins = ["https://App.example.com:8443", "null", "file://", "http://[2001:db8::1]:80", "capacitor://localhost"];
        let hosts = Hosts::new(["box.example.org", "*.wild.example", "Straße", "10.0.0.1"], &origins.map(str::to_owned));
        for known in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "192.168.1.5:80",
            "8.8.8.8",
            "[::1]",
            "[::1]:8000",
            "[fe80::1]:8000",
            "[fe80::1%25eth0]:8000",
            "[::ffff:10.0.0.1]",
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "qy",
            "my_box:1",
            "box.local",
            "BOX.LOCAL:8000",
            "box.local.",
            "a.b.lan",
            "qy.home.arpa",
            "box.example.org",
            "Box.Example.Org:443",
            "box.example.org.",
            "app.example.com",
            "app.example.com:1",
            "a.wild.example",
        ] {
            assert!(hosts.knows(known), "{known}");
        }
        for unknown in [
            "",
            ":80",
            ".",
            "..",
            "evil.example",
            "evil.example:8000",
            "evil.example.",
            "www.box.example.org",
            "xbox.example.org",
            "example.org",
            "local.evil.example",
            "box.local.evil.example",
            "evil.example.lan.com",
            "home.arpa",
            ".local",
            "a..lan",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "127.1.evil",
            "[evil.example]",
            "[evil.example]:80",
            "a.b.wild.example",
            "wild.example",
            ".wild.example",
            "evil.example:80:80",
            "evil.example/box.local",
            "evil.example@box.local",
            "evil.example\\.local",
            "evil.example .local",
            "evil.example?.local",
            "evil.example#.lan",
            "%65vil.example",
            "1.2.3",
            "256.1.1.1",
            "1.2.3.4.5",
        ] {
            assert!(!hosts.knows(unknown), "{unknown}");
        }
        assert!(!Hosts::new([], &[]).knows("box.example.org") && !Hosts::new(["", "*."], &[]).knows("a.b"));
    }

    proptest! {
        #[test]
        fn name_below_a_domain_that_somebody_can_own_is_unknown(
            labels in proptest::collection::vec("[a-z0-9-]{1,8}", 0..4),
            domain in prop_oneof![Just("example"), Just("com"), Just("io"), Just("arpa"), Just("localhost.example"), Just("lan.net")],
            end in prop_oneof![Just(""), Just("."), Just(":80"), Just(".:8000")],
        ) {
            let hosts = Hosts::new(["box.example.org"], &["https://app.example.com".to_owned()]);
            let name = format!("{}{domain}", labels.iter().map(|label| format!("{label}.")).collect::<String>());
            prop_assume!(name.contains('.') && !["app.example.com", "home.arpa"].iter().any(|known| name.ends_with(known)));
            prop_assert!(!hosts.knows(&format!("{name}{end}")), "{name}{end}");
            let (known, below) = (Hosts::new([name.as_str()], &[]), format!("a.{name}"));
            let with_end = format!("{name}{end}");
            prop_assert!(known.knows(&with_end) && !known.knows(&below));
        }

        #[test]
        fn every_address_is_known(v4: [u8; 4], v6: [u8; 16], port in proptest::option::of(any::<u16>())) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let (v4, v6) = (format!("{}{port}", Ipv4Addr::from(v4)), format!("[{}]{port}", Ipv6Addr::from(v6)));
            prop_assert!(Hosts::default().knows(&v4) && Hosts::default().knows(&v6));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = Hosts::new([text.as_str()], std::slice::from_ref(&text)).knows(&text);
        }
    }
}
