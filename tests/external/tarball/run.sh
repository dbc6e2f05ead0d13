#!/usr/bin/env bash
# Unpacks the tarball into an empty prefix, runs the binary from there and logs in. usage: run.sh TARBALL
set -euo pipefail
tarball=$(realpath "$1")
prefix=$(mktemp -d)
server=
finish() {
    local status=$?
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    if [ "$status" != 0 ] && [ -e "$prefix/log" ]; then cat "$prefix/log"; fi
    rm -rf "$prefix"
}
trap finish EXIT
step() { printf -- '- %s\n' "$*"; }

step "the checksums are right"
(cd "$(dirname "$tarball")" && sha256sum --check --quiet SHA256SUMS)

step "nothing lies outside one directory, and everything is there"
[ "$(tar tzf "$tarball" | cut -d/ -f1 | sort -u | wc -l)" = 1 ]
tar xzf "$tarball" -C "$prefix" --strip-components=1
for file in bin/qy-lty lib/systemd/system/qy-lty.{service,socket} share/doc/qy-lty/{README.md,LICENSE-MIT,LICENSE-APACHE} \
    share/doc/qy-lty/{THIRD-PARTY-NOTICES,operations.md,SECURITY.md} share/bash-completion/completions/qy-lty share/man/man1/qy-lty.1; do
    [ -s "$prefix/$file" ] || { echo "$file is missing"; exit 1; }
done
grep -q '^sled ' "$prefix/share/doc/qy-lty/THIRD-PARTY-NOTICES"

step "the version is the tarball's"
[[ "$(basename "$tarball")" == "qy-lty-$("$prefix/bin/qy-lty" --version | cut -d' ' -f2)-"* ]]

step "it starts, serves and stops in order"
mkdir -m 700 "$prefix/data"
QY_LTY_ADMIN_PASSWORD=tarball-password NO_COLOR=1 "$prefix/bin/qy-lty" serve --listen 127.0.0.1:0 --data-dir "$prefix/data" 2>"$prefix/log" &
server=$!
address=
for _ in $(seq 100); do
    address=$(sed -n 's/.*serving address=\([^ ]*\).*/\1/p' "$prefix/log")
    [ -z "$address" ] || break
    kill -0 "$server"
    sleep 0.1
done
python3 - "$address" <<'P'
import json, sys, urllib.request
base = f"http://{sys.argv[1]}"
assert urllib.request.urlopen(base + "/readyz", timeout=10).status == 200
body = json.dumps({"username": "admin", "password": "tarball-password"}).encode()
request = urllib.request.Request(base + "/api/auth/login", body, {"Content-Type": "application/json"})
assert json.load(urllib.request.urlopen(request, timeout=10))["token"].startswith("qlt_")
P
"$prefix/bin/qy-lty" --data-dir "$prefix/data" status >/dev/null
kill "$server"
wait "$server"
server=
echo "all passed"
