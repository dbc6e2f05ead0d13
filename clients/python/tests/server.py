"""A server of the binary that the variable QY_LTY names, in a temporary directory."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PASSWORD = "correct-horse-battery"
LIMITS = {
    "connects_per_minute": 0, "logins_per_minute": 0, "refusals_per_minute": 0, "connections_per_user": 0, "connections_per_address": 0,
    "requests_per_minute": 0, "trusted_requests_per_minute": 0, "user_messages_per_minute": 0, "messages_per_minute": 0,
    "pairings_per_minute": 0, "bytes_per_minute": 0,
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """The server may be killed and started again, on the same port and with the same data."""

    def __init__(self, limits: dict[str, int] | None = None, more: str = "") -> None:
        self.binary = Path(os.environ["QY_LTY"]).resolve()
        self.path = Path(tempfile.mkdtemp(prefix="qy-lty-python-"))
        self.port = free_port()
        lines = "\n".join(f"{key} = {value}" for key, value in {**LIMITS, **(limits or {})}.items())
        config = f'[server]\nlisten = "127.0.0.1:{self.port}"\ndata_dir = "data"\n[limits]\n{lines}\n{more}\n'
        (self.path / "config.toml").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self.admin = self.call("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})["token"]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY")}
        with (self.path / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", "--config", "config.toml"], cwd=self.path, stdout=log, stderr=log,
                env={**environment, "QY_LTY_ADMIN_PASSWORD": PASSWORD})
        for _ in range(600):
            if re.search(r"serving address=", (self.path / "log").read_text()):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{(self.path / 'log').read_text()}")

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Returns the answer; raises `RuntimeError` for an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            reply = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {reply}")
        return reply

    def user(self, name: str) -> User:
        number = self.call("POST", "/api/users", {"username": name, "password": PASSWORD}, self.admin)["data"]["id"]
        reply = self.call("POST", "/api/auth/login", {"username": name, "password": PASSWORD})
        return User(self, name, number, reply["token"])


class User:
    """An account with a token."""

    def __init__(self, server: Server, name: str, number: int, token: str) -> None:
        self.server, self.name, self.id, self.token = server, name, number, token

    def push(self, message: Any, kind: str = "note", **fields: Any) -> int | None:
        """Sends to this user; returns the id."""
        body = {"type": kind, "message": message, **fields}
        number = self.server.call("POST", f"/api/messages/user/{self.id}", body, self.server.admin)["data"].get("id")
        return number if isinstance(number, int) else None

    def waiting(self) -> int:
        return int(self.server.call("GET", f"/api/queue/user/{self.id}", token=self.server.admin)["data"]["messages"])

    def readers(self) -> dict[str, Any]:
        reply = self.server.call("GET", f"/api/clients?user_id={self.id}", token=self.server.admin)
        return {reader["name"]: reader for reader in reply["data"]}

    def new_token(self) -> tuple[int, str]:
        """Returns the id and the secret of another token."""
        data = self.server.call("POST", "/api/auth/tokens", {}, self.token)["data"]
        return data["id"], data["token"]

    def connection_ids(self) -> list[int]:
        reply = self.server.call("GET", f"/api/monitor/connections?user_id={self.id}", token=self.server.admin)
        return [connection["id"] for connection in reply["data"]["connections"]]

    def cut(self) -> None:
        """Closes this user's connections, with 1001."""
        for number in self.connection_ids():
            self.server.call("DELETE", f"/api/monitor/connections/{number}", token=self.server.admin)
