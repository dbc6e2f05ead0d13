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
for file in bin/qy-lty lib/systemd/system/qy-lty.{service,socket} share/doc/qy-lty/{README.md,README.zh-CN.md,LICENSE-MIT,LICENSE-APACHE} \
    share/doc/qy-lty/{THIRD-PARTY-NOTICES,docs/operations.md,docs/zh/operations.md,SECURITY.md} share/bash-completion/completions/qy-lty share/man/man1/qy-lty.1; do
    [ -s "$prefix/$file" ] || { echo "$file is missing"; exit 1; }
done
grep -q '^sled ' "$prefix/share/doc/qy-lty/THIRD-PARTY-NOTICES"

step "the units name the program where a tarball in /usr/local has it"
grep -q '^ExecStart=/usr/local/bin/qy-lty ' "$prefix/lib/systemd/system/qy-lty.service"
! grep -rq '/usr/bin/qy-lty' "$prefix/lib/systemd/system"

step "the version is the tarball's"
[[ "$(basename "$tarball")" == "qy-lty-$("$prefix/bin/qy-lty" --version | cut -d' ' -f2)-"* ]]

step "it starts, serves and stops in order"
mkdir -m 700 "$prefix/data"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
QY_LTY_ADMIN_PASSWORD=tarball-password "$prefix/bin/qy-lty" serve --listen "127.0.0.1:$port" --data-dir "$prefix/data" >"$prefix/log" 2>&1 &
server=$!
python3 - "http://127.0.0.1:$port" <<'P'
import json, sys, time, urllib.request
base = sys.argv[1]
for _ in range(100):
    try:
        urllib.request.urlopen(base + "/readyz", timeout=10)
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("no answer")
body = json.dumps({"username": "admin", "password": "tarball-password"}).encode()
request = urllib.request.Request(base + "/api/auth/login", body, {"Content-Type": "application/json"})
assert json.load(urllib.request.urlopen(request, timeout=10))["token"].startswith("qlt_")
P
"$prefix/bin/qy-lty" --data-dir "$prefix/data" status >/dev/null
kill "$server"
wait "$server"
server=
echo "all passed"
