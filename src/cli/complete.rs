//! The hidden command that completion scripts ask for names: of users, devices and clients, read through the control socket. It must
//! be quick and say nothing where no server is running: it opens no store and has no runtime.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, Command};
use serde_json::Value;

use super::lookup::encoded;
use super::output::Output;
use super::settings::SettingFlags;
use crate::control::socket::SocketPath;
use crate::core::text::hidden_character;

/// The name of the command.
pub(super) const COMMAND: &str = "__complete";

/// The time that completion may take: a person waits.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The names that one request asks for.
const PAGE_NAMES: usize = 1000;
/// The most names that are looked at.
const MAX_NAMES: usize = 5000;
/// The longest reply that is read.
const MAX_REPLY_BYTES: u64 = 2 << 20;

/// The kind of name that an argument takes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The name of a user.
    User,
    /// The name of a device.
    Device,
    /// The name of a client of the user with this name.
    Client(String),
}

/// A command line up to the word that is completed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    /// The kind of the last word, where it is a name.
    kind: Option<Kind>,
    /// The last word, so far.
    prefix: String,
    /// Options for the settings: the name, and the value.
    settings: Vec<(String, String)>,
}

/// Prints the names that may stand in place of the last of `words`, a line each; the words follow `--`, without the program. Prints nothing
/// where there are none, or anything fails: it runs in the middle of what somebody is typing.
pub(super) fn run(program: &Command, words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = words.skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let names = names(&parse(program, &words)).unwrap_or_default();
    let _ = Output::new(false).text(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
    ExitCode::SUCCESS
}

/// Finds out what the last word is.
fn parse(program: &Command, words: &[String]) -> Line {
    let Some((last, before)) = words.split_last() else { return Line::default() };
    let (mut command, mut given, mut settings) = (program, Vec::new(), Vec::new());
    let mut words = before.iter().map(String::as_str).filter(|word| *word != "="); // bash takes `--user=ana` apart
    let mut open = None;
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let Some(option) = option(program, command, name).filter(|option| option.get_action().takes_values()) else {
                continue;
            };
            let Some(value) = value.or_else(|| words.next()) else {
                open = Some(option);
                break;
            };
            settings.push((name.to_owned(), value.to_owned()));
        } else if let Some(below) = given.is_empty().then(|| command.find_subcommand(word)).flatten() {
            command = below;
        } else {
            given.push(word.to_owned());
        }
    }
    let (attached, prefix) = match last.strip_prefix("--").and_then(|long| long.split_once('=')) {
        Some((name, value)) => (option(program, command, name), value),
        None => (None, last.as_str()),
    };
    let argument = attached.or(open).map(|option| option.get_id().as_str());
    let argument = argument.or_else(|| positional(command, given.len()).filter(|_| !last.starts_with('-')));
    let kind = match (argument, command.get_name()) {
        (Some("user"), _) => Some(Kind::User),
        (Some("device"), _) => Some(Kind::Device),
        (Some("words"), "send") if given.is_empty() && !settings.iter().any(|(name, _)| name == "device") => Some(Kind::User),
        (Some("name"), "delete") if given.len() == 1 => given.pop().map(Kind::Client),
        _ => None,
    };
    Line { kind, prefix: prefix.to_owned(), settings }
}

/// Returns the option `--name` of a command, or of all.
fn option<'c>(program: &'c Command, command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().chain(program.get_arguments()).find(|argument| argument.get_long() == Some(name))
}

/// Returns the name of a command's argument at a place.
fn positional(command: &Command, place: usize) -> Option<&str> {
    command.get_positionals().nth(place).map(|argument| argument.get_id().as_str())
}

/// Returns the names of the server that begin as the line does.
fn names(line: &Line) -> Option<Vec<String>> {
    let (path, field) = match line.kind.as_ref()? {
        Kind::User => ("/api/users?".to_owned(), "username"),
        Kind::Device => ("/api/devices?".to_owned(), "name"),
        Kind::Client(user) => {
            let found = Server::of(&line.settings)?.get(&format!("/api/users?username={}", encoded(user)))?;
            (format!("/api/clients?user_id={}&", found["data"][0]["id"]), "name")
        }
    };
    let server = Server::of(&line.settings)?;
    let (mut names, mut seen, mut after) = (Vec::new(), 0, String::new());
    loop {
        let page = server.get(&format!("{path}limit={PAGE_NAMES}{after}"))?;
        let items = page["data"].as_array()?;
        seen += items.len();
        names.extend(
            items.iter().filter_map(|item| item[field].as_str()).filter(|name| fits(name, &line.prefix)).map(str::to_owned),
        );
        match &page["next"] {
            Value::Number(next) if seen < MAX_NAMES => after = format!("&after={next}"),
            _ => break,
        }
    }
    names.sort();
    names.dedup();
    Some(names)
}

/// Returns whether a name can stand in place of a word.
fn fits(name: &str, prefix: &str) -> bool {
    // Devices are named by users: no name may do anything to the terminal, or to the line.
    name.starts_with(prefix) && hidden_character(name).is_none()
}

/// A running server, as long as a completion may take.
struct Server {
    socket: SocketPath,
    deadline: Instant,
}

impl Server {
    /// Returns the server of the data directory that `settings` name, or else the usual one.
    fn of(settings: &[(String, String)]) -> Option<Self> {
        let data = SettingFlags::of(settings).for_commands().ok()?.server.data_dir;
        Some(Self { socket: SocketPath::of(&data).ok()?, deadline: Instant::now() + TIMEOUT })
    }

    /// Returns a reply. Without a client for HTTP, which takes longer to make than the reply: HTTP/1.0 has no chunks, and ends the
    /// connection.
    fn get(&self, path: &str) -> Option<Value> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let mut stream = UnixStream::connect(self.socket.as_path()).ok()?;
        stream.set_read_timeout(Some(left)).ok()?;
        stream.set_write_timeout(Some(left)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: control\r\n\r\n").as_bytes()).ok()?;
        let mut reply = Vec::new();
        stream.take(MAX_REPLY_BYTES).read_to_end(&mut reply).ok()?;
        let reply = std::str::from_utf8(&reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).filter(|status| *status == "200")?;
        serde_json::from_str(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn line(words: &str) -> Line {
        parse(&super::super::Cli::command(), &words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn last_word_is_known_for_a_name() {
        for words in [
            "user show ",
            "user delete a",
            "user remove a",
            "token create ",
            "token list an",
            "device create lamp --user ",
            "device create lamp --user=an",
            "device create lamp --user = an",
            "device bind lamp ",
            "--json queue list ",
            "queue clear a",
            "client list ",
            "client delete ",
            "send ",
            "send --type notice an",
            "tail ",
            "link ",
            "history ",
            "--data-dir /srv user show ",
        ] {
            assert_eq!(line(words).kind, Some(Kind::User), "{words}");
        }
        for words in [
            "device show ",
            "device bind la",
            "device delete ",
            "send --device ",
            "send --device=la",
            "tail --device ",
            "token create --device ",
        ] {
            assert_eq!(line(words).kind, Some(Kind::Device), "{words}");
        }
        assert_eq!(line("client delete ana ").kind, Some(Kind::Client("ana".into())));
        for words in [
            "",
            "us",
            "user ",
            "user create ",
            "send ana ",
            "send --device 3 ",
            "send --ttl ",
            "device rename lamp ",
            "user show --js",
            "backup ",
            "config ",
        ] {
            assert_eq!(line(words).kind, None, "{words}");
        }
        let settings = line("user list --data-dir /srv --set a=b --config=c.toml x").settings;
        assert_eq!(
            settings,
            [("data-dir", "/srv"), ("set", "a=b"), ("config", "c.toml")].map(|(name, value)| (name.into(), value.into()))
        );
        assert_eq!(line("user show an").prefix, "an");
    }

    #[test]
    fn names_that_would_act_on_the_terminal_are_left_out() {
        assert!(fits("lamp", "la") && fits("客厅的灯", "客") && fits("desk lamp", ""));
        assert!(!fits("lamp", "x") && !fits("la\u{1b}[2Jmp", "la") && !fits("la\nmp", "la"));
    }
}
