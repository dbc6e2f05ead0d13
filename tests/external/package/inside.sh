# The walk itself; see run.sh. Under systemd the units do what the server needs; elsewhere it is started by hand.
set -euo pipefail
given=${1:-/given}
work=$(mktemp -d)
systemd() { [ -d /run/systemd/system ]; }
console() { (cd "$work" && qy-lty "$@"); }
failed() {
    echo "FAILED at line $1"
    if systemd; then journalctl -b --no-pager -u "qy-lty*" -o cat | tail -40; else cat "$work/log"; fi
}
trap 'failed $LINENO' ERR
step() { printf -- '- %s\n' "$*"; }
install_it() {
    DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold "$given/${1:-qy-lty.deb}" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; false; }
}
answers() { "$PYTHON" "$given/receive.py" ready 127.0.0.1 8000 2>/dev/null; }
up() {
    for _ in $(seq 1 100); do answers && return; sleep 0.2; done
    echo "it does not answer"
    return 1
}
start() {
    if systemd; then
        systemctl start qy-lty.socket qy-lty.service
    else
        mkdir -p -m 700 /var/lib/qy-lty
        qy-lty serve --config /etc/qy-lty/config.toml >>"$work/log" 2>&1 &
        server=$!
    fi
    up
}
stop() {
    if systemd; then
        systemctl stop qy-lty.socket qy-lty.service
    else
        kill "$server"
        wait "$server"
    fi
}
# Whatever bears our name, where packages and services leave things.
ours() { find /etc /usr /var /run -xdev -name '*qy-lty*' -not -path '*/doc/*' 2>/dev/null | sort; }
purge() {
    systemd || { kill "$server" && wait "$server"; }
    dpkg --purge qy-lty >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; false; }
    ours >"$work/after"
    diff "$work/before" "$work/after"
    [ ! -e /usr/share/doc/qy-lty ]
}

ours >"$work/before"
step "install: it is enabled and serves"
install_it
if systemd; then
    systemctl is-active qy-lty.socket qy-lty.service >/dev/null
    systemctl is-enabled qy-lty.socket qy-lty.service >/dev/null
    up
else
    start
fi
[ "$(stat -c %a /etc/qy-lty/credentials)" = 700 ]
qy-lty --version

step "the first administrator gets a password; user create, token create, send"
echo "a password of mine" | console user set-password admin
echo "a password of hers" | console user create ana
token=$(console token create ana)
[[ "$token" == qlt_* ]]
console send ana '{"text":"kept over a purge"}' --type notice

step "upgrade: another process serves, with the settings that were changed"
echo "# changed here" >>/etc/qy-lty/config.toml
if systemd; then
    old=$(systemctl show --value -p MainPID qy-lty.service)
    install_it
    systemctl is-active qy-lty.socket qy-lty.service >/dev/null
    [ "$(systemctl show --value -p MainPID qy-lty.service)" != "$old" ]
    up
else
    install_it
fi
grep "# changed here" /etc/qy-lty/config.toml >/dev/null

step "backup, while it serves"
console backup "$work/backup"

step "purge: nothing is left"
purge

step "the data that 0.1.0 has left: this version migrates it, after a backup, and serves it"
mkdir -p -m 700 /var/lib/qy-lty
tar -xzf "$given/data-0.1.tar.gz" -C /var/lib/qy-lty --no-same-owner
install_it
if systemd; then up; else start; fi
[ "$(find /var/lib/qy-lty/data/backups/ -name 'layout-*.backup' | wc -l)" = 1 ]
console user list | grep -w ana >/dev/null
console queue list --json | grep '"messages":' >/dev/null
console check
purge

if [ -e "$given/qy-lty-0.1.deb" ]; then
    step "upgrade over 0.1.0, while it serves: what was sent then arrives now"
    install_it qy-lty-0.1.deb
    if systemd; then up; else start; fi
    qy-lty --version | grep " 0.1.0"
    echo "a password of hers" | console user add ana
    earlier=$(console token create ana)
    console send ana '{"text":"sent by 0.1.0"}' --type notice
    echo "# changed for 0.1.0" >>/etc/qy-lty/config.toml
    systemd || stop
    install_it
    if systemd; then up; else start; fi
    qy-lty --version | grep " $(dpkg-deb --field "$given/qy-lty.deb" Version | sed 's/-.*//')"
    grep "# changed for 0.1.0" /etc/qy-lty/config.toml >/dev/null
    [ "$(find /var/lib/qy-lty/data/backups/ -name 'layout-*.backup' | wc -l)" = 1 ]
    "$PYTHON" "$given/receive.py" message 127.0.0.1 8000 "$earlier" | tee "$work/message"
    grep '"type":"notice"' "$work/message" | grep "sent by 0.1.0" >/dev/null
    purge
fi

step "install again, restore"
install_it
if systemd; then
    systemctl stop qy-lty.socket qy-lty.service
    find /var/lib/qy-lty/data -mindepth 1 -delete
fi
console restore "$work/backup"

step "the commands work on the directory itself, and leave it to its owner"
stopped=0
said=$(console status --json) || stopped=$?
[ "$stopped" = 3 ]
grep '"running":false' <<<"$said" >/dev/null
console check
console compact
console queue list ana
if systemd; then
    owner=$(stat -c %u /var/lib/qy-lty/data/)
    [ "$owner" != 0 ] && [ -z "$(find /var/lib/qy-lty/data/ ! -uid "$owner")" ]
fi
start

step "the message that waited arrives"
"$PYTHON" "$given/receive.py" message 127.0.0.1 8000 "$token" | tee "$work/message"
grep '"type":"notice"' "$work/message" | grep "kept over a purge" >/dev/null

step "purge again: nothing is left"
purge
echo "all passed"
