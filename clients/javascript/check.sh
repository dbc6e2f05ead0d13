#!/usr/bin/env bash
# Checks the JavaScript client against a server. usage: check.sh BINARY
# Needs Node 20 or later with npm, and Chromium (in PATH, or named by CHROMIUM).
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,3p' "$0" >&2; exit 2; }
QY_LTY=$(realpath "$1")
export QY_LTY
cd "$(dirname "$0")"

npm ci --silent --no-audit --no-fund
npx eslint .
npx tsc -p .
node scripts/api_types.js --check
node scripts/build.js
node scripts/size.js
node --test --test-concurrency=2 test/*.test.js
