"""The server under test, its REST API, and a client that receives what waits for a user."""

import base64
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import time

PASSWORD = "correct-horse-battery"
CONFIG = """[server]
listen = "127.0.0.1:{port}"
data_dir = "{data}"
[mailbox]
messages = 0
bytes = 0
sender_bytes = 0
[limits]
connects_per_minute = 0
trusted_requests_per_minute = 0
[storage]
min_free_bytes = 1048576
ballast_bytes = 0
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server on the data directory `data`, with its configuration and log in `directory`."""

    def __init__(self, binary, directory, data):
        self.binary, self.port, self.data = binary, free_port(), data
        self.config, self.log, self.process = directory / "config.toml", directory / "log", None
        self.config.write_text(CONFIG.format(port=self.port, data=data))

    def command(self, *words, text=None):
        # The password only for the first start: no other command knows the variable.
        return subprocess.run([self.binary, *words, "--config", self.config], capture_output=True, text=True, input=text, timeout=300)

    def start(self):
        """Starts the server; returns whether it serves."""
        environment = {**os.environ, "QY_LTY_ADMIN_PASSWORD": PASSWORD}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", self.config], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(1200):
            if self.process.poll() is not None:
                return False
            try:
                if Api(self.port).call("GET", "/healthz")[0] == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.05)
        return False

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(60)

    def prepare(self, users):
        """Returns an administrator's token, and the ids and tokens of new users."""
        admin = self.command("token", "create", "admin").stdout.strip()
        made = []
        for n in range(users):
            added = self.command("user", "add", f"user{n}", "--json", text=PASSWORD + "\n")
            user = json.loads(added.stdout)["id"]
            made.append((user, self.command("token", "create", f"id:{user}").stdout.strip()))
        return admin, made


class Api:
    """The REST API of the server at `port`, over one connection."""

    def __init__(self, port, token=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"Content-Type": "application/json", **({"Authorization": f"Token {token}"} if token else {})}

    def call(self, method, path, body=None):
        self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        response = self.connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith(b"{") else text

    def send(self, user, message):
        """Sends a message; returns its id, or `None` where it was refused."""
        status, answer = self.call("POST", "/api/messages/", {"type": "note", "message": message, "user_id": user})
        return answer["data"]["id"] if status == 200 else None


class Socket:
    """A WebSocket that answers pings."""

    def __init__(self, port, token):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET /ws/device/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Token {token}\r\n\r\n".encode())
        self.input = self.stream.makefile("rb")
        while self.input.readline() not in (b"\r\n", b""):
            pass

    def event(self):
        """The next event; `None` at the end of the connection."""
        while True:
            head = self.input.read(2)
            if len(head) < 2:
                return None
            length = head[1] & 0x7F
            if length > 125:
                length, = struct.unpack("!H" if length == 126 else "!Q", self.input.read(2 if length == 126 else 8))
            payload = self.input.read(length)
            if head[0] & 15 == 9:
                self.stream.sendall(bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            elif head[0] & 15 == 1:
                return json.loads(payload)
            elif head[0] & 15 == 8:
                return None


def waiting(port, token):
    """What waits for the user of a token, by id."""
    connection, found = Socket(port, token), {}
    left = connection.event()["pending"]
    while left > 0 and (event := connection.event()):
        if "id" in event:
            found[event["id"]] = event["message"]
            left -= 1
    connection.stream.close()
    return found
