"""The server under test, without limits of rates, and with its port kept over restarts."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import uuid

PASSWORD = "correct-horse-battery"
CONFIG = """[server]
listen = "127.0.0.1:{port}"
data_dir = "data"
[limits]
messages_per_minute = 0
user_messages_per_minute = 0
frames_per_minute = 0
bytes_per_minute = 0
connects_per_minute = 0
logins_per_minute = 0
refusals_per_minute = 0
connections_per_user = 0
connections_per_address = 0
requests_per_minute = 0
trusted_requests_per_minute = 0
[mailbox]
messages = {messages}
bytes = 1073741824
"""


class Server:
    """A running server in a directory; `messages` is the bound of a mailbox."""

    def __init__(self, binary, directory, messages):
        self.binary, self.path = pathlib.Path(binary).resolve(), pathlib.Path(directory)
        self.messages, self.starts, self.process = messages, 0, None
        self.config = ""  # Further sections, from the next start on.
        self.local, self.lock = threading.local(), threading.Lock()
        self.port = 0
        self.start()
        self.admin = self.call("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})["token"]

    def start(self):
        """Starts the binary, on a free port at first and on the same one later, and waits until it serves."""
        (self.path / "config.toml").write_text(CONFIG.format(port=self.port, messages=self.messages) + self.config)
        self.starts += 1
        log = self.path / f"log.{self.starts}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", "--config", "config.toml"], cwd=self.path, stdout=output, stderr=output,
                env={**environment, "QY_LTY_ADMIN_PASSWORD": PASSWORD, "NO_COLOR": "1"})
        for _ in range(1200):
            found = re.search(r"serving address=\S+:(\d+)", log.read_text())
            if found:
                self.port = int(found[1])
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"the server did not start:\n{log.read_text()}")

    def kill(self):
        """Ends the server with SIGKILL, and starts it again on its port."""
        with self.lock:
            self.process.kill()
            self.process.wait()
            time.sleep(0.3)
            self.local = threading.local()  # The connections of all threads have ended.
            self.start()

    def call(self, method, path, body=None, token=None, tries=1):
        """Makes a request; returns the reply as an object. With `tries`, one that fails with the network is made again with its key."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        if token:
            headers["Authorization"] = f"Token {token}"
        for left in reversed(range(max(tries, 2 if method == "GET" else 1))):
            try:
                connection = getattr(self.local, "connection", None)
                if connection is None:
                    connection = self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                response = connection.getresponse()
                reply = json.loads(response.read())
                if response.status < 300:
                    return reply
                if response.status != 503 or not left:
                    raise RuntimeError(f"{method} {path}: {response.status} {reply}")
            except (OSError, http.client.HTTPException):
                self.local.connection = None
                if not left:
                    raise
            time.sleep(0.2)
        raise RuntimeError("no try was left")

    def user(self, name):
        """Creates a user; returns its id and a token."""
        body = {"username": name, "password": PASSWORD}
        user = self.call("POST", "/api/users", body, self.admin)["data"]["id"]
        return user, self.call("POST", "/api/auth/login", body)["token"]

    def send(self, user, message_type, message):
        """Queues a message, over restarts of the server too; returns its id."""
        body = {"type": message_type, "message": message}
        return self.call("POST", f"/api/messages/user/{user}", body, self.admin, tries=300)["data"]["id"]

    def waiting(self, user):
        """Returns the number of messages that the user has not acknowledged."""
        return self.call("GET", f"/api/queue/user/{user}", token=self.admin)["data"]["messages"]

    def kick(self, user):
        """Closes the user's connections with 1001; returns their number."""
        found = self.call("GET", f"/api/monitor/connections?user_id={user}", token=self.admin)["data"]["connections"]
        for connection in found:
            try:
                self.call("DELETE", f"/api/monitor/connections/{connection['id']}", token=self.admin)
            except RuntimeError:
                pass  # It has ended meanwhile.
        return len(found)

    def stop(self):
        """Ends the server; returns whether it stopped in order."""
        self.process.terminate()
        try:
            return self.process.wait(60) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
