"""The server under test, and calls of its REST API."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PASSWORD = "correct-horse-battery"
CONFIG = """[server]
listen = "{listen}"
data_dir = "data"
[limits]
connects_per_minute = 0
logins_per_minute = 0
refusals_per_minute = 0
connections_per_user = 0
connections_per_address = 0
requests_per_minute = 0
trusted_requests_per_minute = 0
{limits}
"""


class Server:
    """A running server in a temporary directory."""

    def __init__(self, binary, limits, listen="127.0.0.1:0"):
        self.directory = tempfile.TemporaryDirectory(prefix="qy-lty-clients-")
        self.path = pathlib.Path(self.directory.name)
        lines = "\n".join(f"{key} = {value}" for key, value in limits.items())
        (self.path / "config.toml").write_text(CONFIG.format(listen=listen, limits=lines))
        self.log = self.path / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(pathlib.Path(binary).resolve()), "serve", "--config", "config.toml"],
                cwd=self.path, env={**environment, "QY_LTY_ADMIN_PASSWORD": PASSWORD}, stdout=log, stderr=log)
        self.port = self.wait_for_port()
        self.local = threading.local()
        self.admin = self.call("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})["token"]

    def wait_for_port(self):
        for _ in range(300):
            found = re.search(r"serving address=\S+:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self.log.read_text()}")

    def call(self, method, path, body=None, token=None):
        """Returns the reply as an object; each thread has one connection, which is opened again once."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        for last in (False, True):
            connection = getattr(self.local, "connection", None)
            if connection is None:
                connection = self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                response = connection.getresponse()
                reply = json.loads(response.read())
                break
            except (OSError, http.client.HTTPException):
                self.local.connection = None
                if last or method == "POST":
                    raise
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {reply}")
        return reply

    def user(self, name):
        """Creates a user; returns its id and a token."""
        user = self.call("POST", "/api/users", {"username": name, "password": PASSWORD}, self.admin)["data"]["id"]
        return user, self.call("POST", "/api/auth/login", {"username": name, "password": PASSWORD})["token"]

    def send(self, user, sizes):
        """Sends a message of each of these sizes in bytes; returns the accepted ids, in order."""
        def one(size):
            body = {"type": "note", "message": {"text": "x" * size}}
            return self.call("POST", f"/api/messages/user/{user}", body, self.admin)["data"]["id"]

        with ThreadPoolExecutor(8) as pool:
            return sorted(pool.map(one, sizes))

    def waiting(self, user):
        """Returns the number of messages queued for a user."""
        return self.call("GET", f"/api/queue/user/{user}", token=self.admin)["data"]["messages"]

    def reasons(self, user):
        """Returns the server's reasons for the ends of the user's connections, from its log."""
        found = re.findall(rf"disconnected .*\buser={user}\b.* reason=(.*)", self.log.read_text())
        return ", ".join(dict.fromkeys(found)) or "no reason in the log"

    def stop(self):
        """Ends the server; returns whether it stopped in order."""
        self.process.terminate()
        try:
            return self.process.wait(60) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        finally:
            self.directory.cleanup()
