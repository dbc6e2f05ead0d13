# Runs inside the container: see run.sh.
set -euo pipefail
trap 'echo "FAILED at line $LINENO"; journalctl -b --no-pager -u "qy-lty*" -o cat | tail -40' ERR
step() { printf -- '- %s\n' "$*"; }
show() { systemctl show --value -p "$1" "${2:-qy-lty.service}"; }
ask() { "$PYTHON" /given/requests.py once "$@"; }
# Nothing that comes in has any of these words.
none() { if grep -iE "$@"; then return 1; fi; }
# Waits until a command succeeds, or fails after a while.
wait_for() {
    local tries
    for tries in $(seq 1 150); do "$@" && return; sleep 0.2; done
    echo "waited in vain: $*"
    return 1
}
# It is active again, as another process than $1.
another() {
    local now
    now=$(systemctl show -p ActiveState -p MainPID qy-lty.service) # both at the same moment
    [[ "$now" == *ActiveState=active* && "$now" =~ MainPID=([1-9][0-9]*) && "${BASH_REMATCH[1]}" != "$1" ]]
}

install -m 755 /given/qy-lty /usr/bin/qy-lty
install -m 644 /given/units/qy-lty.{service,socket} /etc/systemd/system/
install -Dm 644 /given/units/config.toml /etc/qy-lty/config.toml
mkdir -p /etc/systemd/system/qy-lty.service.d
printf '[Service]\nWatchdogSec=4s\n' >/etc/systemd/system/qy-lty.service.d/short.conf
rm -rf /var/lib/qy-lty /var/lib/private/qy-lty
systemctl daemon-reload

step "the units have no faults, and their exposure is at most 1.2"
systemd-analyze verify qy-lty.service qy-lty.socket 2>&1 | none qy-lty
systemd-analyze security qy-lty.service --no-pager | tail -1
systemd-analyze security qy-lty.service --no-pager --threshold=12 >/dev/null

step "start: active means ready, also without any credential, as nobody in particular"
systemctl start qy-lty.service
[ "$(show ActiveState)" = active ]
ask /readyz | grep -q '^200 .*"commit":"ok","hub":"ok"'
[ "$(stat -c %U "/proc/$(show MainPID)")" != root ]
[ "$(stat -L -c %a /var/lib/qy-lty/data)" = 700 ]
wait_for eval 'show StatusText | grep -q "serving on 127.0.0.1:8000; 0 connected"'

step "the journal holds no password, and nothing that was denied"
journalctl -b --no-pager -u qy-lty -o cat | none '"password"|password  |could not|failed to|permission denied|not permitted'
journalctl -b --no-pager -u qy-lty -o cat | grep 'qy-lty user set-password admin' >/dev/null

step "the watchdog ends a process that does nothing, and another takes its place"
old=$(show MainPID)
kill -STOP "$old"
wait_for another "$old"
journalctl -b --no-pager | grep 'qy-lty.service: Watchdog timeout' >/dev/null
ask /readyz | grep -q ^200

step "nor does it end one that works"
old=$(show MainPID)
sleep 9
[ "$(show MainPID)" = "$old" ]

step "after kill -9 another takes its place"
kill -KILL "$old"
wait_for another "$old"
ask /readyz | grep -q ^200

step "reload keeps the process, and takes up what the file says, unless it is wrong"
old=$(show MainPID)
stranger='{"username":"stranger","password":"a-stranger"}'
ask /api/auth/register "$stranger" | grep ^403 >/dev/null
printf '[auth]\nregistration = "open"\n' >>/etc/qy-lty/config.toml
systemctl reload qy-lty.service
wait_for eval 'ask /api/auth/register "$stranger" | grep ^201 >/dev/null'
echo nonsense >>/etc/qy-lty/config.toml
systemctl reload qy-lty.service
wait_for eval '[ "$(show ActiveState)" = active ]'
[ "$(show MainPID)" = "$old" ]
ask /readyz | grep ^200 >/dev/null
install -m 644 /given/units/config.toml /etc/qy-lty/config.toml

step "stop is in order"
systemctl stop qy-lty.service
[ "$(show ActiveState) $(show Result) $(show ExecMainStatus)" = "inactive success 0" ]

step "a credential sets the first administrator's password"
rm -rf /var/lib/private/qy-lty/data
install -d -m 700 /etc/qy-lty/credentials
(umask 077 && echo a-given-password >/etc/qy-lty/credentials/admin-password)
systemctl start qy-lty.service
ask /api/auth/login '{"username":"admin","password":"a-given-password"}' | grep -q '^200 .*"token":"qlt_'

step "a certificate comes as a credential"
systemctl stop qy-lty.service
printf '[tls]\nself_signed = true\n' >>/etc/qy-lty/config.toml
systemctl restart qy-lty.service
(umask 077 && cp /var/lib/qy-lty/data/tls/{cert,key}.pem /etc/qy-lty/credentials)
sed 's/^# \(\[tls\]\|cert = \|key = \)/\1/' /given/units/config.toml >/etc/qy-lty/config.toml
systemctl restart qy-lty.service
journalctl -b --no-pager -u qy-lty -o cat | grep 'TLS certificate.*self_signed=false' >/dev/null
install -m 644 /given/units/config.toml /etc/qy-lty/config.toml

step "what it can't start with never counts as active"
systemctl stop qy-lty.service
printf '[tls]\ncert = "/nowhere"\nkey = "/nowhere"\n' >>/etc/qy-lty/config.toml
if systemctl start qy-lty.service 2>/dev/null; then false; fi
[ "$(show ActiveState)" != active ]
install -m 644 /given/units/config.toml /etc/qy-lty/config.toml
wait_for eval '[ "$(show ActiveState)" = active ]' # tried again by itself
systemctl stop qy-lty.service

step "with the socket the first connection starts it, and none is refused across restarts"
systemctl start qy-lty.socket
[ "$(show ActiveState)" = inactive ]
ask /readyz | grep -q ^200
[ "$(show ActiveState)" = active ]
journalctl -b --no-pager -u qy-lty -o cat | grep "listening on systemd's socket" >/dev/null
"$PYTHON" /given/requests.py until /tmp/enough &
requests=$!
for _ in 1 2 3; do sleep 0.5; systemctl restart qy-lty.service; done
kill -KILL "$(show MainPID)" # a connection that this process has accepted is lost, but none is refused
sleep 4
touch /tmp/enough
wait "$requests" || status=$?
[ "${status:-0}" = 0 ]

step "a connection made while it can't start waits until it can"
printf '[tls]\ncert = "/nowhere"\nkey = "/nowhere"\n' >>/etc/qy-lty/config.toml
if systemctl restart qy-lty.service 2>/dev/null; then false; fi
ask /readyz >/tmp/waiting &
waiting=$!
sleep 5
install -m 644 /given/units/config.toml /etc/qy-lty/config.toml
wait "$waiting"
grep ^200 /tmp/waiting >/dev/null

step "another address, and a socket that only redirects"
mkdir -p /etc/systemd/system/qy-lty.socket.d
printf '[Socket]\nListenStream=\nListenStream=443\n' >/etc/systemd/system/qy-lty.socket.d/address.conf
cat >/etc/systemd/system/qy-lty-redirect.socket <<'UNIT'
[Socket]
ListenStream=127.0.0.1:8000
FileDescriptorName=redirect
Service=qy-lty.service
UNIT
printf '[tls]\nself_signed = true\n' >>/etc/qy-lty/config.toml
systemctl daemon-reload
systemctl stop qy-lty.socket qy-lty.service # both at once: a socket that is left would start the service again
systemctl start qy-lty.socket qy-lty-redirect.socket qy-lty.service
ask /readyz | grep ^308 >/dev/null
wait_for eval 'show StatusText | grep -q "serving on \[::\]:443"'
systemctl stop qy-lty.service qy-lty.socket qy-lty-redirect.socket
echo "all passed"
