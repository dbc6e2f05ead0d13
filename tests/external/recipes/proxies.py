"""The proxies of the page: each started with its recipe, and what must hold through it."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
from dataclasses import dataclass
from typing import Callable

from websockets.exceptions import ConnectionClosed

from blocks import replaced
from server import NAME, Door, free_port

# Beyond the idle time of 60 s that the recipes have.
QUIET_SECONDS = 70
# An idle time shorter than the server's heartbeats, for what happens when a proxy cuts.
CUT_SECONDS = 2
ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Proxy:
    """A program, how it gets its recipe, and what sets its idle time there (None: it never cuts)."""

    # The changes to the recipe that a test needs: ports and files. Arguments: directory, port, port of the server.
    changes: Callable
    # What stands before and after the recipe in the program's own file.
    frame: Callable
    command: Callable
    # The change that makes the recipe cut after CUT_SECONDS.
    cut: tuple | None = None
    # The names of headers in the 101 arrive as RFC 6455 writes them.
    exact_names: bool = True


def nginx_frame(directory, recipe):
    return (f"daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log {directory}/error.log;\nevents {{}}\nhttp {{\n"
            f"access_log off;\n"
            + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + recipe + "}\n")


def caddy_frame(directory, recipe):
    return f"{{\n    admin off\n    auto_https disable_redirects\n    storage file_system {directory}/storage\n}}\n{recipe}"


PROXIES = {
    "nginx": Proxy(
        changes=lambda directory, port, server: [
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("127.0.0.1:8000", f"127.0.0.1:{server}"),
            ("/etc/ssl/qy-lty", str(directory))],
        frame=nginx_frame,
        command=lambda path: ["nginx", "-e", "stderr", "-c", path],
        cut=("proxy_http_version 1.1;", f"proxy_http_version 1.1; proxy_read_timeout {CUT_SECONDS}s;")),
    "caddy": Proxy(
        changes=lambda directory, port, server: [
            (f"{NAME} {{", f"{NAME}:{port} {{"), ("127.0.0.1:8000", f"127.0.0.1:{server}"), ("/etc/ssl/qy-lty", str(directory))],
        frame=caddy_frame,
        command=lambda path: ["caddy", "run", "--adapter", "caddyfile", "--config", path],
        exact_names=False),
    "haproxy": Proxy(
        changes=lambda directory, port, server: [
            (":443", f"127.0.0.1:{port}"), ("127.0.0.1:8000", f"127.0.0.1:{server}"), ("/etc/ssl/qy-lty", str(directory))],
        frame=lambda directory, recipe: recipe,
        command=lambda path: ["haproxy", "-db", "-f", path],
        cut=("timeout tunnel 60s", f"timeout tunnel {CUT_SECONDS}s")),
}


class Running:
    """A proxy that runs with its recipe; used as a context."""

    def __init__(self, name, recipe, server, directory, tls, *more):
        proxy = PROXIES[name]
        self.port = free_port()
        path = directory / f"{name}-{self.port}.conf"
        recipe = replaced(recipe, *proxy.changes(directory, self.port, server.port), *more)
        path.write_text(proxy.frame(directory, recipe))
        self.log = path.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                proxy.command(str(path)), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)})
        self.door = Door(self.port, tls)

    def __enter__(self):
        for _ in range(300):
            try:
                self.door.socket().close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"it did not start: {self.log.read_text()[-2000:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def available(name):
    return shutil.which(name) is not None


def expect(opened, kind):
    """Reads up to an event of this type; returns it."""
    while True:
        event = json.loads(opened.recv(timeout=30))
        if event["type"] == kind:
            return event


def check_messages(server, door, name):
    """WebSockets in both directions, sends over REST, a receipt."""
    user, token = server.user(f"{name}-messages")
    with door.websocket(token) as opened:
        opened.send(json.dumps({"type": "chat_message", "message": "你好", "ref": "1"}))
        assert expect(opened, "chat_response")["ref"] == "1"
        body = {"type": "note", "message": {"text": "x" * 200_000}}
        sent = door.json("POST", f"/api/messages/user/{user}", body, token=token)["data"]["id"]
        event = expect(opened, "note")
        assert (event["id"], event["message"]) == (sent, body["message"]), event["id"]
        for _ in range(300):
            status = door.json("GET", f"/api/messages/{sent}", token=token)["data"]["status"]
            if status == "acked":
                break
            time.sleep(0.1)
        assert status == "acked", status
    for status, path in [(401, "/api/auth/me"), (404, "/nowhere"), (426, "/ws/device/")]:
        assert door.call("GET", path)[0] == status, path


def check_address(server, door, name):
    """The client's own address and scheme reach the server, and what a client claims does not."""
    _, token = server.user(f"{name}-address")
    before = len(server.log.read_text())
    status, _, _ = door.call("POST", "/api/auth/login", {"username": "nobody", "password": name}, source="127.0.0.77",
                             headers={"X-Forwarded-For": "203.0.113.9"})
    assert status == 401, status
    with door.websocket(token, source="127.0.0.78"):
        pass
    for _ in range(100):
        log = server.log.read_text()[before:]
        if "127.0.0.77" in log and "127.0.0.78" in log:
            break
        time.sleep(0.1)
    assert "127.0.0.77" in log and "127.0.0.78" in log, log[-1000:]
    assert "203.0.113.9" not in log, log[-1000:]


def check_page(server, door, name):
    """The page with what it needs, its log-in with a cookie, and its WebSocket; another origin is refused."""
    status, headers, page = door.call("GET", "/", headers={"Accept": "text/html"})
    assert status == 200 and headers["Content-Type"].startswith("text/html"), (status, headers.items())
    # Relative, so that the page works below a prefix, too.
    parts = {urllib.parse.urljoin("/", part) for part in re.findall(r'(?:src|href)="([^"#:]+)"', page.decode())}
    assert len(parts) >= 2, parts
    for part in parts:
        status, _, text = door.call("GET", part)
        assert status == 200 and text, part
    server.user(f"{name}-page")
    origin = f"https://{NAME}"
    body = {"username": f"{name}-page", "password": "correct-horse-battery", "cookie": True}
    status, headers, text = door.call("POST", "/api/auth/login", body, headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
    assert status == 200, (status, text)
    cookie = headers["Set-Cookie"]
    assert "; Secure" in cookie, cookie
    csrf = json.loads(text)["data"]["csrf"]
    _, _, text = door.call("POST", "/api/auth/ticket", {}, headers={
        "Origin": origin, "Cookie": cookie.split(";")[0], "X-CSRF-Token": csrf})
    ticket = json.loads(text)["data"]["ticket"]
    with door.websocket("", f"&ticket={ticket}", origin=origin) as opened:
        opened.send('{"type":"ping"}')
        expect(opened, "pong")
    status, _, text = door.call("GET", "/", headers={"Origin": "https://evil.example"})
    assert status == 403, (status, text)


def upgrade_head(door, token):
    """Returns the head of a 101, byte by byte as it arrives, and the value that Sec-WebSocket-Accept must have."""
    key = base64.b64encode(os.urandom(16)).decode()
    with door.socket() as opened:
        opened.sendall((
            f"GET /ws/device/?token={token} HTTP/1.1\r\nHost: {door.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = opened.recv(1)
            assert byte, head
            head += byte
    accept = base64.b64encode(hashlib.sha1((key + ACCEPT_GUID).encode()).digest()).decode()
    return head.decode(), accept


def check_head(server, door, name):
    """What small boards look for in the head: one token in `Connection`, names letter by letter, and at most 1,024 bytes."""
    _, token = server.user(f"{name}-head")
    head, accept = upgrade_head(door, token)
    status, *lines = head.split("\r\n")
    assert status.startswith("HTTP/1.1 101 "), head
    assert len(head) < 1024, head
    names = {line.partition(": ")[0].lower(): line.partition(": ") for line in lines if line}
    for header, value in [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept)]:
        found, _, text = names[header.lower()]
        assert text.lower() == value.lower(), head
        if name is None or PROXIES[name].exact_names:
            assert found == header, f"{found} instead of {header}"
        elif header == "Sec-WebSocket-Accept":
            assert found != header, "the page warns of a spelling that this proxy no longer has"


def check_quiet(server, door, name):
    """A connection on which nobody speaks stays, and then receives."""
    user, token = server.user(f"{name}-quiet")
    with door.websocket(token) as opened:
        until = time.monotonic() + QUIET_SECONDS
        try:
            event = opened.recv(timeout=QUIET_SECONDS)
            raise AssertionError(f"not quiet: {event}")
        except TimeoutError:
            assert time.monotonic() >= until
        sent = server.send(user, "after the silence")
        assert expect(opened, "note")["id"] == sent


def check_cut(server, door, name):
    """A proxy with an idle time below the heartbeats cuts; the client returns and receives what was sent meanwhile, in order."""
    user, token = server.user(f"{name}-cut")
    with door.websocket(token) as opened:
        try:
            event = opened.recv(timeout=60)
            raise AssertionError(f"not cut: {event}")
        except ConnectionClosed as error:
            assert error.rcvd is None, f"a close with {error.rcvd}"
    sent = [server.send(user, f"{at}") for at in range(5)]
    with door.websocket(token) as opened:
        assert [expect(opened, "note")["id"] for _ in sent] == sent


def check_heartbeat(server, door, name):
    """Heartbeats at less than the idle time of the proxy keep a quiet connection."""
    user, token = server.user(f"{name}-heartbeat")
    with door.websocket(token) as opened:
        try:
            event = opened.recv(timeout=5 * CUT_SECONDS)
            raise AssertionError(f"not quiet: {event}")
        except TimeoutError:
            pass
        sent = server.send(user, "after the silence")
        assert expect(opened, "note")["id"] == sent
