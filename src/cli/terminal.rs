//! The terminal that the program was started on.

use std::fs::File;
use std::io::{IsTerminal, stdin, stdout};

/// The name under which a process opens its controlling terminal, if it has one.
const CONTROLLING_TERMINAL: &str = "/dev/tty";
/// The variable with which systemd names the socket of a service that it supervises.
const SUPERVISED: &str = "NOTIFY_SOCKET";

/// Reports whether the program was started on a terminal, and ends with it: standard input or output is one, and the process has a
/// controlling terminal, whose end the system reports with SIGHUP. Not so a service, nor what `nohup`, or a shell with all streams
/// redirected, has put into the background.
pub(super) fn is_attached() -> bool {
    (stdin().is_terminal() || stdout().is_terminal())
        && File::open(CONTROLLING_TERMINAL).is_ok()
        && std::env::var_os(SUPERVISED).is_none()
}
