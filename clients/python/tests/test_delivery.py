"""Queued messages: handled once, in order, acknowledged after their handlers, and gaps admitted."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import until
from fake import FakeServer, Peer
from qy_lty_client import BackOff, DeviceWebSocketClient, FileStore
from qy_lty_client._resume import Tracker
from server import Server, User


def has_length(items: list[Any], length: int) -> bool:
    return len(items) == length


QUICK = BackOff(0.05, 0.2)


def test_message_is_acknowledged_after_its_async_handler(user: User, run: Any) -> None:
    async def main() -> None:
        go = asyncio.Event()
        started = asyncio.Event()
        got: list[int] = []

        async def handle(frame: dict[str, Any]) -> None:
            started.set()
            await go.wait()
            got.append(frame["id"])

        client = DeviceWebSocketClient(user.token, user.server.url, client="phone")
        client.register_handler("note", handle)
        await client.connect()
        number = await asyncio.to_thread(user.push, "x")
        await started.wait()
        await asyncio.sleep(0.6)  # three times the delay of an acknowledgement
        assert user.waiting() == 1
        assert client.last_id == 0
        go.set()
        await until(lambda: user.waiting() == 0)
        assert got == [number]
        assert client.last_id == number
        assert client.acknowledged
        await client.disconnect()

    run(main())


def test_observer_takes_nothing(user: User, run: Any) -> None:
    async def main() -> None:
        seen: list[int] = []
        number = await asyncio.to_thread(user.push, "x")
        observer = DeviceWebSocketClient(user.token, user.server.url, peek=True)
        observer.on("message", lambda frame: seen.append(frame["id"]))
        await observer.connect()
        await until(lambda: number in seen)
        await asyncio.sleep(0.6)  # three times the delay of an acknowledgement
        await observer.disconnect()
        assert user.waiting() == 1

    run(main())


def test_unfinished_handler_gets_its_message_again(user: User, run: Any) -> None:
    async def main() -> None:
        got: list[str] = []

        async def handle(frame: dict[str, Any]) -> None:
            got.append(frame["message"])
            if got == ["a", "b"]:
                await asyncio.sleep(60)

        client = DeviceWebSocketClient(user.token, user.server.url, client="phone")
        client.register_handler("note", handle)
        await client.connect()
        for text in "abc":
            await asyncio.to_thread(user.push, text)
        await until(lambda: got == ["a", "b"])
        await client.disconnect()  # cancels the handler
        assert user.waiting() == 2
        await client.connect()
        await until(lambda: got == ["a", "b", "b", "c"])
        await until(lambda: user.waiting() == 0)
        await client.disconnect()

    run(main())


def test_failing_handler_is_reported_and_does_not_block(user: User, run: Any) -> None:
    async def main() -> None:
        errors: list[Exception] = []
        got: list[str] = []

        async def handle(frame: dict[str, Any]) -> None:
            if frame["message"] == "bad":
                raise KeyError("bad")
            got.append(frame["message"])

        client = DeviceWebSocketClient(user.token, user.server.url)
        client.register_handler("note", handle)
        client.on_error = errors.append
        for text in ("bad", "good"):
            await asyncio.to_thread(user.push, text)
        async with client:
            await until(lambda: got == ["good"])
            await until(lambda: user.waiting() == 0)
        assert [type(error) for error in errors] == [KeyError]

    run(main())


def test_concurrency_is_bounded_and_acknowledges_the_lowest_unfinished(user: User, run: Any) -> None:
    async def main() -> None:
        running = most = 0
        release = asyncio.Event()
        done: list[int] = []

        async def handle(frame: dict[str, Any]) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if frame["message"] == 0:
                await release.wait()
            await asyncio.sleep(0.01)
            running -= 1
            done.append(frame["message"])

        client = DeviceWebSocketClient(user.token, user.server.url, concurrency=4)
        client.register_handler("note", handle)
        for n in range(40):
            await asyncio.to_thread(user.push, n)
        await client.connect()
        await until(lambda: len(done) == 39)
        await asyncio.sleep(0.5)
        assert most == 4
        assert user.waiting() == 40  # the first one is not handled
        user.cut()  # and none of the 39 comes again
        await until(lambda: client.state == "connected")
        await asyncio.sleep(0.5)
        release.set()
        await until(lambda: user.waiting() == 0)
        assert sorted(done) == list(range(40))
        await client.disconnect()

    run(main())


def test_order_is_kept_without_concurrency(user: User, run: Any) -> None:
    async def main() -> None:
        got: list[int] = []

        async def handle(frame: dict[str, Any]) -> None:
            await asyncio.sleep(0.003 if frame["message"] % 2 else 0)
            got.append(frame["message"])

        client = DeviceWebSocketClient(user.token, user.server.url, back_off=QUICK)
        client.register_handler("note", handle)
        await client.connect()
        for n in range(60):
            await asyncio.to_thread(user.push, n)
            if n % 20 == 10:
                user.cut()
        await until(lambda: len(got) == 60)
        assert got == list(range(60))
        await until(lambda: user.waiting() == 0)
        await client.disconnect()

    run(main())


def test_repeats_are_dropped_and_acknowledged(run: Any) -> None:
    acks: list[list[int]] = []

    async def script(peer: Peer) -> None:
        await peer.greet(last_id=0)
        acks.append([])
        for number in ((1, 2, 3), (2, 3, 4))[peer.number - 1]:
            await peer.send(type="note", message=number, id=number)
        while True:
            frame = await peer.receive()
            if frame["type"] != "ack":
                continue
            acks[-1].append(frame["message"]["id"])
            if peer.number == 1:
                peer.socket.transport.abort()
                return

    async def main() -> None:
        got: list[int] = []
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            client.register_handler("note", lambda frame: got.append(frame["id"]))
            await client.connect()
            await until(lambda: len(acks) == 2 and acks[1][-1:] == [4])
            assert got == [1, 2, 3, 4]
            assert acks[0] == [3]
            assert server.peers[1].path == "/ws/device/?since=e%3A3&ack=client"
            await client.disconnect()

    run(main())


def test_frame_that_nobody_could_foresee_ends_no_more_than_its_connection(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.socket.send('{"type":[]}')
        elif peer.number == 2:
            await peer.socket.send("[" * 100_000)
        await peer.send(type="note", message=peer.number, id=peer.number)
        await peer.socket.wait_closed()

    async def main() -> None:
        got: list[int] = []
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            client.on("error", lambda error: None)
            client.register_handler("note", lambda frame: got.append(frame["id"]))
            await client.connect()
            await until(lambda: 3 in got)
            assert client.running
            await client.disconnect()

    run(main())


def test_what_comes_while_the_client_is_closed_is_handled_once_and_in_order(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        number = 0
        if "since=" in peer.path:
            number = int(peer.path.split("%3A")[1].split("&")[0])
        while True:
            number += 1
            await peer.send(type="note", message=number, id=number)
            await asyncio.sleep(0.02)

    async def main() -> None:
        got: list[int] = []

        async def handle(frame: dict[str, Any]) -> None:
            await asyncio.sleep(0.1)
            got.append(frame["id"])

        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            client.register_handler("note", handle)
            for _ in range(3):
                await client.connect()
                await asyncio.sleep(1)
                await client.disconnect()
            assert got == list(range(1, len(got) + 1))

    run(main())


def test_another_epoch_voids_the_ids(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(epoch=f"e{peer.number}", **({} if peer.number == 1 else {"recovered": False}))
        await peer.send(type="note", message=peer.number, id=100 // peer.number)
        if peer.number == 1:
            await peer.receive()
            await peer.socket.close(1001)
        else:
            await peer.socket.wait_closed()

    async def main() -> None:
        got: list[int] = []
        missed: list[Any] = []
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            client.register_handler("note", lambda frame: got.append(frame["id"]))
            client.on("missed", missed.append)
            await client.connect()
            await until(lambda: got == [100, 50])
            assert server.peers[1].path == "/ws/device/?since=e1%3A100&ack=client"
            assert missed == [{"count": None, "after": None, "upto": None}]
            await client.disconnect()

    run(main())


def test_recovered_after_an_interruption(user: User, run: Any) -> None:
    async def main() -> None:
        recovered: list[Any] = []
        client = DeviceWebSocketClient(user.token, user.server.url, client="phone", back_off=QUICK)
        client.on("recovered", recovered.append)
        client.register_handler("note", lambda _: None)
        await client.connect()
        await asyncio.to_thread(user.push, "x")
        await until(lambda: user.waiting() == 0)
        user.cut()
        await until(lambda: len(recovered) == 1)
        await client.disconnect()

    run(main())


def test_missed_messages_are_told_once(own: Any, run: Any) -> None:
    server: Server = own(more="[mailbox]\nmessages = 10\n[history]\nmessages = 0")
    user = server.user("ana")

    async def main() -> None:
        missed: list[Any] = []
        slow = DeviceWebSocketClient(user.token, server.url, client="slow", back_off=QUICK)
        slow.on("missed", missed.append)
        await slow.connect()
        await slow.disconnect()
        async with DeviceWebSocketClient(user.token, server.url, client="quick"):
            for n in range(25):
                await asyncio.to_thread(user.push, n)
                await until(lambda: user.waiting() == 0)
        block = asyncio.Event()
        slow.register_handler("note", lambda _: block.wait())
        await slow.connect()
        assert [event["count"] for event in missed] == [15]
        connected: list[Any] = []
        slow.on("connected", connected.append)
        user.cut()
        await until(lambda: len(connected) == 1)
        assert connected[0]["missed"] == 15
        assert len(missed) == 1
        block.set()
        await until(lambda: slow.acknowledged)
        await slow.disconnect()

    run(main())


def test_missed_event_on_an_open_connection(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(type="missed", after=41, upto=78)
        await peer.socket.wait_closed()

    async def main() -> None:
        missed: list[Any] = []
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url)
            client.on("missed", missed.append)
            await client.connect()
            await until(lambda: missed == [{"count": 37, "after": 41, "upto": 78}])
            await client.disconnect()

    run(main())


@pytest.mark.parametrize("ack", ["client", "auto"])
def test_position_outlives_the_process(user: User, run: Any, tmp_path: Path, ack: str) -> None:
    path = tmp_path / "state.json"

    async def main() -> None:
        got: list[int] = []

        def client() -> DeviceWebSocketClient:
            made = DeviceWebSocketClient(user.token, user.server.url, client="phone", store=FileStore(path), ack=ack)
            made.register_handler("note", lambda frame: got.append(frame["message"]))
            return made

        for n in range(4):
            await asyncio.to_thread(user.push, n)
            async with client() as current:
                await until(partial(has_length, got, n + 1))
                await until(lambda: user.waiting() == 0)
                last, epoch = current.last_id, current.epoch
            state = json.loads(path.read_text())
            assert (state["last_id"], state["epoch"]) == (last, epoch)
            assert not current._engine.tracker._unacked
        assert got == [0, 1, 2, 3]

    run(main())


def test_live_messages_are_dropped_and_told_when_handlers_are_too_slow(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qy_lty_client._dispatch.MAX_LIVE", 10)

    async def script(peer: Peer) -> None:
        await peer.greet()
        for n in range(50):
            await peer.send(type="note", message=n)
        await peer.socket.wait_closed()

    async def main() -> None:
        errors: list[Exception] = []
        got: list[int] = []
        block = asyncio.Event()

        async def handle(frame: dict[str, Any]) -> None:
            await block.wait()
            got.append(frame["message"])

        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url)
            client.on_error = errors.append
            client.register_handler("note", handle)
            await client.connect()
            await asyncio.sleep(0.5)
            block.set()
            await until(lambda: len(got) + len(errors) == 50)
            assert got == sorted(got)
            assert 10 <= len(got) < 50
            assert all(isinstance(error, BufferError) for error in errors)
            await client.disconnect()

    run(main())


def test_reading_pauses_at_the_bound_without_acks_of_the_client(user: User, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qy_lty_client._dispatch.MAX_BACKLOG", 5)

    async def main() -> None:
        got: list[int] = []

        async def handle(frame: dict[str, Any]) -> None:
            await asyncio.sleep(0.01)
            got.append(frame["message"])

        client = DeviceWebSocketClient(user.token, user.server.url, ack="auto")
        client.register_handler("note", handle)
        for n in range(40):
            await asyncio.to_thread(user.push, n)
        async with client:
            await until(lambda: len(got) == 40)
            assert got == list(range(40))
            await until(lambda: user.waiting() == 0)

    run(main())


def test_tracker_acknowledges_only_ids_of_the_connection() -> None:
    tracker = Tracker()
    tracker.start_connection("e", 0, pending=True)
    first, second, third = (tracker.accept(number) for number in (5, 7, 9))
    assert first is not None
    assert second is not None
    assert third is not None
    tracker.finish(third)
    assert tracker.take_ack() is None
    tracker.finish(first)
    assert tracker.take_ack() == 5
    tracker.start_connection("e", 5, pending=True)
    assert tracker.accept(7) is None  # 9 has expired meanwhile, and is not sent again
    tracker.finish(second)
    assert tracker.handled == 9
    assert tracker.take_ack() == 7
    assert tracker.since() == "e:9"
    tracker.rewind()
    tracker.start_connection("f", 2, pending=False)
    assert tracker.accept(3) is not None
    assert tracker.since() == "f:2"
