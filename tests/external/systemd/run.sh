#!/usr/bin/env bash
# The units under a real systemd: start, watchdog, crash, reload, stop, and the socket across restarts.
# usage: run.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
given=$(mktemp -d)
trap 'rm -rf "$given"' EXIT
cp "$binary" "$given/qy-lty"
cp -r "$here/../../../systemd" "$given/units"
cp "$here/inside.sh" "$here/requests.py" "$given"
status=0
"$here/boot.sh" "$given" inside.sh || status=$?
[ "$status" = 77 ] || exit "$status"
