//! The text that a start prints on standard output: where the server is, and what to try. A terminal also gets what is for its owner's
//! eyes only, a one-time link, and what a file has no use for.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::first_start::ADMIN;
use crate::accounts::By;
use crate::app::App;
use crate::auth::Caller;
use crate::change::LINK_SECONDS;
use crate::config::Config;
use crate::control::link_url;
use crate::log::colours_allowed;
use crate::net::urls;

/// The width that the texts are laid out for, in columns.
const COLUMNS: usize = 78;

/// Prints the banner of a server that listens on `listen`, with the `fingerprint` of its certificate, where it has one, and the generated
/// `password` of the first administrator at the first start. Prints nothing where standard output is no `terminal`, unless there is a
/// password.
pub async fn print(app: &App, listen: SocketAddr, fingerprint: Option<&str>, password: Option<&str>, terminal: bool) {
    if !terminal && password.is_none() {
        return;
    }
    let config = app.config();
    let tls = fingerprint.is_some();
    let variable = |name: &str| std::env::var(name).ok();
    let link = if terminal { link(app, listen, tls).await } else { None };
    let banner = Banner {
        url: urls::local(listen, tls),
        fingerprint,
        password,
        commands: Commands::of(std::env::args_os().next().and_then(|program| program.into_string().ok()).as_deref(), &config),
        terminal: terminal.then(|| Terminal {
            link,
            network: urls::in_network(listen, tls),
            exposed: !tls && config.server.trusted_proxies.is_empty(),
            colours: colours_allowed(|name| std::env::var_os(name)),
            blocks: shows_blocks(variable),
        }),
    };
    // To standard output only: the log never contains a password or a link.
    let mut out = io::stdout().lock();
    if out.write_all(banner.text().as_bytes()).and_then(|()| out.flush()).is_err() && password.is_some() {
        tracing::warn!("failed to print the first administrator's password; set one: qy-lty user set-password {ADMIN}");
    }
}

/// Makes a one-time link for the administrator of the first start; `None` where there is none, or it can't log in.
async fn link(app: &App, listen: SocketAddr, tls: bool) -> Option<String> {
    let admin = app.store.user_by_name(ADMIN).ok().flatten()?;
    let operator = Caller::operator();
    let by = By { caller: Some(&operator), address: None, trail: &app.audit };
    let code = app.accounts().make_link(&by, admin.id).await.ok()?;
    Some(link_url(&urls::local(listen, tls), &code))
}

/// Reports whether a terminal with these variables shows block elements: not where its character set is named, and is another than
/// UTF-8.
fn shows_blocks(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| variable(name)).find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    let other = locale.split_once('.').is_some_and(|(_, set)| !set.starts_with("utf-8") && !set.starts_with("utf8"));
    !other && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// The commands that reach this server.
struct Commands {
    /// The program and its flags, around the command.
    program: String,
    flags: String,
    /// Set where they work in the present directory only.
    here: bool,
}

impl Commands {
    /// Returns those of a program that was started as `program`: by its path, or by its name, which the shell finds.
    fn of(program: Option<&str>, config: &Config) -> Self {
        let program = program.filter(|name| name.contains('/')).unwrap_or("qy-lty");
        let data = &config.server.data_dir;
        let is_usual = *data == Config::default().server.data_dir;
        let flags = if is_usual { String::new() } else { format!(" --data-dir {}", quoted(&absolute(data))) };
        let here = is_usual || (program.contains('/') && !program.starts_with('/'));
        Self { program: quoted(program), flags, here }
    }

    fn line(&self, command: &str) -> String {
        format!("{} {command}{}", self.program, self.flags)
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).as_deref().unwrap_or(path).display().to_string()
}

/// Returns a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The parts of the text.
struct Banner<'a> {
    /// For a browser on this machine, without a path.
    url: String,
    fingerprint: Option<&'a str>,
    password: Option<&'a str>,
    commands: Commands,
    /// `None` where standard output is no terminal.
    terminal: Option<Terminal>,
}

/// What only a terminal gets.
struct Terminal {
    /// A one-time link.
    link: Option<String>,
    /// For browsers on other machines, without a path; `None` where none can reach the server.
    network: Option<String>,
    /// Set where nothing encrypts what comes from there.
    exposed: bool,
    colours: bool,
    /// Set where it shows block elements.
    blocks: bool,
}

impl Banner<'_> {
    fn text(&self) -> String {
        let mut text = format!("\nqy-lty is ready at {}\n\n", self.url);
        if let Some(terminal) = &self.terminal {
            text += &terminal.network_text();
        }
        if let Some(password) = self.password {
            text += &format!("  user      {ADMIN}\n  password  {password}      (not shown again)\n");
        }
        if let Some(fingerprint) = self.fingerprint {
            text += &format!("  SHA-256   {fingerprint}      (of the certificate)\n");
        }
        if self.password.is_some() || self.fingerprint.is_some() {
            text.push('\n');
        }
        let here = if self.commands.here { ", in this directory" } else { "" };
        let (tail, send) = (self.commands.line("tail"), self.commands.line(&format!("send {ADMIN} hello")));
        text += &format!("See a message arrive, from two more terminals{here}:\n\n  {tail}\n  {send}\n\n");
        if let Some(terminal) = &self.terminal {
            if let Some(link) = &terminal.link {
                let minutes = LINK_SECONDS / 60;
                text += &format!(
                    "Or open the page, logged in as {ADMIN}; this link is good once, for {minutes} minutes:\n\n  {link}\n\n"
                );
            }
            text += "Ctrl-C stops the server, and so does closing this terminal.\n\n";
        }
        text
    }
}

impl Terminal {
    /// Returns the part about other machines.
    fn network_text(&self) -> String {
        let Some(url) = &self.network else { return String::new() };
        let mut text = format!("For other machines in the network: {url}\n\n");
        text += &self.qr_code(url).unwrap_or_default();
        if self.exposed {
            text += "WARNING: without TLS, everybody in that network can read passwords and messages.\n\
                     Encrypt them: --set tls.self_signed=true makes a certificate.\n\n";
        }
        text
    }

    /// Returns a QR code in half blocks; `None` where the terminal would not show it.
    fn qr_code(&self, url: &str) -> Option<String> {
        if !self.blocks {
            return None;
        }
        let code = QrCode::with_error_correction_level(url, EcLevel::L).ok()?;
        // Terminals are dark: it is the light modules that are drawn. With colours they are light on any terminal.
        let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        let (start, end) = if self.colours { ("\x1b[97;40m", "\x1b[0m") } else { ("", "") };
        let lines = drawn.lines().filter(|line| line.chars().count() <= COLUMNS).map(|line| format!("  {start}{line}{end}\n"));
        Some(lines.collect::<String>() + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data_dir: &str) -> Config {
        let mut config = Config::default();
        config.server.data_dir = data_dir.into();
        config
    }

    fn banner(listen: &str, terminal: bool) -> Banner<'static> {
        let listen = listen.parse().unwrap();
        Banner {
            url: urls::local(listen, false),
            fingerprint: None,
            password: Some("p-_w"),
            commands: Commands::of(Some("qy-lty"), &Config::default()),
            terminal: terminal.then(|| Terminal {
                link: Some("http://127.0.0.1:8000/#link=qll_0".into()),
                network: urls::in_network(listen, false),
                exposed: true,
                colours: false,
                blocks: true,
            }),
        }
    }

    #[test]
    fn commands_can_be_pasted_from_where_the_server_was_started() {
        for (program, data, line, here) in [
            (None, "data", "qy-lty tail", true),
            (Some("qy-lty"), "data", "qy-lty tail", true),
            (Some("target/release/qy-lty"), "data", "target/release/qy-lty tail", true),
            (Some("./qy-lty"), "/srv/qy", "./qy-lty tail --data-dir /srv/qy", true),
            (Some("/opt/my tools/qy-lty"), "/srv/it's", r"'/opt/my tools/qy-lty' tail --data-dir '/srv/it'\''s'", false),
            (Some("qy-lty"), "/srv/数据", "qy-lty tail --data-dir /srv/数据", false),
        ] {
            let commands = Commands::of(program, &config(data));
            assert_eq!((commands.line("tail").as_str(), commands.here), (line, here));
        }
        let relative = Commands::of(None, &config("elsewhere")).line("tail");
        assert!(relative.starts_with("qy-lty tail --data-dir /") && relative.ends_with("/elsewhere"), "{relative}");
    }

    #[test]
    fn link_and_hints_are_for_terminals_only() {
        let text = banner("0.0.0.0:8000", false).text();
        assert!(text.starts_with("\nqy-lty is ready at http://127.0.0.1:8000\n"), "{text}");
        assert!(text.contains("  password  p-_w ") && text.contains("\n  qy-lty tail\n  qy-lty send admin hello\n"), "{text}");
        assert!(!text.contains("link") && !text.contains("WARNING") && !text.contains("Ctrl-C"), "{text}");
        let text = banner("127.0.0.1:8000", true).text();
        assert!(text.contains("\n  http://127.0.0.1:8000/#link=qll_0\n") && text.contains("Ctrl-C"), "{text}");
        assert!(!text.contains("WARNING") && !text.contains("other machines"), "{text}");
        let long = text.lines().find(|line| line.chars().count() > COLUMNS + 2);
        assert_eq!(long, None);
    }

    #[test]
    fn server_in_a_network_shows_its_address_and_warns_without_tls() {
        let mut banner = banner("192.0.2.7:8000", true);
        let text = banner.text();
        assert!(text.contains("For other machines in the network: http://192.0.2.7:8000\n"), "{text}");
        assert!(text.contains("WARNING: without TLS") && text.contains("tls.self_signed=true"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('█')).collect();
        assert!((15..=20).contains(&rows.len()), "{text}");
        assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count() && !row.contains('\x1b')));
        let terminal = banner.terminal.as_mut().unwrap();
        (terminal.colours, terminal.exposed) = (true, false);
        let text = banner.text();
        assert_eq!(text.matches("\x1b[97;40m").count(), text.matches("\x1b[0m").count());
        assert!(text.contains("\x1b[97;40m") && !text.contains("WARNING"), "{text}");
        banner.terminal.as_mut().unwrap().blocks = false;
        assert!(!banner.text().contains('█'));
    }

    #[test]
    fn blocks_are_left_out_where_the_terminal_has_none() {
        let shows = |variables: &[(&str, &str)]| {
            shows_blocks(|name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
        };
        for with in [&[][..], &[("LANG", "C")], &[("LANG", "zh_CN.UTF-8")], &[("LC_ALL", ""), ("LANG", "en_US.utf8@x")]] {
            assert!(shows(with), "{with:?}");
        }
        for without in
            [&[("LANG", "zh_CN.GB18030")][..], &[("LC_ALL", "de_DE.ISO-8859-1"), ("LANG", "C.UTF-8")], &[("TERM", "dumb")]]
        {
            assert!(!shows(without), "{without:?}");
        }
    }
}
