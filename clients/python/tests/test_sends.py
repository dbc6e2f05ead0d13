"""Sends, the queue while offline, its store, and the outcomes."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from conftest import until
from fake import FakeServer, Peer
from qy_lty_client import BackOff, DeviceWebSocketClient, FileStore, RequestError
from server import Server, User

QUICK = BackOff(0.05, 0.2)


async def echo(peer: Peer) -> None:
    """Answers everything."""
    await peer.greet()
    while True:
        frame = await peer.receive()
        await peer.send(type=f"{frame['type']}_response", message=frame["message"], ref=frame["ref"])


def test_outcome_of_a_send_is_the_answer_and_handlers_get_it_too(user: User, run: Any) -> None:
    async def main() -> None:
        got: list[Any] = []
        client = DeviceWebSocketClient(user.token, user.server.url)
        client.register_handler("chat_response", got.append)
        async with client:
            send = await client.send_chat_message("你好")
            assert send
            outcome = await send.outcome
            assert (outcome.status, outcome.reply["message"] if outcome.reply else None) == ("answered", "收到消息:你好")
            await until(lambda: [frame["message"] for frame in got] == ["收到消息:你好"])
            for send, kind in (
                (await client.request_weather("北京"), "weather_response"),
                (await client.request_sing("青花瓷", "周杰伦"), "sing_response"),
                (await client.request_dance("waltz", "classic"), "dance_response"),
            ):
                outcome = await send.outcome
                assert outcome.reply is not None
                assert outcome.reply["type"] == kind
                if kind == "dance_response":
                    assert outcome.reply["data"]["duration"] == "30秒"

    run(main())


def test_refused_send_has_the_servers_code(user: User, run: Any) -> None:
    async def main() -> None:
        async with DeviceWebSocketClient(user.token, user.server.url) as client:
            outcome = await (await client.send_message("no_such_type", {})).outcome
            assert (outcome.status, outcome.reason, outcome.code) == ("dropped", "refused", "UNSUPPORTED_TYPE")
            outcome = await (await client.send_message("chat_message", "x" * 70_000)).outcome
            assert (outcome.status, outcome.code) == ("dropped", "MESSAGE_TOO_LARGE")
            assert client.state == "connected"
            for value in (float("nan"), "\ud83d", object()):
                with pytest.raises((ValueError, TypeError)):
                    await client.send_message("chat_message", value)

    run(main())


def test_offline_queue_is_bounded_and_sent_in_order(user: User, run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient(user.token, user.server.url, queue_limit=5)
        sends = [await client.send_chat_message(str(n)) for n in range(6)]
        assert client.queue_size == 5
        assert (await sends[5].outcome).reason == "full"
        assert not sends[0].outcome.done()
        got: list[str] = []
        client.register_handler("chat_response", lambda frame: got.append(frame["message"]))
        await client.connect()
        outcomes = [await send.outcome for send in sends[:5]]
        assert {outcome.status for outcome in outcomes} == {"answered"}
        await until(lambda: got == [f"收到消息:{n}" for n in range(5)])
        await client.disconnect()
        outcome = await (await client.send_chat_message("late")).outcome
        assert (outcome.status, outcome.reason, outcome.stored) == ("dropped", "closed", False)

    run(main())


def test_queue_is_bounded_in_bytes(run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient("t", "ws://127.0.0.1:9", queue_bytes=10_000)
        sends = [await client.send_message("x", "y" * 3000) for _ in range(4)]
        assert [send.outcome.done() for send in sends] == [False, False, False, True]
        await client.disconnect()
        assert [(await send.outcome).reason for send in sends] == ["closed"] * 3 + ["full"]

    run(main())


def test_send_expires_while_it_waits(run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient("t", "ws://127.0.0.1:9")
        send = await client.send_message("chat_message", "x", ttl=0.2)
        assert (await send.outcome).reason == "expired"
        assert client.queue_size == 0
        await client.disconnect()

    run(main())


def test_send_without_an_answer_ends_as_sent(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.receive()
            await peer.receive()
            await peer.socket.close(1001)
        else:
            await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK, request_timeout=0.4)
            await client.connect()
            first, second = await client.send_message("a"), await client.send_message("b")
            assert (await first.outcome).reason == "disconnected"
            assert (await second.outcome).status == "sent"
            await until(lambda: client.state == "connected")
            third = await client.send_message("c")
            assert (await third.outcome).reason == "unanswered"
            await client.disconnect()

    run(main())


def test_send_with_retry_is_sent_again(run: Any) -> None:
    received: list[list[str]] = []

    async def script(peer: Peer) -> None:
        received.append([])
        await peer.greet()
        for _ in range(3):
            frame = await peer.receive()
            received[-1].append(frame["type"])
            if peer.number == 2:
                await peer.send(type="reply", ref=frame["ref"])
        await peer.socket.close(1001)

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            await client.connect()
            sends = [await client.send_message(kind, {}, retry=kind != "b") for kind in "abc"]
            request = asyncio.create_task(client.request("d", retry=True))
            assert [(await send.outcome).status for send in sends] == ["answered", "sent", "answered"]
            assert (await request)["type"] == "reply"
            assert received[:2] == [["a", "b", "c"], ["a", "c", "d"]]
            await client.disconnect()

    run(main())


def test_rate_limited_sends_are_sent_again_and_slower(own: Any, run: Any) -> None:
    server: Server = own({"messages_per_minute": 120})
    user = server.user("ana")

    async def main() -> None:
        client = DeviceWebSocketClient(user.token, server.url, back_off=QUICK)
        events: list[Any] = []
        client.on("disconnected", events.append)
        sends = [await client.send_chat_message(str(n)) for n in range(126)]
        got: list[str] = []
        client.register_handler("chat_response", lambda frame: got.append(frame["message"]))
        await client.connect()
        outcomes = [await send.outcome for send in sends]
        assert {outcome.status for outcome in outcomes} == {"answered"}
        await until(lambda: len(got) == 126)
        assert got == [f"收到消息:{n}" for n in range(126)]
        assert [event["code"] for event in events] == [4008]
        await client.disconnect()

    run(main())


def test_file_keeps_the_queue_over_restarts(user: User, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"

    def client(**options: Any) -> DeviceWebSocketClient:
        return DeviceWebSocketClient(user.token, user.server.url, store=FileStore(path), **options)

    async def main() -> None:
        first = client()
        one = await first.send_chat_message("one")
        stored = json.loads(path.read_text())["queue"]  # on disk once send_message has returned
        assert [send["message"] for send in stored] == ["one"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await first.send_message("chat_message", "two", ttl=60, target="self")
        await first.disconnect()
        outcome = await one.outcome
        assert (outcome.reason, outcome.stored) == ("closed", True)

        second = client()
        got: list[str] = []
        second.register_handler("chat_response", lambda frame: got.append(frame["message"]))
        await second.connect()
        await until(lambda: got == ["收到消息:one", "收到消息:two"])
        await until(lambda: json.loads(path.read_text())["queue"] == [])
        await second.disconnect()
        assert sorted(file.name for file in path.parent.iterdir()) == ["state.json"]

    run(main())


def test_file_keeps_what_is_to_be_sent_again(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    async def silent(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(silent) as server:
            client = DeviceWebSocketClient("t", server.url, store=FileStore(path))
            await client.connect()
            await client.send_message("a", 1)
            send = await client.send_message("b", 2, retry=True)
            with pytest.raises(RequestError, match="timeout"):
                await client.request("c", 3, timeout=0.1, retry=True)
            await client.disconnect()
            assert (await send.outcome).stored
        assert [stored["type"] for stored in json.loads(path.read_text())["queue"]] == ["b"]
        async with FakeServer(echo) as server:
            client = DeviceWebSocketClient("t", server.url, store=FileStore(path))
            got: list[Any] = []
            client.register_handler("b_response", lambda frame: got.append(frame["message"]))
            await client.connect()
            await until(lambda: got == [2])
            await client.disconnect()
        assert json.loads(path.read_text())["queue"] == []

    run(main())


def test_damaged_file_is_put_aside(user: User, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    async def main() -> None:
        for text in ("", "{", '{"version": 9}', '{"version":1,"epoch":null,"last_id":0,"queue":[{}]}'):
            path.write_text(text)
            errors: list[Exception] = []
            client = DeviceWebSocketClient(user.token, user.server.url, store=FileStore(path))
            client.on_error = errors.append
            async with client:
                pass
            assert len(errors) == 1
            assert "damaged" in str(errors[0])
            assert path.with_name("state.json.damaged").read_text() == text
            assert json.loads(path.read_text())["version"] == 1

    run(main())


def test_store_that_fails_does_not_end_the_connection(user: User, run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("")
        errors: list[Exception] = []
        client = DeviceWebSocketClient(user.token, user.server.url, store=FileStore(tmp_path / "file" / "state.json"))
        client.on_error = errors.append
        async with client:
            got: list[Any] = []
            client.register_handler("note", got.append)
            await asyncio.to_thread(user.push, "x")
            await until(lambda: user.waiting() == 0)
            assert len(got) == 1
        assert errors
        assert all(isinstance(error, OSError) for error in errors)

    run(main())


def test_failed_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    async def main() -> None:
        store = FileStore(tmp_path / "state.json")
        await store.save({"version": 1, "epoch": "e", "last_id": 1, "queue": []})

        def fail(_: int) -> None:
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", fail)
            with pytest.raises(OSError, match="disk full"):
                await store.save({"version": 1, "epoch": "e", "last_id": 2, "queue": []})
        state = await store.load()
        assert state is not None
        assert state["last_id"] == 1
        assert [file.name for file in tmp_path.iterdir()] == ["state.json"]
        monkeypatch.setattr("qy_lty_client._store.MAX_STATE_BYTES", 100)
        with pytest.raises(ValueError, match="bytes"):
            await store.save({"version": 1, "epoch": "e" * 100, "last_id": 3, "queue": []})

    run(main())
