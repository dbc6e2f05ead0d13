#!/usr/bin/env bash
# Runs a command in a network of its own, whose loopback loses one segment of a hundred and duplicates another one.
# usage: lossy.sh COMMAND [ARGUMENT]…
#
# By netem where the kernel has it, else by nftables. Needs root. Where neither can be had, it prints SKIPPED: and the reason, and does not run
# the command.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }

if [ "${QY_LTY_LOSSY:-}" != inside ]; then
    if ! unshare --net true 2>/dev/null; then
        echo 'SKIPPED: a network of its own needs root'
        exit
    fi
    QY_LTY_LOSSY=inside exec unshare --net "$0" "$@"
fi

by_netem() { tc qdisc add dev lo root netem loss 1% duplicate 1% 2>/dev/null; }

# The copy of a segment is sent on the same device again; marked, so that it is not copied once more.
by_nftables() {
    nft -f - 2>/dev/null <<'RULES'
table ip lossy {
    chain input {
        type filter hook input priority 0;
        numgen random mod 100 0 drop
    }
    chain output {
        type filter hook output priority 0;
        meta mark 0 numgen random mod 100 0 meta mark set 1 dup to 127.0.0.1 device "lo"
    }
}
RULES
}

ip link set lo up
if by_netem; then
    echo 'segments are lost and duplicated by netem'
elif by_nftables; then
    echo 'segments are lost and duplicated by nftables'
else
    echo 'SKIPPED: this kernel has neither netem nor the rules of nftables that lose segments'
    exit
fi
exec "$@"
