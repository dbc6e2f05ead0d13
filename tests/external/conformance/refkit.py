"""The steps of a recorded case: runs them against a server and compares what it answers.

A case is {"name", "group", "note", "steps": [...]}. Every step has "do" and, where something is expected, "saw":

  connect  conn, path, [headers], [subprotocols], [deflate]  -> {"open": true, ...} or {"open": false, "status": 403}
  recv     conn                                              -> list of events
  send     conn, text | binary (hex), [times]                -> nothing, or "not open"
  fragments conn, texts                                      -> as send; one message in several frames
  raw      conn, hex                                         -> as send; bytes straight to the socket
  ping     conn                                              -> "pong" | "no pong"   (WebSocket ping frame)
  fence    conn                                              -> list of events that came before the pong of a
                                                                {"type":"ping"}; shows that the connection is open
                                                                and that nothing more had been sent on it
  close    conn, [code]                                      -> {"close": code the server answered}
  http     method, path, [headers], [body | body_hex]        -> {"status", "json" | "body", "headers"}
  sleep    seconds

Events: {"json": ...} a text frame that is JSON, {"text": ...} one that is not, {"binary": hex},
{"close": code, "reason": text} (code 1006: dropped with no close frame). {"times": n, ...}
stands for n equal events in a row.

In paths, headers and sent texts <<alice.token>> stands for a fixture value. In expected values
"<ts>" is a timestamp, "<str:alice.id>" and "<int:alice.device_id>" are fixture values with their
JSON type; "<any>", "<any-str>", "<any-int>" and "<re:...>" (a regular expression for the whole
string) match any such value. {"$parts": [[text, times], ...]} is a long string.
"""
import json
import re
import time
from datetime import datetime, timezone

import requests
from websockets.exceptions import (ConnectionClosed, InvalidHandshake, InvalidMessage,
                                   InvalidStatus)
from websockets.sync.client import connect as ws_connect

TS_KEYS = {'timestamp'}
ID_KEYS = {'user_id': ('id',), 'device_id': ('device_id',), 'sender': ('username',), 'token': ('token',)}
RFC3339 = re.compile(r'^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$')
DJANGO_TS = re.compile(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00$')
KEEP_HEADERS = ('content-type', 'allow', 'www-authenticate', 'location')
NOT_OPEN = 'not open'


# ---- long strings ---------------------------------------------------------------------

def unpack(v):
    if isinstance(v, list):
        return [unpack(x) for x in v]
    if isinstance(v, dict):
        if set(v) == {'$parts'}:
            return ''.join(t * n for t, n in v['$parts'])
        return {k: unpack(x) for k, x in v.items()}
    return v


# ---- fixtures -------------------------------------------------------------------------

class Fixtures:
    """The fixture values: {"users": {"alice": {"id", "username", "password", "token", "device_id"}, ...},
    "nonexistent_user_id": n}, as fixtures.py prints them."""

    def __init__(self, data):
        self.users = data['users']
        self.extra = {'nobody.id': data.get('nonexistent_user_id', 999999)}

    def get(self, ref):
        if ref in self.extra:
            return self.extra[ref]
        name, field = ref.split('.')
        return self.users[name][field]

    def fill(self, s):
        return re.sub(r'<<([a-z]+\.[a-z_]+)>>', lambda m: str(self.get(m.group(1))), s)

    def name_value(self, key, v):
        """The placeholder for a value seen under a key that holds ids."""
        if v is None or isinstance(v, bool):
            return v
        for name, u in self.users.items():
            for field in ID_KEYS[key]:
                f = u.get(field)
                if f is not None and str(f) == str(v):
                    return f'<{"int" if isinstance(v, int) else "str"}:{name}.{field}>'
        return v


def abstract(v, fx, notes, key=None):
    """Seen value -> value with timestamps and fixture ids replaced."""
    if isinstance(v, dict):
        return {k: abstract(x, fx, notes, k) for k, x in v.items()}
    if isinstance(v, list):
        return [abstract(x, fx, notes) for x in v]
    if key in TS_KEYS and isinstance(v, str) and RFC3339.match(v):
        if not DJANGO_TS.match(v):
            notes.add(f'timestamp form differs from the reference: {v}')
        try:
            age = abs((datetime.now(timezone.utc) - datetime.fromisoformat(v.replace('Z', '+00:00'))).total_seconds())
            if age > 120:
                notes.add(f'timestamp is {age:.0f} s away from this machine\'s clock: {v}')
        except ValueError:
            notes.add(f'timestamp cannot be parsed: {v}')
        return '<ts>'
    if key in ID_KEYS:
        return fx.name_value(key, v) if not isinstance(v, (dict, list)) else v
    return v


# ---- running --------------------------------------------------------------------------

class Runner:
    def __init__(self, base_url, fx, timeout=3.0, idle=0.3, first=None):
        """timeout: seconds to wait for an expected event. idle: seconds of silence after which nothing more is
        expected; first: the same before the first event."""
        self.http_base = re.sub(r'^ws', 'http', base_url.rstrip('/'))
        self.ws_base = re.sub(r'^http', 'ws', base_url.rstrip('/'))
        self.fx, self.timeout, self.idle, self.first = fx, timeout, idle, first or idle
        self.notes = set()

    def event(self, conn, timeout):
        """Next event on a connection, or None after the timeout."""
        c = self.conns[conn]
        if c is None or conn in self.closed:
            return None
        try:
            m = c.recv(timeout=timeout)
        except TimeoutError:
            return None
        except ConnectionClosed as e:
            self.closed.add(conn)
            return {'close': e.rcvd.code if e.rcvd else 1006, 'reason': e.rcvd.reason if e.rcvd else ''}
        if isinstance(m, bytes):
            return {'binary': m.hex()}
        try:
            return {'json': abstract(json.loads(m), self.fx, self.notes)}
        except ValueError:
            return {'text': m}

    def usable(self, conn):
        return self.conns.get(conn) is not None and conn not in self.closed

    def do(self, step, expected=None):
        """Runs one step. Of `expected`, only the number of events is used: that many are waited for."""
        s = unpack({k: v for k, v in step.items() if k != 'saw'})
        return getattr(self, 'do_' + s['do'])(s, expected)

    def do_connect(self, s, _):
        conn = s['conn']
        self.conns[conn] = None
        headers = {k: self.fx.fill(v) for k, v in s.get('headers', {}).items()}
        origin = headers.pop('Origin', None)
        try:
            c = ws_connect(self.ws_base + self.fx.fill(s['path']), additional_headers=headers, origin=origin,
                           subprotocols=[self.fx.fill(p) for p in s['subprotocols']] if 'subprotocols' in s else None,
                           compression='deflate' if s.get('deflate') else None,
                           open_timeout=self.timeout + 3, close_timeout=2, ping_interval=None,
                           max_size=None, proxy=None)
        except InvalidStatus as e:
            return {'open': False, 'status': e.response.status_code}
        except InvalidMessage:
            return {'open': False, 'error': 'no HTTP response'}
        except InvalidHandshake as e:
            return {'open': False, 'error': type(e).__name__}
        except (OSError, TimeoutError) as e:
            return {'open': False, 'error': type(e).__name__}
        self.conns[conn] = c
        saw = {'open': True, 'subprotocol': c.subprotocol}
        if s.get('deflate'):
            saw['extensions'] = [e.name for e in c.protocol.extensions]
        return saw

    def do_recv(self, s, expected):
        conn, out = s['conn'], []
        if not self.usable(conn):
            return NOT_OPEN
        if isinstance(expected, list) and expected:
            while len(out) < len(expected):
                e = self.event(conn, self.timeout)
                if e is None:
                    break
                out.append(e)
        else:
            while True:
                e = self.event(conn, self.idle if out else self.first)
                if e is None:
                    break
                out.append(e)
        return out

    def sending(self, s, fn):
        if not self.usable(s['conn']):
            return NOT_OPEN
        try:
            for _ in range(s.get('times', 1)):
                fn(self.conns[s['conn']])
        except ConnectionClosed:
            pass        # the next recv reports the close
        except OSError:
            pass
        return None

    def do_send(self, s, _):
        if 'binary' in s:
            return self.sending(s, lambda c: c.send(bytes.fromhex(s['binary'])))
        text = self.fx.fill(s['text'])
        return self.sending(s, lambda c: c.send(text))

    def do_fragments(self, s, _):
        return self.sending(s, lambda c: c.send(list(s['texts'])))

    def do_raw(self, s, _):
        return self.sending(s, lambda c: c.socket.sendall(bytes.fromhex(s['hex'])))

    def do_ping(self, s, _):
        if not self.usable(s['conn']):
            return NOT_OPEN
        return 'pong' if self.conns[s['conn']].ping(b'abc').wait(self.timeout) else 'no pong'

    def do_fence(self, s, _):
        conn, out = s['conn'], []
        if not self.usable(conn):
            return NOT_OPEN
        try:
            self.conns[conn].send('{"type": "ping", "message": {}}')
        except (ConnectionClosed, OSError):
            pass
        while True:
            e = self.event(conn, self.timeout)
            if e is None:
                return out + ['no pong']
            if 'json' in e and isinstance(e['json'], dict) and e['json'].get('type') == 'pong':
                return out
            out.append(e)
            if 'close' in e:
                return out

    def do_close(self, s, _):
        conn = s['conn']
        if not self.usable(conn):
            return NOT_OPEN
        c = self.conns[conn]
        self.closed.add(conn)
        if s.get('code') is None:       # a close frame with no code: by hand
            c.socket.sendall(bytes.fromhex('888000000000'))
            end = time.time() + self.timeout
            while time.time() < end:
                try:
                    c.recv(timeout=self.timeout)
                except TimeoutError:
                    break
                except ConnectionClosed:
                    break
        else:
            c.close(code=s['code'], reason=s.get('reason', ''))
        time.sleep(0.15)        # let the server leave its groups
        rcvd = c.protocol.close_rcvd
        return {'close': rcvd.code if rcvd else 1006, 'reason': rcvd.reason if rcvd else ''}

    def do_sleep(self, s, _):
        time.sleep(s['seconds'])
        return None

    def do_http(self, s, _):
        body = None
        if 'body' in s:
            body = self.fx.fill(s['body']).encode('utf-8', 'surrogatepass')
        elif 'body_hex' in s:
            body = bytes.fromhex(s['body_hex'])
        headers = {k: self.fx.fill(v).encode('utf-8') for k, v in s.get('headers', {}).items()}
        try:
            r = requests.request(s['method'], self.http_base + self.fx.fill(s['path']), headers=headers, data=body,
                                 timeout=self.timeout + 10, allow_redirects=False)
        except requests.RequestException as e:
            return {'error': type(e).__name__}
        saw = {'status': r.status_code}
        try:
            saw['json'] = abstract(json.loads(r.content), self.fx, self.notes)
        except ValueError:
            saw['body'] = 'empty' if not r.content else 'not JSON'
        saw['headers'] = {k: r.headers[k] for k in KEEP_HEADERS if k in r.headers}
        if 'allow' in saw['headers']:      # a set in DRF: in no fixed order
            saw['headers']['allow'] = ', '.join(sorted(x.strip() for x in saw['headers']['allow'].split(',')))
        return saw

    def run(self, steps, on_step):
        """on_step(i, step, run_it) decides whether to go on; run_it(expected) runs the step."""
        self.conns, self.closed, self.notes = {}, set(), set()
        try:
            for i, step in enumerate(steps):
                if not on_step(i, step, lambda expected=None, st=step: self.do(st, expected)):
                    break
        finally:
            for c in self.conns.values():
                if c is not None:
                    try:
                        c.close_timeout = 0.5
                        c.close()
                    except Exception:
                        pass


# ---- comparing ------------------------------------------------------------------------

def unfold(events):
    if not isinstance(events, list):
        return events
    out = []
    for e in events:
        if isinstance(e, dict):
            n = e.get('times', 1)
            out += [{k: v for k, v in e.items() if k != 'times'}] * n
        else:
            out.append(e)
    return out


# Keys that qy-lty adds to the original system's answers (docs/protocol.md).
ADDED = {'code', 'ref', 'epoch', 'last_id', 'pending', 'recovered', 'id', 'delivery', 'recipients', 'source', 'user', 'data', 'status',
         'message', 'retry_after', 'expires_at', 'sender'}


def kind(v):
    if v is None:
        return 'null'
    return {bool: 'boolean', int: 'integer', float: 'float', str: 'string', list: 'array', dict: 'object'}[type(v)]


def short(v):
    t = json.dumps(v, ensure_ascii=False)
    return t if len(t) < 240 else f'{t[:200]}… ({len(t)} chars)'


def diff(exp, got, path=''):
    """Differences as text lines; empty when equal."""
    if isinstance(exp, str):
        if exp == '<any>':
            return []
        if exp == '<any-str>' and isinstance(got, str):
            return []
        if exp == '<any-int>' and isinstance(got, int) and not isinstance(got, bool):
            return []
        if exp.startswith('<re:') and isinstance(got, str):
            return [] if re.fullmatch(exp[4:-1], got, re.S) else [f'{path}: {short(got)} does not match {exp}']
    if kind(exp) != kind(got):
        return [f'{path}: expected {kind(exp)} {short(exp)}, got {kind(got)} {short(got)}']
    if isinstance(exp, dict):
        out = []
        for k in exp:
            out += diff(exp[k], got[k], f'{path}.{k}') if k in got else [f'{path}.{k}: missing (expected {short(exp[k])})']
        return out + [f'{path}.{k}: not expected: {short(got[k])}' for k in got if k not in exp and k not in ADDED]
    if isinstance(exp, list):
        out = []
        for i in range(max(len(exp), len(got))):
            if i >= len(got):
                out.append(f'{path}[{i}]: missing (expected {short(exp[i])})')
            elif i >= len(exp):
                out.append(f'{path}[{i}]: not in the reference: {short(got[i])}')
            else:
                out += diff(exp[i], got[i], f'{path}[{i}]')
        return out
    return [] if exp == got else [f'{path}: expected {short(exp)}, got {short(got)}']
