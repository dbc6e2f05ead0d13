"""Each example, run as it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from qy_lty_client.sync import DeviceWebSocketClient
from server import Server, User, free_port

EXAMPLES = Path(__file__).parent.parent / "examples"


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    # Programs in the background of a script ignore SIGINT, and so would their children.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return output


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_smallest(user: User) -> None:
    process = start(EXAMPLES / "smallest.py", user.token, user.server.url)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "收到消息:你好\n"
        assert re.fullmatch(r".+, -?\d+°C\n", process.stdout.readline())
        user.push("dinner is ready", "notice")
        assert process.stdout.readline() == "notice: dinner is ready\n"
        wait_for(lambda: user.waiting() == 0)
        finish(process)
    finally:
        process.kill()


def test_story_handler(own: Callable[..., Server]) -> None:
    port = free_port()
    process = start(EXAMPLES / "story_handler.py", port, STORY_SECRET="s3cret-s3cret-s3cret")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening {port}\n"
        server = own(more=f'[[handler]]\ntype = "story"\nurl = "http://127.0.0.1:{port}/story"\nsecret = "s3cret-s3cret-s3cret"\n')
        with DeviceWebSocketClient(server.user("ana").token, server.url) as client:
            reply = client.request("story", {"about": "a lamp"})
        assert reply["type"] == "story_response"
        assert reply["data"]["story"].startswith("Once upon a time there was a lamp")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/story", b"{}", {"X-QY-LTY-Timestamp": str(int(time.time()))})
        with pytest.raises(urllib.error.HTTPError, match="403") as caught:
            urllib.request.urlopen(request, timeout=20)
        caught.value.close()
        finish(process)
    finally:
        process.kill()


def test_home_assistant_bridge(user: User, tmp_path: Path) -> None:
    taken: list[Any] = []
    failures = [500, 503]

    class Webhook(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if failures:
                self.send_response(failures.pop())
            else:
                taken.append((self.path, body["message"]))
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    hook = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=hook.serve_forever, args=(0.05,))
    thread.start()
    webhook = f"http://127.0.0.1:{hook.server_address[1]}/api/webhook/qy-lty-WEBHOOK"
    bridge = (EXAMPLES / "home_assistant" / "bridge.py", user.token, user.server.url, webhook, tmp_path / "state")
    process = start(*bridge)
    try:
        user.push({"state": "on"}, "home")
        user.push({"state": "off"}, "home")
        wait_for(lambda: len(taken) == 2 and user.waiting() == 0)
        finish(process)
        user.push({"state": "on"}, "home")
        process = start(*bridge)
        wait_for(lambda: len(taken) == 3 and user.waiting() == 0)
        finish(process)
        assert taken == [("/api/webhook/qy-lty-WEBHOOK", {"state": state}) for state in ("on", "off", "on")]
    finally:
        process.kill()
        hook.shutdown()
        hook.server_close()
        thread.join()


def test_home_assistant_rest_command(user: User) -> None:
    """Sends what Home Assistant would, with its templates filled in."""
    text = (EXAMPLES / "home_assistant" / "configuration.yaml").read_text()
    names = ("url", "payload", "content_type", "Authorization")
    fields = {name: re.search(rf"^ +{name}: (['\"])(.*)\1$", text, re.MULTILINE) for name in names}
    values = {name: found[2] for name, found in fields.items() if found}
    assert set(values) == set(fields)
    described = {"kind": "service", "scopes": ["send"], "label": "home assistant"}
    token = user.server.call("POST", "/api/auth/tokens", described, user.server.admin)["data"]["token"]
    url = values["url"].replace("http://127.0.0.1:8000", f"http://127.0.0.1:{user.server.port}").replace("{{ user }}", str(user.id))
    payload = values["payload"].replace("{{ text | tojson }}", json.dumps('the "door" is open'))
    headers = {"Content-Type": values["content_type"], "Authorization": values["Authorization"].replace("qlt_TOKEN", token)}
    urllib.request.urlopen(urllib.request.Request(url, payload.encode(), headers), timeout=30).close()
    got: list[Any] = []
    client = DeviceWebSocketClient(user.token, user.server.url)
    client.register_handler("notice", got.append)
    with client:
        wait_for(lambda: got)
    assert (got[0]["message"], got[0]["via"]) == ('the "door" is open', "home assistant")
