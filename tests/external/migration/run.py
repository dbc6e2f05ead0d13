"""A move from Django: a real one makes its `dumpdata`, the binary imports it, and the guide's two clients go on with their old tokens.

usage: run.py BINARY; run by a Python with the packages of requirements.txt. The JavaScript client needs node.
"""
import json
import os
import pathlib
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

here = pathlib.Path(__file__).resolve().parent
fixtures = here.parent.parent / "fixtures"
sys.path.insert(0, str(fixtures))
import client as qy  # noqa: E402

DEADLINE = 60


class Conversation:
    """A client as a process, and the events that it prints."""

    def __init__(self, command, url, token):
        self.process = subprocess.Popen([*command, url, token], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events, self.seen, self.errors = queue.Queue(), [], []
        threading.Thread(target=self.read, daemon=True).start()
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def wait(self, *types):
        """Waits until events of all these types have come; returns the last one."""
        end = time.monotonic() + DEADLINE
        while not set(types) <= {event["type"] for event in self.seen}:
            event = self.events.get(timeout=max(0.1, end - time.monotonic()))
            if event is None:
                sys.exit(f"the client ended after {self.seen}: {''.join(self.errors)}")
            self.seen.append(event)
        return self.seen[-1]

    def end(self):
        if self.process.wait(DEADLINE) != 0:
            sys.exit(f"the client failed: {''.join(self.errors)}")


class Front:
    """A proxy in front of both systems: each new connection goes to `target`."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target), timeout=DEADLINE)
            server.settimeout(None)
            for pair in [(client, server), (server, client)]:
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE * 3, **options)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def check(condition, what):
    if not condition:
        sys.exit(f"not so: {what}")


def wait_for(port):
    """Waits until something listens there."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
    sys.exit("the old system does not listen")


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    directory = pathlib.Path(tempfile.mkdtemp())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    old = subprocess.Popen([sys.executable, fixtures / "make-django.py", directory, str(port)], stdout=subprocess.PIPE, text=True)
    if "serving" not in old.stdout.readline():
        sys.exit("the old system did not start")
    expected = json.loads((directory / "django-expected.json").read_text())
    (directory / "config.toml").write_text(
        '[server]\nlisten = "127.0.0.1:0"\ndata_dir = "data"\n[limits]\nlogins_per_minute = 0\n[messages]\ncross_user = true\n'
    )
    # A client that is connected with the old system, and stays so up to its end.
    node = shutil.which("node")
    front = Front(port)
    url = f"ws://127.0.0.1:{front.port}"
    accounts = {account["username"]: account for account in expected["accounts"]}
    moved = None
    if node:
        script = [node, "--experimental-websocket", str(here / "guide_client.mjs")]
        wait_for(port)
        moved = Conversation(script, url, accounts["bob@example.com"]["token"])
        moved.wait("connection_status", "chat_response")
        check(moved.seen[0].get("system") == "django", moved.seen)
    options = {"cwd": directory, "env": {**os.environ, "NO_COLOR": "1"}}
    command = [str(binary), "--config", "config.toml", "--json", "import"]
    dry = json.loads(run(*command, "--dry-run", "django.json", **options))
    report = json.loads(run(*command, "django.json", **options))
    check({**dry, "result": ""} == {**report, "result": ""}, f"the dry run reports the same: {dry} {report}")
    print(f"Django {expected['django']}: {report['users']} users, {report['tokens']} tokens, {report['devices']} devices")

    # As docs/migration.md has it: new connections go to the new system, then the old one stops.
    server = qy.Server(binary, directory)
    front.target = server.port
    old.terminate()
    old.wait(DEADLINE)
    if moved:
        before = len(moved.seen)
        moved.seen.clear()
        first = moved.wait("connection_status")
        check("system" not in first and first["user_id"] == str(accounts["bob@example.com"]["id"]), first)
        body = {"type": "notice", "message": "moved", "user_id": accounts["bob@example.com"]["id"]}
        server.call("POST", "/api/messages/", accounts["root"]["token"], body)
        check(moved.wait("notice")["message"] == "moved", moved.seen)
        moved.end()
        print(f"a client of the old system came over by itself: {before} events there, {len(moved.seen)} here")
    usable = [a for name, a in accounts.items() if a.get("is_active", True) and name != "ANA"]
    for account in usable:
        if account["password"]:
            for _ in range(2):  # by the old hash, then by the new one
                server.login(account["username"], account["password"])
        if account["token"]:
            me = server.call("GET", "/api/auth/me", account["token"])["data"]
            check((me["id"], me["username"]) == (account["id"], account["username"]), me)

    clients = {"Python": [sys.executable, str(here / "guide_client.py")]}
    if node:
        clients["JavaScript"] = script
    else:
        print("SKIPPED: the JavaScript client: there is no node")
    for (name, command), username in zip(clients.items(), ["ana", "张伟"]):
        account = accounts[username]
        conversation = Conversation(command, url, account["token"])
        conversation.wait("connection_status", "chat_response", "weather_response", "sing_response")
        first = conversation.seen[0]
        check(first["user_id"] == str(account["id"]) and first["device_id"] == expected["primaries"][username], first)
        # A program that knows the number of the user in the old system sends as before.
        body = {"type": "notice", "message": "moved", "user_id": account["id"]}
        server.call("POST", "/api/messages/", accounts["root"]["token"], body)
        check(conversation.wait("notice")["message"] == "moved", conversation.seen)
        conversation.end()
        print(f"{name}: {len(conversation.seen)} events with the old token")
    server.stop()
    again = json.loads(run(str(binary), "--config", "config.toml", "--json", "import", "django.json", **options))
    check(again["result"].startswith("Imported earlier"), again)
    shutil.rmtree(directory)


main()
