"""Connecting, coming back, and staying away."""

from __future__ import annotations

import asyncio
import statistics
from functools import partial
from typing import Any

import pytest

from conftest import until
from fake import FakeServer, Peer
from qy_lty_client import BackOff, DeviceWebSocketClient, GoneError
from server import Server, User

QUICK = BackOff(0.05, 0.2)


def _record(events: list[tuple[str, Any]], name: str, data: Any) -> None:
    events.append((name, data))


def record(client: DeviceWebSocketClient, *names: str) -> list[tuple[str, Any]]:
    events: list[tuple[str, Any]] = []
    for name in names:
        client.on(name, partial(_record, events, name))
    return events


def test_back_off_is_full_jitter_without_limit() -> None:
    back_off = BackOff(1.0, 60.0)
    for failures, most in ((0, 1.0), (3, 8.0), (6, 60.0), (10_000, 60.0)):
        delays = [back_off.delay(failures) for _ in range(4000)]
        assert 0 <= min(delays) < most / 20
        assert most * 0.95 < max(delays) <= most
        assert abs(statistics.fmean(delays) - most / 2) < most / 20


def test_back_off_is_at_least_the_servers_advice() -> None:
    assert all(7 <= BackOff().delay(0, 7.0) <= 8 for _ in range(200))


def test_connection_has_state_events_and_attributes(user: User, run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient(user.token, user.server.url.replace("ws", "http") + "/", client="phone")
        events = record(client, "connected", "state", "disconnected")
        seen: list[Any] = []
        client.on_connect = lambda status: seen.append(status["status"])
        client.on_disconnect = lambda event: seen.append(event["code"])
        assert client.state == "idle"
        await client.connect()
        assert client.state == "connected"
        assert client.running
        assert client.epoch is not None
        assert "phone" in user.readers()
        await client.disconnect()
        assert seen == ["connected", 1000]
        assert [data for name, data in events if name == "state"] == ["connecting", "connected", "closed"]
        assert not client.running
        await client.connect()
        await client.disconnect()

    run(main())


def test_token_is_in_a_header_and_the_subprotocol_is_offered(run: Any) -> None:
    async def script(peer: Peer) -> None:
        assert peer.headers["Authorization"] == "Token secret"
        assert peer.path == "/prefix/ws/device/?client=a.b&since=7&ack=client&max_bytes=2048"
        assert peer.socket.subprotocol == "qy-lty.v1"
        await peer.greet()
        await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("secret", server.url + "prefix/", client="a.b", since=7, max_bytes=2048)
            await client.connect(20)
            await client.disconnect()
            assert len(server.peers) == 1

    run(main())


def test_options_are_validated() -> None:
    for options in ({"client": "a b"}, {"client": "x" * 65}, {"ack": "never"}, {"concurrency": 0}, {"max_bytes": 10}, {"queue_limit": 0}):
        with pytest.raises(ValueError, match="must"):
            DeviceWebSocketClient("t", **options)
    for url in ("localhost:8000", "ftp://host", "ws://", "ws://host:port", "ws://u:p@host", "ws://host?x=1"):
        with pytest.raises(ValueError):  # noqa: PT011 - several texts, one of them Python's own
            DeviceWebSocketClient("t", url)


def test_killed_server_is_found_again_and_nothing_is_lost(own: Any, run: Any) -> None:
    server = own()
    user = server.user("ana")

    async def main() -> None:
        got: list[int] = []
        client = DeviceWebSocketClient(user.token, server.url, client="phone", back_off=QUICK)
        client.register_handler("note", lambda frame: got.append(frame["message"]["n"]))
        events = record(client, "disconnected")
        await client.connect()
        for n in range(20):
            await asyncio.to_thread(user.push, {"n": n})
        server.kill()
        await until(lambda: any(event["will_reconnect"] for _, event in events))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        for n in range(20, 30):
            await asyncio.to_thread(user.push, {"n": n})
        await until(lambda: len(got) == 30)
        await until(lambda: user.waiting() == 0)
        assert got == list(range(30))
        await client.disconnect()

    run(main())


def test_connect_waits_for_a_server_that_comes_later(own: Any, run: Any) -> None:
    server = own()
    user = server.user("ana")
    server.stop()

    async def main() -> None:
        client = DeviceWebSocketClient(user.token, server.url, back_off=QUICK)
        errors = record(client, "error")
        waiting = asyncio.create_task(client.connect())
        await until(lambda: len(errors) >= 3)
        assert not waiting.done()
        await asyncio.to_thread(server.start)
        await waiting
        await client.disconnect()
        with pytest.raises(TimeoutError):
            server.stop()
            await client.connect(timeout=0.5)
        assert client.state == "closed"
        pending = asyncio.create_task(client.connect())
        await asyncio.sleep(0.1)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        await client.disconnect()

    run(main())


def test_connect_that_is_cancelled_ends_sends_and_may_be_repeated(user: User, run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient(user.token, "ws://127.0.0.1:1")
        send = await client.send_message("sing", {})
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(client.connect(), 0.2)
        assert (await asyncio.wait_for(send.outcome, 20)).reason == "closed"
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await asyncio.wait_for(client.connect(), 0.2)
        await client.disconnect()

    run(main())


def test_revoked_token_keeps_the_client_away(user: User, run: Any) -> None:
    number, token = user.new_token()

    async def main() -> None:
        client = DeviceWebSocketClient(token, user.server.url, back_off=QUICK)
        events = record(client, "gone", "disconnected")
        await client.connect()
        await asyncio.to_thread(user.server.call, "DELETE", f"/api/auth/tokens/{number}", None, user.token)
        with pytest.raises(GoneError) as caught:
            await asyncio.wait_for(client.wait_closed(), 30)
        assert caught.value.code == 4001
        assert client.state == "gone"
        assert [name for name, _ in events] == ["disconnected", "gone"]
        assert events[0][1]["will_reconnect"] is False
        assert "token" in events[1][1]["meaning"]
        send = await client.send_message("ping", {})
        assert (await send.outcome).reason == "closed"
        with pytest.raises(GoneError):  # a new attempt, refused again
            await client.connect()
        await client.disconnect()

    run(main())


def test_too_many_clients_keep_the_client_away(own: Any, run: Any) -> None:
    server = own(more="[mailbox]\nreaders = 1")
    user = server.user("ana")

    async def main() -> None:
        async with DeviceWebSocketClient(user.token, server.url, client="one"):
            client = DeviceWebSocketClient(user.token, server.url, client="two", back_off=QUICK)
            with pytest.raises(GoneError) as caught:
                await client.connect()
            assert (caught.value.code, caught.value.reason) == (4104, "too many clients")
            assert list(user.readers()) == ["one"]
            await client.disconnect()

    run(main())


@pytest.mark.parametrize("code", [4001, 4003, 4104])
def test_close_codes_alone_keep_the_client_away(code: int, run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.close(code, "so it is")

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            with pytest.raises(GoneError, match=f"{code} so it is"):
                await client.connect()
                await client.wait_closed()
            await asyncio.sleep(0.5)
            assert len(server.peers) == 1

    run(main())


def test_disconnect_frames_are_obeyed_also_without_a_close(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.send(type="disconnect", code=4008, reason="slow down", reconnect=True, retry_after=1.5)
            await peer.socket.close(4008, "slow down")
        elif peer.number == 2:  # the close frame is lost: the client must not wait for it
            await peer.send(type="disconnect", code=4002, reason="no device", reconnect=False)
            await peer.socket.wait_closed()

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            with pytest.raises(GoneError) as caught:
                await client.connect()
                await client.wait_closed()
            assert caught.value.code == 4002
            assert 1.4 < server.handshakes[1] - server.handshakes[0] < 10
            await asyncio.sleep(0.5)
            assert len(server.peers) == 2

    run(main())


def test_retry_after_of_a_refused_handshake_is_obeyed(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.wait_closed()

    async def main() -> None:
        refusals = {1: (429, {"Retry-After": "1"}), 2: (503, {"Retry-After": "1"})}
        async with FakeServer(script, refusals.get) as server:
            client = DeviceWebSocketClient("t", server.url, back_off=QUICK)
            await client.connect()
            first, second, third = server.handshakes
            assert second - first >= 1
            assert third - second >= 1
            await client.disconnect()

    run(main())


def test_real_server_names_the_time_to_come_back(own: Any, run: Any) -> None:
    server: Server = own({"connects_per_minute": 2, "connections_per_user": 2})
    user = server.user("ana")

    async def main() -> None:
        for _ in range(2):
            async with DeviceWebSocketClient(user.token, server.url):
                pass
        client = DeviceWebSocketClient(user.token, server.url, back_off=QUICK)
        events = record(client, "disconnected", "error")
        with pytest.raises(TimeoutError):
            await client.connect(timeout=3)
        errors = [data for name, data in events if name == "error"]
        assert len(errors) == 1
        assert "429" in str(errors[0])
        delays = [data["retry_in"] for name, data in events if name == "disconnected" and data["will_reconnect"]]
        assert delays[0] > 1

    run(main())


def test_token_function_is_asked_again_once(user: User, run: Any) -> None:
    number, first = user.new_token()
    tokens = [first, user.token, "qlt_wrong", "qlt_wrong", "qlt_wrong"]

    async def main() -> None:
        asked: list[str] = []

        async def token() -> str:
            asked.append(tokens[len(asked)])
            return asked[-1]

        client = DeviceWebSocketClient(token, user.server.url, back_off=QUICK)
        events = record(client, "connected", "gone")
        await client.connect()
        user.cut()
        await until(lambda: len(events) == 2)
        assert asked == [first]  # an ordinary end needs no other token
        await asyncio.to_thread(user.server.call, "DELETE", f"/api/auth/tokens/{number}", None, user.token)
        await until(lambda: len(events) == 3)
        assert asked == [first, user.token]
        await client.disconnect()
        with pytest.raises(GoneError):
            await client.connect()
        assert asked == tokens[:4]
        assert [name for name, _ in events] == ["connected", "connected", "connected", "gone"]
        await client.disconnect()

    run(main())


def test_disconnect_in_a_handler_and_twice(user: User, run: Any) -> None:
    async def main() -> None:
        client = DeviceWebSocketClient(user.token, user.server.url)

        async def stop(_: Any) -> None:
            await client.disconnect()

        client.register_handler("pong", stop)
        await client.connect()
        send = await client.send_message("ping", {})
        assert (await send.outcome).status == "answered"
        await asyncio.wait_for(client.wait_closed(), 20)
        await asyncio.gather(client.disconnect(), client.disconnect())

    run(main())


def test_close_of_a_dead_link_takes_two_seconds(run: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        peer.socket.transport.pause_reading()  # the close frame is never read
        await asyncio.sleep(8)
        peer.socket.transport.abort()

    async def main() -> None:
        async with FakeServer(script) as server:
            client = DeviceWebSocketClient("t", server.url)
            await client.connect()
            start = asyncio.get_running_loop().time()
            await client.disconnect()
            assert asyncio.get_running_loop().time() - start < 6

    run(main())
