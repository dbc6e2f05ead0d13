//! The parts of the help texts that stand below the options: examples, and the environment.

/// The heading of the options that every command has.
pub(super) const GLOBAL: &str = "Global options";

/// Joins lines below a heading, formatted as `clap` formats its own.
macro_rules! section {
    ($heading:literal, $($line:literal),+ $(,)?) => {
        concat!("\x1b[1m\x1b[4m", $heading, ":\x1b[0m", $("\n  ", $line),+)
    };
}

/// Examples for the program.
pub(super) const EXAMPLES: &str = section!(
    "Examples",
    "qy-lty serve --listen 0.0.0.0:8000",
    "qy-lty tail",
    "qy-lty send admin hello",
    "qy-lty user create ana",
    "qy-lty token create ana --label laptop",
    "qy-lty config default > config.toml",
);

/// Examples for the program, the environment and the files.
pub(super) const EXAMPLES_AND_ENVIRONMENT: &str = concat!(
    section!(
        "Examples",
        "qy-lty serve --listen 0.0.0.0:8000",
        "qy-lty tail",
        "qy-lty send admin hello",
        "qy-lty user create ana",
        "qy-lty token create ana --label laptop",
        "qy-lty backup - | ssh host 'cat > qy-lty.backup'",
        "qy-lty config default > config.toml",
    ),
    "\n\n",
    section!(
        "Environment",
        "QY_LTY_CONFIG",
        "    Configuration file, where --config is not given",
        "QY_LTY__SECTION__KEY",
        "    Setting, such as QY_LTY__LIMITS__PING_SECONDS=20",
        "QY_LTY_ADMIN_PASSWORD",
        "    Password of the first administrator",
        "QY_LTY_BENCH_TOKEN",
        "    Token of an administrator, for qy-lty bench URL",
        "RUST_LOG",
        "    Log filter, overrides log.filter",
        "NO_COLOR, CLICOLOR=0",
        "    Switch colours off",
    ),
    "\n\n",
    section!(
        "Exit status",
        "0    The command has done its work",
        "1    It has failed; standard error has the reason",
        "2    The arguments can't be parsed",
        "3    No server is running: of status, and of commands that",
        "     need one",
        "130  A signal has ended it",
    ),
    "\n\n",
    section!(
        "Files",
        "/etc/qy-lty/config.toml",
        "    Configuration of the packaged service; commands use",
        "    it where no file is named and no data is found",
    ),
);

/// Examples for `user`.
pub(super) const USER: &str = section!(
    "Examples",
    "qy-lty user create ana --admin",
    "echo \"$PASSWORD\" | qy-lty user create bob",
    "qy-lty user set-password id:7",
    "qy-lty user show ana",
    "qy-lty user delete bob --yes",
);

/// Examples for `token`.
pub(super) const TOKEN: &str = section!(
    "Examples",
    "qy-lty token create ana --label laptop --expires 30d",
    "qy-lty token create admin --kind service --scope send --label home",
    "qy-lty token create --device 3",
    "qy-lty token delete 12",
);

/// Examples for `device`.
pub(super) const DEVICE: &str = section!(
    "Examples",
    "qy-lty device create lamp --user ana --serial SN-0001 --primary",
    "qy-lty device pair 7KQ2MX ana --name lamp",
    "qy-lty device show lamp",
    "qy-lty device rename 3 'desk lamp'",
    "qy-lty device primary lamp",
    "qy-lty device bind 3 bob",
    "qy-lty device list --user ana --json",
);

/// Examples for `send`.
pub(super) const SEND: &str = section!(
    "Examples",
    "qy-lty send ana hello",
    "qy-lty send ana '{\"text\":\"hello\"}' --type notice",
    "qy-lty send --device lamp '{\"on\":true}' --ttl 1h",
    "qy-lty send --all 'maintenance at noon' --live",
    "uptime | qy-lty send admin -",
);

/// Examples for `queue`.
pub(super) const QUEUE: &str = section!(
    "Examples",
    "qy-lty queue list",
    "qy-lty queue list ana",
    "qy-lty queue clear --device 3",
    "qy-lty queue clear --all --yes",
);

/// Examples for `client`.
pub(super) const CLIENT: &str = section!("Examples", "qy-lty client list ana", "qy-lty client delete ana old-phone");

/// Examples for `audit`.
pub(super) const AUDIT: &str =
    section!("Examples", "qy-lty audit", "qy-lty audit --user ana --limit 10", "qy-lty audit --event login_failed --json");

/// Examples for `link`.
pub(super) const LINK: &str = section!("Examples", "qy-lty link", "qy-lty link ana", "xdg-open \"$(qy-lty link)\"");

/// Examples for `cluster`.
#[cfg(feature = "cluster")]
pub(super) const CLUSTER: &str = section!("Examples", "qy-lty cluster found", "qy-lty cluster status");

/// Examples for `tail`.
pub(super) const TAIL: &str = section!("Examples", "qy-lty tail", "qy-lty tail ana", "qy-lty tail --device 3 --json");

/// Examples for `receipt`.
pub(super) const RECEIPT: &str = section!("Examples", "qy-lty receipt 42", "qy-lty receipt 42 --json");

/// Examples for `history`.
pub(super) const HISTORY: &str =
    section!("Examples", "qy-lty history ana", "qy-lty history --device lamp --limit 5", "qy-lty history ana --since 42 --json");

/// The exit status of `status`.
pub(super) const STATUS: &str = section!("Exit status", "0  The server is running", "3  No server is running");

/// The exit status of `check`.
pub(super) const CHECK: &str = section!("Exit status", "0  Nothing is damaged", "1  There are findings, or the check has failed");

/// Examples for `backup`.
pub(super) const BACKUP: &str =
    section!("Examples", "qy-lty backup qy-lty.backup", "qy-lty backup - | ssh host 'cat > qy-lty.backup'");

/// Examples for `restore`.
pub(super) const RESTORE: &str = section!("Examples", "qy-lty restore qy-lty.backup --data-dir /srv/qy-lty");

/// Examples for `import`.
pub(super) const IMPORT: &str = section!(
    "Examples",
    "qy-lty import --dry-run dump.json",
    "qy-lty import dump.json.gz --data-dir /srv/qy-lty",
    "python manage.py dumpdata auth.user authtoken.token | qy-lty import -",
);

/// Examples for `bench`.
pub(super) const BENCH: &str = section!(
    "Examples",
    "qy-lty bench --quick",
    "qy-lty bench --json > today.json",
    "qy-lty bench --only push-queued,offline --dir /var/lib/qy-lty",
    "qy-lty bench http://127.0.0.1:8000 --data-dir /var/lib/qy-lty --yes",
    "qy-lty bench --compare yesterday.json today.json",
);

/// Examples for `config`.
pub(super) const CONFIG: &str = section!(
    "Examples",
    "qy-lty config check --config config.toml",
    "qy-lty config show --set limits.ping_seconds=20",
    "qy-lty config default > config.toml",
);

/// Examples for `completions`.
pub(super) const COMPLETIONS: &str = section!(
    "Examples",
    "qy-lty completions bash > /etc/bash_completion.d/qy-lty",
    "qy-lty completions zsh > ~/.zfunc/_qy-lty",
    "qy-lty completions fish | source",
);

/// Examples for `man`.
pub(super) const MAN: &str = section!("Examples", "qy-lty man | man -l -", "qy-lty man /usr/local/share/man/man1");
