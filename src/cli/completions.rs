//! `qy-lty completions`: the scripts that `clap_complete` generates, with functions that ask this program for the names of users, devices
//! and clients.

use clap::Command;
use clap_complete::Shell;

/// The part of the bash script that completes names, and else leaves it to the generated function.
const BASH: &str = r#"
_qy_lty_names() {
    local name
    COMPREPLY=()
    while IFS= read -r name; do
        COMPREPLY+=("$(printf '%q' "$name")")
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        _qy__lty "$@"
    fi
}
complete -F _qy_lty_names -o bashdefault -o default qy-lty"#;

/// The part of the zsh script that completes names.
const ZSH: &str = r#"
_qy_lty_names() {
    local -a names
    names=(${(f)"$("${qy_lty_words[1]}" __complete -- "${(@)qy_lty_words[2,qy_lty_current]}" 2>/dev/null)"})
    if (( $#names )); then
        compadd -a names
    else
        _default
    fi
}
"#;

/// The beginning of the main function of the zsh script: the functions below it change the words.
const ZSH_WORDS: &str = "    local -a qy_lty_words=(\"${words[@]}\")\n    local qy_lty_current=$CURRENT\n";

/// The part of the fish script that completes names.
const FISH: &str = r#"
function __qy_lty_names
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] __complete -- $words[2..] 2>/dev/null
end
complete -c qy-lty -n '__qy_lty_names | string length -q' -f -a '(__qy_lty_names)'"#;

/// Returns the completion script of a shell.
///
/// # Errors
/// If the generated script is not UTF-8.
pub(super) fn script(shell: Shell, program: &mut Command) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, program, "qy-lty", &mut script);
    // The generator names states after the program but does not expect its hyphen: bash would complete the first word only.
    let script = String::from_utf8(script)?.replace("qy__subcmd__lty", "qy__lty");
    let script = script.trim_end();
    Ok(match shell {
        Shell::Bash => format!("{script}\n{BASH}"),
        Shell::Zsh => zsh(script),
        Shell::Fish => format!("{}{FISH}", fish(script)),
        _ => script.to_owned(),
    })
}

/// Has the arguments for names completed by [`ZSH`].
fn zsh(script: &str) -> String {
    let mut whole = String::new();
    for line in script.lines() {
        let spec = line.trim_start();
        let is_argument =
            ["':user -- ", "'::user -- ", "':device -- ", "'::device -- ", "'*::words -- ", "':name -- Name of the client"]
                .iter()
                .any(|start| spec.starts_with(start));
        // Behind the options that it excludes, if any.
        let is_option = ["--user=[", "--device=["].iter().any(|option| spec.contains(option));
        let is_name = is_argument || is_option;
        if is_name {
            whole += &line.replace(":_default'", ":_qy_lty_names'")
        } else {
            whole += line
        }
        whole.push('\n');
        if line == "_qy-lty() {" {
            whole += ZSH_WORDS;
        }
    }
    // Before the first use: the file is the body of the function when it is loaded the first time.
    match whole.split_once("_qy-lty() {") {
        Some((head, rest)) => format!("{head}{}\n_qy-lty() {{{}", ZSH.trim_start(), rest.trim_end()),
        None => whole,
    }
}

/// Has the options for names completed by [`FISH`].
fn fish(script: &str) -> String {
    let mut whole = String::new();
    for line in script.lines() {
        whole += line;
        if line.ends_with(" -r") && [" -l user ", " -l device "].iter().any(|option| line.contains(option)) {
            whole += " -f -a '(__qy_lty_names)'";
        }
        whole.push('\n');
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn of(shell: Shell) -> String {
        script(shell, &mut super::super::Cli::command()).unwrap()
    }

    #[test]
    fn scripts_ask_for_names_where_an_argument_takes_one() {
        let bash = of(Shell::Bash);
        assert!(bash.ends_with("complete -F _qy_lty_names -o bashdefault -o default qy-lty"));
        let zsh = of(Shell::Zsh);
        let named = |start: &str| {
            let mut lines = zsh.lines().filter(|line| line.contains(start)).peekable();
            assert!(lines.peek().is_some(), "{start}: {zsh}");
            assert!(lines.all(|line| line.contains(":_qy_lty_names'")), "{start}");
        };
        for start in ["':user -- ", "'::user -- ", "':device -- ", "'*::words -- ", "--user=[", "--device=["] {
            named(start);
        }
        assert!(zsh.contains("_qy-lty() {\n    local -a qy_lty_words") && zsh.starts_with("#compdef qy-lty"));
        assert!(zsh.find("_qy_lty_names() {").unwrap() < zsh.find("_qy-lty() {").unwrap());
        let fish = of(Shell::Fish);
        let options: Vec<_> = fish.lines().filter(|line| line.contains(" -l user ") || line.contains(" -l device ")).collect();
        assert!(options.len() > 4 && options.iter().all(|line| line.ends_with("-f -a '(__qy_lty_names)'")), "{options:#?}");
    }

    #[test]
    fn hidden_command_is_in_no_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = of(shell);
            let asks = script.matches("__complete --").count();
            assert_eq!(script.matches("__complete").count(), asks, "{shell}");
        }
    }
}
