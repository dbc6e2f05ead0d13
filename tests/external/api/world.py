"""A server of one's own, and a caller whose account and token are made anew whenever a call has destroyed them."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

# No limits that random calls run into: what is tested is what one call does.
CONFIG = """
[server]
listen = "127.0.0.1:0"
[auth]
registration = "open"
[messages]
cross_user = true
[limits]
messages_per_minute = 0
user_messages_per_minute = 0
connections_per_user = 0
connections_per_address = 0
connects_per_minute = 0
logins_per_minute = 0
refusals_per_minute = 0
requests_per_minute = 0
trusted_requests_per_minute = 0
pairings_per_minute = 0
frames_per_minute = 0
bytes_per_minute = 0
tokens_per_user = 1000000
devices_per_user = 0
[mailbox]
messages = 1000000
bytes = 4294967296
sender_bytes = 0
"""
DEADLINE = 60


class Control(http.client.HTTPConnection):
    """The control socket, whose every caller is the owner of the data directory."""

    def __init__(self, path):
        super().__init__("control", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(self.path))


class Server:
    """A server with an empty data directory."""

    def __init__(self, binary, more=""):
        self.home = tempfile.TemporaryDirectory(prefix="qy-lty-api-")
        home = pathlib.Path(self.home.name)
        (home / "c.toml").write_text(CONFIG + more)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY_")}
        environment["QY_LTY_ADMIN_PASSWORD"] = "correct-horse-battery"
        self.log = open(home / "log", "w")
        command = [str(pathlib.Path(binary).resolve()), "serve", "--config", "c.toml", "--data-dir", "data"]
        self.process = subprocess.Popen(command, cwd=home, env=environment, stdout=self.log, stderr=self.log)
        self.control = home / "data" / "admin.sock"
        self.port = self.find_port()

    def find_port(self):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                status = self.ask("GET", "/control/status")["data"]
                if status["listen"]:
                    return int(status["listen"].rsplit(":", 1)[1])
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise SystemExit("the server does not start: " + (pathlib.Path(self.home.name) / "log").read_text())

    def ask(self, method, path, body=None):
        """Asks through the control socket."""
        return ask(Control(self.control), method, path, body)

    def stop(self):
        self.process.terminate()
        code = self.process.wait(DEADLINE)
        self.log.close()
        text = (pathlib.Path(self.home.name) / "log").read_text()
        self.home.cleanup()
        if code != 0 or "panicked" in text:
            raise SystemExit(f"the server ended with {code}: {text[-4000:]}")


def ask(connection, method, path, body=None, token=None):
    """Sends a request, and returns the answer's JSON with its status as `http`."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Token {token}"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return {**answer, "http": response.status}


class Account:
    """A caller of that role."""

    def __init__(self, control, port, role):
        self.control, self.port, self.role = control, port, role
        self.made, self.token = 0, None

    def renew(self):
        """Returns a token that is good now: of a new account, where the last one has been changed or deleted."""
        if self.token is None or not self.good():
            self.made += 1
            name = f"{self.role}-{os.getpid()}-{self.made}-{time.monotonic_ns()}"
            body = {"username": name, "password": "a-long-password", "role": self.role}
            user = ask(Control(self.control), "POST", "/api/users", body)["data"]["id"]
            self.token = ask(Control(self.control), "POST", f"/control/users/{user}/tokens", {})["data"]["token"]
        return self.token

    def good(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        me = ask(connection, "GET", "/api/auth/me", token=self.token)
        return me["http"] == 200 and me["data"]["role"] == self.role
