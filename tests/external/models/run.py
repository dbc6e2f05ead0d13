"""Chats with the models of LiteLLM's proxy through the server. usage: run.py BINARY; in a Python with requirements.txt."""

import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

from websockets.sync.client import connect

HERE = pathlib.Path(__file__).resolve().parent
PASSWORD = "correct-horse-battery"
ANSWER = "Hello, 世界! This is a whole answer."
# Python needs minutes to load the proxy on a busy machine.
DEADLINE = 300
CONFIG = """[server]
listen = "127.0.0.1:0"
data_dir = "data"
[chat]
responder = "openai"
url = "http://127.0.0.1:{port}/v1"
model = "{model}"
key = "{key}"
per_minute = 0
timeout_seconds = 300
idle_seconds = 300
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop(process):
    """Ends a process that was started here, with those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait(what, process, log, check):
    """Waits until `check` returns something; fails when the process ends first."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise SystemExit(f"{what} did not start:\n{log.read_text()[-4000:]}")


class Proxy:
    """LiteLLM's proxy on a free port."""

    def __init__(self, directory):
        self.port = free_port()
        self.key = "sk-" + secrets.token_hex(32)
        self.log = directory / "proxy.log"
        program = pathlib.Path(sys.executable).parent / "litellm"
        command = [program, "--config", HERE / "config.yaml", "--host", "127.0.0.1", "--port", str(self.port), "--telemetry", "False"]
        # Its list of prices is on the network; it has a copy.
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PROXY_KEY": self.key}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait("the proxy", self.process, self.log, self.answers)

    def answers(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health/liveliness")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


class Server:
    """The server under test, with one model of the proxy."""

    def __init__(self, binary, proxy, model):
        self.directory = tempfile.TemporaryDirectory(prefix="qy-lty-models-")
        path = pathlib.Path(self.directory.name)
        (path / "config.toml").write_text(CONFIG.format(port=proxy.port, model=model, key=proxy.key))
        self.log = path / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QY_LTY")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(pathlib.Path(binary).resolve()), "serve", "--config", "config.toml"], cwd=path, stdout=log, stderr=log,
                env={**environment, "QY_LTY_ADMIN_PASSWORD": PASSWORD}, start_new_session=True)
        find = lambda: re.search(r"serving address=\S+:(\d+)", self.log.read_text())
        self.port = int(wait("the server", self.process, self.log, find)[1])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"username": "admin", "password": PASSWORD})
        connection.request("POST", "/api/auth/login", body, {"Content-Type": "application/json"})
        self.token = json.loads(connection.getresponse().read())["token"]

    def __enter__(self):
        self.socket = connect(f"ws://127.0.0.1:{self.port}/ws/device/?token={self.token}")
        self.receive()
        return self

    def __exit__(self, *_):
        self.socket.close()
        stop(self.process)
        self.directory.cleanup()

    def send(self, kind, message, reference):
        self.socket.send(json.dumps({"type": kind, "message": message, "ref": reference}))

    def receive(self):
        return json.loads(self.socket.recv(timeout=DEADLINE))

    def ask(self, text, stream):
        """Returns the parts of an answer, joined, and its last event."""
        self.send("chat_message", {"content": text, "stream": stream}, text)
        parts = ""
        while True:
            event = self.receive()
            assert event["ref"] == text, event
            if event["type"] != "chat_delta":
                return parts, event
            parts += event["message"]


def expect(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: expected {wanted!r}, got {found!r}")
    print(f"ok  {what}")


def main(binary):
    with tempfile.TemporaryDirectory(prefix="qy-lty-proxy-") as directory:
        proxy = Proxy(pathlib.Path(directory))
        try:
            for model in ("plain", "reasoning"):
                with Server(binary, proxy, model) as server:
                    for n in range(5):
                        parts, last = server.ask(f"question {n}", stream=True)
                        expect(f"{model}, streamed, question {n}", (parts, last.get("message")), (ANSWER, ANSWER))
                    _, last = server.ask("whole", stream=False)
                    expect(f"{model}, whole", last.get("message"), ANSWER)
            with Server(binary, proxy, "no-opening-tag") as server:
                _, last = server.ask("first", stream=True)
                expect("no opening tag, first answer", last.get("message"), ANSWER)
                expect("no opening tag, second answer", server.ask("second", stream=True)[0], ANSWER)
            with Server(binary, proxy, "limited") as server:
                _, last = server.ask("refused", stream=True)
                expect("a refused call", (last["type"], last.get("code")), ("error", "UPSTREAM_ERROR"))
            with Server(binary, proxy, "slow") as server:
                server.send("chat_message", {"content": "slow", "stream": True}, "q")
                server.send("chat_cancel", {"ref": "q"}, "c")
                events = [server.receive(), server.receive()]
                expect("a stopped question", [event["type"] for event in events], ["chat_cancel", "chat_cancelled"])
                expect("it was running", events[0]["cancelled"], True)
            with Server(binary, proxy, "plain") as server:
                expect("before the proxy ends", server.ask("one", stream=True)[0], ANSWER)
                stop(proxy.process)
                _, last = server.ask("two", stream=True)
                expect("when the proxy has ended", (last["type"], last.get("code")), ("error", "UPSTREAM_ERROR"))
        finally:
            stop(proxy.process)


if __name__ == "__main__":
    main(sys.argv[1])
