"""The client for programs without asyncio, and the chaos driver."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qy_lty_client import GoneError, RequestError
from qy_lty_client.sync import DeviceWebSocketClient, RestClient
from server import PASSWORD, User


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_blocking_client(user: User) -> None:
    got: list[Any] = []
    client = DeviceWebSocketClient(user.token, user.server.url, client="desk")
    states: list[str] = []
    client.on("state", states.append)

    def handle(frame: dict[str, Any]) -> None:
        # A handler runs in a thread of its own, and may block and ask.
        reply = client.request("weather", {"city": frame["message"]})
        got.append(reply["data"]["city"]["name"])

    client.register_handler("note", handle)
    with client:
        assert client.state == "connected"
        outcome = client.send_chat_message("你好").outcome(20)
        assert outcome.reply is not None
        assert outcome.reply["message"] == "收到消息:你好"
        assert list(client.chat("a")) == ["收到消息:a"]
        assert client.chat("b").text() == "收到消息:b"
        weather, sing, dance = client.request_weather("北京"), client.request_sing("a", "b"), client.request_dance("a", "b")
        for send, kind in ((weather, "weather"), (sing, "sing"), (dance, "dance")):
            reply = send.outcome(20).reply
            assert reply is not None
            assert reply["type"] == f"{kind}_response"
        number = user.push("上海")
        wait_for(lambda: got == ["上海"])
        wait_for(lambda: user.waiting() == 0)
        assert client.last_id == number
        with pytest.raises(RequestError, match="UNSUPPORTED_TYPE"):
            client.request("no_such_type")
    client.disconnect()
    assert states[:2] == ["connecting", "connected"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qy-lty")]


def test_blocking_client_that_is_refused(user: User) -> None:
    with pytest.raises(GoneError), DeviceWebSocketClient("qlt_wrong", user.server.url):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qy-lty")]


def test_blocking_rest(user: User) -> None:
    rest = RestClient(user.server.url)
    rest.login(user.name, PASSWORD)
    sent = rest.send_to_user(user.id, "note", "x")
    assert rest.receipt(sent["id"])["status"] == "queued"
    assert rest.devices() == []
    assert rest.token is not None
    with pytest.raises(AttributeError):
        rest.no_such_method()


def test_chaos_driver(user: User, tmp_path: Path) -> None:
    driver = [sys.executable, str(Path(__file__).parent / "chaos_driver.py"), user.server.url, user.token, "c", "30"]
    ids = [user.push({"n": n}, "chaos") for n in range(30)]
    done = subprocess.run([*driver, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True, timeout=90, check=True)
    assert done.stdout.splitlines() == [f"{n} {number}" for n, number in enumerate(ids)]
    assert user.waiting() == 0


def test_chaos_driver_with_nothing_left_to_handle(user: User) -> None:
    driver = [sys.executable, str(Path(__file__).parent / "chaos_driver.py"), user.server.url, user.token, "c", "0"]
    assert subprocess.run(driver, stdout=subprocess.PIPE, text=True, timeout=90, check=True).stdout == ""
