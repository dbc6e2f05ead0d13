#!/usr/bin/env bash
# Boots a copy of this machine in a container and runs a script in it, as root. Nothing that it does outlives the container.
# usage: boot.sh FILES SCRIPT [ARGUMENT…]; the directory FILES is seen inside as /given, and SCRIPT is in it.
# The exit status is the script's; 77 where no container can be booted.
set -euo pipefail
files=$(realpath "$1") script=$2
shift 2

cannot() { printf 'SKIPPED: %s\n' "$*"; exit 77; }
[ "$(id -u)" = 0 ] || cannot "containers need root"
command -v systemd-nspawn >/dev/null || cannot "systemd-nspawn is not installed (package systemd-container)"

place=$(mktemp -d)
clean() {
    umount -l "$place/root" 2>/dev/null || true
    umount -l "$place" 2>/dev/null || true
    rmdir "$place"
}
trap clean EXIT
mount -t tmpfs -o size=2g tmpfs "$place" || cannot "nothing can be mounted here"
mkdir "$place"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root" || cannot "no overlay can be mounted here"
root=$place/root

# This machine's own services are not wanted, nor its identity.
rm -rf "$root"/etc/systemd/system "$root/walk" "$root/usr/sbin/policy-rc.d" 
mkdir -p "$root"/etc/systemd/system "$root/walk"
: >"$root/etc/machine-id"
cat >"$root/etc/systemd/system/walk.target" <<'UNIT'
[Unit]
Requires=basic.target
Wants=walk.service
UNIT
cat >"$root/etc/systemd/system/walk.service" <<UNIT
[Unit]
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
Environment=PYTHON=$(python3 -c 'import sys; print(sys.executable)') LANG=C
ExecStart=/bin/bash -c '/bin/bash /given/$script $*; echo \$? >/walk/status'
StandardOutput=append:/walk/log
StandardError=inherit
ExecStopPost=-/bin/sh -c "systemctl --no-block poweroff 2>/dev/null"
UNIT

timeout 300 systemd-nspawn --quiet --directory="$root" --machine="qy-lty-test-$$" --register=no --keep-unit --private-network \
    --bind-ro="$files:/given" --boot -- --unit=walk.target >"$place/console" 2>&1 || true
cat "$root/walk/log" 2>/dev/null || { tail -20 "$place/console"; cannot "the container did not boot"; }
exit "$(cat "$root/walk/status" 2>/dev/null || echo 1)"
