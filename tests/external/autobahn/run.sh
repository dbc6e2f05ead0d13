#!/usr/bin/env bash
# run.sh BINARY WSTEST: the Autobahn suite's cases but compression (12, 13) against BINARY, built with `--features echo`.
# Ends with the number of cases and fails when one of them failed.
set -euo pipefail
binary=$1 wstest=$2
dir=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
# The suite sends up to 16 MB and thousands of frames on one connection.
cat >"$dir/config.toml" <<T
[server]
listen = "127.0.0.1:0"
data_dir = "$dir/data"
[limits]
max_frame_bytes = 0
messages_per_minute = 0
frames_per_minute = 0
T
QY_LTY_ADMIN_PASSWORD=autobahn-password "$binary" serve --config "$dir/config.toml" >"$dir/log" 2>&1 &
pid=$!
for _ in $(seq 100); do
    address=$(sed -n 's/.*serving address=\([^ ]*\).*/\1/p' "$dir/log")
    [ -n "$address" ] && break
    sleep 0.1
done
[ -n "$address" ] || { cat "$dir/log"; exit 1; }
cat >"$dir/spec.json" <<J
{"outdir": "$dir/report", "servers": [{"agent": "qy-lty", "url": "ws://$address/ws/echo"}],
 "cases": ["*"], "exclude-cases": ["12.*", "13.*"], "exclude-agent-cases": {}}
J
"$wstest" -m fuzzingclient -s "$dir/spec.json" >"$dir/out" 2>&1 || { tail -20 "$dir/out"; exit 1; }
python3 - "$dir/report/index.json" <<'P'
import json, sys
cases = json.load(open(sys.argv[1]))["qy-lty"]
good = ("OK", "NON-STRICT", "INFORMATIONAL")
bad = {n: c for n, c in cases.items() if c["behavior"] not in good or c["behaviorClose"] not in ("OK", "INFORMATIONAL")}
for name, case in sorted(bad.items()):
    print(name, case["behavior"], case["behaviorClose"])
soft = sum(c["behavior"] == "NON-STRICT" for c in cases.values())
print(f"Autobahn: {len(cases)} cases, {len(bad)} failed, {soft} non-strict")
sys.exit(bool(bad) or len(cases) != 301)
P
