#!/usr/bin/env bash
# Checks the package against a server's binary, with both ends of the range of websockets: the oldest in the oldest Python that is
# installed, the newest in python3. Then builds it, and installs the result into an empty environment.
#
# usage: check.sh BINARY [DIRECTORY]; environments are kept in the directory (.venvs) for the next time.
set -euo pipefail
QY_LTY=$(realpath "$1")
export QY_LTY
cd "$(dirname "$0")"
venvs=${2:-$PWD/.venvs}
tools=(pytest pytest-timeout ruff mypy build hatchling)

step() { printf '== %s (%s s)\n' "$*" "$SECONDS"; }

# The oldest of the supported Pythons that runs here.
oldest_python() {
    local candidate
    for candidate in python3.10 "$HOME"/.pyenv/versions/3.10.*/bin/python python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo 'no Python from 3.10 on' >&2
    return 1
}

# usage: environment NAME PYTHON PACKAGE…
environment() {
    local name=$1 python=$2
    shift 2
    [ -x "$venvs/$name/bin/pip" ] || "$python" -m venv "$venvs/$name"
    "$venvs/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
}

step environments
environment newest python3 --upgrade "${tools[@]}" websockets
environment oldest "$(oldest_python)" pytest pytest-timeout websockets==13.0
newest=$venvs/newest/bin/python oldest=$venvs/oldest/bin/python

step ruff, mypy
"$newest" -m ruff check .
"$newest" -m mypy src tests examples scripts
grep -qx "version = \"$(sed -n 's/^version = "\(.*\)"/\1/p' ../../Cargo.toml | head -n 1)\"" pyproject.toml || {
    echo 'the version is not that of Cargo.toml'
    exit 1
}

# From the sources, each in a process of its own: most of the time is waiting.
step tests
export PYTHONPATH=$PWD/src PYTHONDONTWRITEBYTECODE=1
status=0
log=$(mktemp)
"$oldest" -m pytest -q -p no:cacheprovider >"$log" 2>&1 &
other=$!
"$newest" -m pytest -q -p no:cacheprovider || status=$?
wait "$other" || status=$?
"$oldest" -c 'import platform, importlib.metadata as m; print("Python", platform.python_version(), "websockets", m.version("websockets"))'
cat "$log"
rm -f "$log"
[ "$status" = 0 ]
unset PYTHONPATH

step build
rm -rf dist
"$newest" -m build --no-isolation --outdir dist . >/dev/null
ls -l dist

step install into an empty environment
rm -rf "$venvs/empty"
python3 -m venv "$venvs/empty"
"$venvs/empty/bin/pip" install --quiet --disable-pip-version-check dist/*.whl
(cd / && "$venvs/empty/bin/python" -I "$OLDPWD/tests/installed.py")

# The archive of the sources makes the same package.
"$venvs/empty/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.tar.gz
(cd / && "$venvs/empty/bin/python" -I "$OLDPWD/tests/installed.py")
step done
