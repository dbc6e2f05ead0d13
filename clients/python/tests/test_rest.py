"""The REST API, pairing, and the generated types."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from qy_lty_client import BackOff, DeviceWebSocketClient, RestClient, RestError, pair
from server import PASSWORD, Server, User, free_port

SCRIPT = Path(__file__).parent.parent / "scripts" / "generate_types.py"


def test_types_are_current() -> None:
    subprocess.run([sys.executable, SCRIPT, "--check"], check=True, timeout=60)


def test_calls_of_an_account(user: User, run: Any) -> None:
    async def main() -> None:
        rest = RestClient(user.server.url)
        login = await rest.login(user.name, PASSWORD)
        assert login["user"]["id"] == user.id
        assert (await rest.me())["username"] == user.name
        device = await rest.create_device("lamp", serial="SN-1", primary=True)
        assert (await rest.update_device(device["id"], name="lamp 2"))["name"] == "lamp 2"
        assert [each["name"] for each in await rest.devices()] == ["lamp 2"]
        token = (await rest.device_token(device["id"]))["token"]
        sent = await rest.send_to_device(device["id"], "note", {"a": 1})
        async with DeviceWebSocketClient(token, user.server.url) as client:
            await wait_for(lambda: client.acknowledged and client.last_id == sent["id"])
        for _ in range(500):
            receipt = await rest.receipt(sent["id"])
            if receipt["status"] == "acked":
                break
            await asyncio.sleep(0.02)
        assert receipt["status"] == "acked"
        mine = await rest.send_to_user(user.id, "note", "x", ttl=60)
        assert (await rest.queue("user", user.id))["messages"] == 1
        await rest.take_back(mine["id"])
        await rest.send_to_user(user.id, "note", "y")
        await rest.clear_queue("user", user.id)
        assert (await rest.queue("user", user.id))["messages"] == 0
        assert [client["name"] for client in await rest.clients()] == [f"device:{device['id']}"]
        await rest.delete_device(device["id"])
        with pytest.raises(RestError) as caught:
            await rest.device(device["id"])
        assert (caught.value.status, caught.value.code) == (404, "not_found")
        await rest.logout()
        with pytest.raises(RestError, match="401"):
            await rest.me()
        with pytest.raises(ValueError, match="neither"):
            await rest.queue("user")

    run(main())


async def wait_for(condition: Any) -> None:
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the condition did not come true")


def test_broadcast_and_pages(user: User, run: Any) -> None:
    async def main() -> None:
        admin = RestClient(user.server.url, user.server.admin)
        sent = await admin.broadcast("news", "hello")
        assert sent["id"] > 0
        await admin.take_back(sent["id"])
        for n in range(5):
            await admin.create_device(f"d{n}", user_id=user.id)
        names = [device["name"] async for device in admin.pages("/api/devices", limit=2, user_id=user.id)]
        assert names == [f"d{n}" for n in range(5)]

    run(main())


class Flaky:
    """A server in front of the real one, which answers as told, and passes the rest on."""

    def __init__(self, server: Server, answers: list[Any]) -> None:
        self.seen: list[tuple[str, str | None]] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                flaky.seen.append((self.command, self.headers["Idempotency-Key"]))
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = answers.pop(0) if answers else None
                if isinstance(answer, int):
                    self.send_response(answer)
                    self.send_header("Retry-After", "0.3")
                    self.end_headers()
                    return
                from http.client import HTTPConnection

                connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.request("POST", self.path, body, dict(self.headers))
                response = connection.getresponse()
                data = response.read()
                connection.close()
                if answer == "lost":  # carried out, and nobody is told
                    return
                self.send_response(response.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if answer == "cut" else data)

            do_GET = do_POST  # noqa: N815

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def test_send_is_repeated_with_its_key_and_stored_once(user: User, run: Any) -> None:
    flaky = Flaky(user.server, [503, "lost", 429, "cut"])

    async def main() -> None:
        rest = RestClient(flaky.url, user.token, back_off=BackOff(0.01, 0.05))
        loop = asyncio.get_running_loop()
        start = loop.time()
        await rest.send_to_user(user.id, "note", "once")
        assert loop.time() - start >= 0.6
        assert len(flaky.seen) == 5
        assert len({key for _, key in flaky.seen}) == 1
        assert user.waiting() == 1
        flaky.seen.clear()
        await rest.send_to_user(user.id, "note", "once")
        assert user.waiting() == 2

    try:
        run(main())
    finally:
        flaky.close()


def test_other_posts_are_not_repeated_after_they_were_sent(user: User, run: Any) -> None:
    flaky = Flaky(user.server, ["lost"])

    async def main() -> None:
        rest = RestClient(flaky.url, user.token, back_off=BackOff(0.01, 0.05))
        with pytest.raises(RestError) as caught:
            await rest.create_device("lamp")
        assert (caught.value.status, caught.value.code) == (0, "network")
        assert len(flaky.seen) == 1
        with pytest.raises(RestError, match="network"):
            await RestClient(f"http://127.0.0.1:{free_port()}", tries=2, back_off=BackOff(0.01, 0.05)).me()

    try:
        run(main())
    finally:
        flaky.close()


def test_pairing(user: User, run: Any) -> None:
    async def main() -> None:
        owner = RestClient(user.server.url, user.token)
        codes: list[str] = []

        async def show(code: str) -> None:
            codes.append(code)
            await owner.claim(code, name="robot")

        token = await pair(base_url=user.server.url, name="thing", serial="SN-9", on_code=show, timeout=60)
        assert len(codes) == 1
        assert len(codes[0]) == 6
        async with DeviceWebSocketClient(token, user.server.url) as client:
            assert client.state == "connected"
        with pytest.raises(TimeoutError):
            await pair(base_url=user.server.url, on_code=codes.append, timeout=0.5)
        with pytest.raises(RestError, match="invalid"):
            await pair(base_url=user.server.url, name="", on_code=codes.append)

    run(main())


def test_pairing_that_has_ended_starts_again(own: Any, run: Any) -> None:
    server: Server = own()
    user, guesser = server.user("ana"), server.user("bob")

    async def main() -> None:
        codes: list[str] = []

        async def show(code: str) -> None:
            codes.append(code)
            if len(codes) == 1:
                for _ in range(5):  # so many wrong codes end every open pairing
                    with pytest.raises(RestError):
                        await RestClient(server.url, guesser.token).claim("ZZZZZZ" if code != "ZZZZZZ" else "YYYYYY")
            else:
                await RestClient(server.url, user.token).claim(code)

        assert (await pair(base_url=server.url, name="thing", on_code=show, timeout=90)).startswith("qlt_")
        assert len(codes) == 2

    run(main())
