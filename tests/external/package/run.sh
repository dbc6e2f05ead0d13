#!/usr/bin/env bash
# The package's whole life, with the message that waits through it: install, send, upgrade, back up, purge, install, restore,
# receive, purge; and once over the package of 0.1.0. In a container where one can be booted; else, as root on a machine without qy-lty, on the machine itself.
# usage: run.sh PACKAGE.deb [PACKAGE-OF-0.1.0.deb]
set -euo pipefail
package=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
given=$(mktemp -d)
trap 'rm -rf "$given"' EXIT
cp "$package" "$given/qy-lty.deb"
former=${2:-}
if [ -e "$former" ]; then cp "$former" "$given/qy-lty-0.1.deb"; else echo "SKIPPED: the upgrade from 0.1.0: there is no package of it"; fi
cp "$here/inside.sh" "$here/receive.py" "$here/../../fixtures/data-0.1.tar.gz" "$given"
status=0
"$here/../systemd/boot.sh" "$given" inside.sh || status=$?
[ "$status" = 77 ] || exit "$status"
if [ "$(id -u)" != 0 ] || ! command -v dpkg >/dev/null; then
    echo "SKIPPED: installing needs root and dpkg"
elif [ -d /run/systemd/system ] || [ -e /etc/qy-lty ] || [ -e /var/lib/qy-lty ]; then
    echo "SKIPPED: this is a machine in use"
else
    echo "without a container: on this machine, the server started by hand"
    PYTHON=$(command -v python3) bash "$here/inside.sh" "$given"
fi
