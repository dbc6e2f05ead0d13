"""The server under test, with the configuration of the page, and clients that reach it through a proxy."""

import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import time

from websockets.sync.client import connect

PASSWORD = "correct-horse-battery"
NAME = "qy.example.com"


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def certificate(directory):
    """Makes a certificate for the name of the page, its key, and both in one file; returns the context of a client."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", cert],
        check=True, capture_output=True)
    (directory / "both.pem").write_text(cert.read_text() + key.read_text())
    return ssl.create_default_context(cafile=str(cert))


class Door:
    """A way to the server: an address and, through a proxy, TLS under the name of the page."""

    def __init__(self, port, tls=None):
        self.port, self.tls = port, tls
        self.host = NAME if tls else f"127.0.0.1:{port}"

    def socket(self, source="127.0.0.1"):
        """Returns a connected socket, with the handshake of TLS done."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(source, 0))
        return self.tls.wrap_socket(plain, server_hostname=NAME) if self.tls else plain

    def call(self, method, path, body=None, token=None, headers=None, source="127.0.0.1"):
        """Makes one request; returns status, headers and body."""
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Token {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        connection = http.client.HTTPConnection(self.host)
        connection.sock = self.socket(source)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, **options):
        """Makes a request that must succeed; returns the reply as an object."""
        status, _, text = self.call(method, path, body, **options)
        assert status in (200, 201), (method, path, status, text)
        return json.loads(text)

    def websocket(self, token, query="", source="127.0.0.1", origin=None):
        """Opens a WebSocket that sends no pings of its own, and reads the greeting."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(source, 0))
        plain.settimeout(None)
        scheme = "wss" if self.tls else "ws"
        extra = {"ssl": self.tls, "server_hostname": NAME} if self.tls else {}
        opened = connect(
            f"{scheme}://{self.host}/ws/device/?token={token}{query}", sock=plain, ping_interval=None, open_timeout=30,
            origin=origin, **extra)
        greeting = json.loads(opened.recv(timeout=30))
        assert greeting["type"] == "connection_status", greeting
        return opened


class Server:
    """A running server with the page's configuration, on a free port."""

    def __init__(self, binary, directory, config, *settings):
        directory.mkdir()
        (directory / "config.toml").write_text(config)
        self.log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(pathlib.Path(binary).resolve()), "serve", "--config", "config.toml", "--listen", "127.0.0.1:0",
                 *(word for setting in settings for word in ("--set", setting))],
                cwd=directory, env={**environment, "QY_LTY_ADMIN_PASSWORD": PASSWORD, "NO_COLOR": "1"}, stdout=log, stderr=log)
        self.port = self.wait_for_port()
        self.door = Door(self.port)
        self.admin = self.door.json("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})["token"]

    def wait_for_port(self):
        for _ in range(600):
            found = re.search(r"serving address=\S+:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self.log.read_text()}")

    def user(self, name):
        """Creates a user; returns its id and a token."""
        body = {"username": name, "password": PASSWORD}
        user = self.door.json("POST", "/api/users", body, token=self.admin)["data"]["id"]
        return user, self.door.json("POST", "/api/auth/login", body, source="127.0.0.9")["token"]

    def send(self, user, text):
        """Queues a message; returns its id."""
        body = {"type": "note", "message": text}
        return self.door.json("POST", f"/api/messages/user/{user}", body, token=self.admin)["data"]["id"]

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
