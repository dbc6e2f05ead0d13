"""Requests, and the answers of a model part by part."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import until
from fake import FakeServer, Peer
from model import Model
from qy_lty_client import BackOff, DeviceWebSocketClient, RequestError
from server import Server, User

QUICK = BackOff(0.05, 0.2)
WORDS = "".join(f"word{n} " for n in range(5))


def test_request_inside_a_handler(user: User, run: Any) -> None:
    async def main() -> None:
        got: list[Any] = []
        client = DeviceWebSocketClient(user.token, user.server.url)

        async def handle(frame: dict[str, Any]) -> None:
            reply = await client.request("weather", {"city": frame["message"]})
            got.append(reply["data"]["city"]["name"])

        client.register_handler("note", handle)
        client.register_handler("weather_response", got.append)  # the reply is the requester's alone
        async with client:
            for city in ("北京", "上海"):
                await asyncio.to_thread(user.push, city)
            await until(lambda: len(got) == 2)
            assert got == ["北京", "上海"]

    run(main())


def test_requests_in_flight_get_their_own_replies(user: User, run: Any) -> None:
    async def main() -> None:
        async with DeviceWebSocketClient(user.token, user.server.url) as client:
            replies = await asyncio.gather(*(client.request("chat_message", str(n)) for n in range(16)))
            assert [reply["message"] for reply in replies] == [f"收到消息:{n}" for n in range(16)]

    run(main())


def test_request_fails_with_a_code(user: User, run: Any) -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet()
        frame = await peer.receive()
        while frame["type"] != "end":
            frame = await peer.receive()
        await peer.socket.close(1001)

    async def main() -> None:
        async with DeviceWebSocketClient(user.token, user.server.url) as client:
            with pytest.raises(RequestError) as caught:
                await client.request("weather", {"city": 7})
            assert caught.value.code == "VALIDATION_ERROR"
        with pytest.raises(RequestError, match="closed"):
            await client.request("ping")
        async with FakeServer(silent) as server, DeviceWebSocketClient("t", server.url, back_off=QUICK) as client:
            with pytest.raises(RequestError, match="timeout"):
                await client.request("ping", timeout=0.1)
            waiting = asyncio.create_task(client.request("ping", timeout=30))
            await asyncio.sleep(0.1)
            await client.send_message("end")
            with pytest.raises(RequestError, match="disconnected"):
                await waiting
        client = DeviceWebSocketClient("t", "ws://127.0.0.1:9")
        with pytest.raises(RequestError, match="timeout"):
            await client.request("ping", timeout=0.1)
        assert client.queue_size == 0
        await client.disconnect()

    run(main())


def test_late_reply_is_dropped(run: Any) -> None:
    async def late(peer: Peer) -> None:
        await peer.greet()
        frame = await peer.receive()
        await asyncio.sleep(0.4)
        await peer.send(type="pong2", ref=frame["ref"])
        await peer.send(type="end")
        await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(late) as server:
            client = DeviceWebSocketClient("t", server.url)
            got: list[str] = []
            client.on("message", lambda frame: got.append(frame["type"]))
            await client.connect()
            with pytest.raises(RequestError, match="timeout"):
                await client.request("ping2", timeout=0.1)
            await until(lambda: got == ["end"])
            await client.disconnect()

    run(main())


def test_heartbeat_is_the_guides(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            frame = await peer.receive()
            assert (frame["type"], frame["message"]) == ("ping", {})
        await peer.send(type="enough")
        await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(script) as server:
            enough = asyncio.Event()
            client = DeviceWebSocketClient("t", server.url, heartbeat_seconds=0.1)
            client.register_handler("enough", lambda _: enough.set())
            async with client:
                await asyncio.wait_for(enough.wait(), 20)

    run(main())


def test_chat_without_a_model_is_one_part(user: User, run: Any) -> None:
    async def main() -> None:
        async with DeviceWebSocketClient(user.token, user.server.url) as client:
            assert [part async for part in client.chat("你好")] == ["收到消息:你好"]
            assert await client.chat("again").text() == "收到消息:again"
            client.chat("never read")

    run(main())


def test_chat_streams_and_is_cancelled(own: Any, run: Any) -> None:
    async def main(server: Server, user: User, model: Model) -> None:
        async with DeviceWebSocketClient(user.token, server.url, back_off=QUICK) as client:
            seen: list[Any] = []
            client.on("message", seen.append)
            parts = [part async for part in client.chat("five")]
            assert len(parts) > 1
            assert "".join(parts) == WORDS
            assert await client.chat("five again").text() == WORDS

            stream = client.chat("endless")
            count = 0
            async for _ in stream:
                count += 1
                if count == 3:
                    assert await stream.cancel() is True
            assert stream.cancelled
            await until(lambda: model.stopped == 1)

            async with client.chat("endless") as stream:
                async for _ in stream:
                    break
            await until(lambda: model.stopped == 2)
            assert await stream.cancel() is False

            with pytest.raises(RequestError, match="disconnected"):
                async for _ in client.chat("endless"):
                    user.cut()
            await until(lambda: client.state == "connected")
            assert await client.chat("five").text()
            assert seen == []  # parts and answers are the stream's alone

    with Model() as model:
        server = own(more=model.config)
        run(main(server, server.user("ana"), model))
