# The tools of .ci/run: finds each, or installs it. Sourced by .ci/run.
#
# One installation at a time: each holds the lock `target/ci/lock`, which no program that it starts may keep (9>&-).
#
# `grep … >/dev/null` instead of `grep -q`, which would end the command before it under pipefail.

# Reports that `current` or a part of it did not run, and the reason.
skip() {
    printf -- '-- SKIPPED: %s\n' "$*"
    printf '%s: %s\n' "$current" "$*" >>"$base/skipped"
}

# Without a toolchain of the pinned name, takes an installed one of the same version, so that nothing is downloaded.
use_pinned_toolchain() {
    local pinned toolchain
    command -v rustup >/dev/null || return 0
    pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if rustup toolchain list | grep "^$pinned-" >/dev/null; then return; fi
    for toolchain in $(rustup toolchain list | sed 's/ .*//'); do
        if rustup run "$toolchain" rustc --version | grep -F "rustc $pinned " >/dev/null; then
            export RUSTUP_TOOLCHAIN=$toolchain
            return
        fi
    done
}

# Installs Debian packages whose command or file is missing. usage: need_debian COMMAND|FILE PACKAGE [COMMAND|FILE PACKAGE]…
need_debian() (
    missing=()
    flock 9
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || [ -e "$1" ] || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt-get update -qq 9>&-
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 9>&-
) 9>target/ci/lock

# Installs a cargo command where that version is missing. Without optimisation: compiling takes longer than all the runs.
# usage: need_cargo COMMAND VERSION [OPTION]…
need_cargo() (
    command=$1 version=$2
    shift 2
    flock 9
    if cargo install --list | grep -x "$command v$version:" >/dev/null; then exit; fi
    # Shared, so that what two tools depend on is compiled once.
    CARGO_TARGET_DIR=$scratch/tools cargo install --quiet --locked --debug "$command@$version" "$@" 9>&-
) 9>target/ci/lock

# Installs Python packages into an environment of the project. usage: need_python PACKAGE==VERSION… | -r FILE
venv=$PWD/target/ci/venv
need_python() {
    if ! [ -x "$venv/bin/pip" ]; then make_venv; fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
}
make_venv() {
    python3 -m venv "$venv" 2>/dev/null || { need_debian - python3-venv; python3 -m venv "$venv"; }
}

# The path of a Python 2.7, or nothing.
python2() {
    local found
    found=$(ls "$HOME"/.pyenv/versions/2.7*/bin/python2.7 2>/dev/null | tail -1 || true)
    found=${found:-$(command -v python2.7 || true)}
    if [ -n "$found" ] && "$found" --version >/dev/null 2>&1; then echo "$found"; fi
}

# Prints a command's output only where it fails.
quietly() { "$@" >"$scratch/log" 2>&1 || { tail -40 "$scratch/log"; return 1; }; }
