#!/usr/bin/env bash
# Starts a qy-lty binary on a free port with an empty data directory, creates the fixtures, replays the transcripts and stops it.
# usage: run.sh BINARY [OPTION of replay.py]…; PYTHON names a Python with the packages of requirements.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); python=${PYTHON:-python3}; binary=$1; shift
dir=$(mktemp -d); chmod 700 "$dir"; mkdir -m 700 "$dir/data"
port=$("$python" -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
cat >"$dir/config.toml" <<EOF
[server]
listen = "127.0.0.1:$port"
data_dir = "$dir/data"
[messages]
cross_user = true
[limits]
user_messages_per_minute = 0
connects_per_minute = 0
connections_per_user = 0
connections_per_address = 0
logins_per_minute = 0
refusals_per_minute = 0
EOF
QY_LTY_ADMIN_PASSWORD=correct-horse-battery "$binary" serve --config "$dir/config.toml" >"$dir/log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 100); do
  "$python" - "$port" <<'P' && break || sleep 0.1
import sys, urllib.request
try: sys.exit(urllib.request.urlopen(f'http://127.0.0.1:{sys.argv[1]}/healthz', timeout=1).status != 200)
except OSError: sys.exit(1)
P
  kill -0 $pid 2>/dev/null || { cat "$dir/log"; echo "the server ended"; exit 1; }
done
"$python" "$here/fixtures.py" "http://127.0.0.1:$port" correct-horse-battery >"$dir/fixtures.json"
"$python" "$here/replay.py" "http://127.0.0.1:$port" --fixtures "$dir/fixtures.json" "$@"
