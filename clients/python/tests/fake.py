"""A server that does what a test asks for, where the real one can't be made to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection of the client under test."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self.socket = socket
        self.number = number
        assert socket.request is not None
        self.path = socket.request.path
        self.headers = socket.request.headers

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def greet(self, **fields: Any) -> None:
        status: dict[str, Any] = {"type": "connection_status", "status": "connected", "user_id": "1", "device_id": None}
        status = {**status, "epoch": "e", "last_id": 0, "pending": 0}
        await self.send(**{**status, **fields})

    async def receive(self) -> dict[str, Any]:
        frame = json.loads(await self.socket.recv())
        assert isinstance(frame, dict)
        return frame


class FakeServer:
    """Runs a script for each connection; `refuse` may answer a handshake with a status and headers."""

    def __init__(self, script: Script, refuse: Callable[[int], tuple[int, dict[str, str]] | None] = lambda _: None) -> None:
        self.script = script
        self.refuse = refuse
        self.handshakes: list[float] = []
        self.peers: list[Peer] = []
        self.server: Server | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}/"

    async def __aenter__(self) -> FakeServer:
        self.server = await serve(self.serve, "127.0.0.1", 0, process_request=self.process, subprotocols=["qy-lty.v1"])  # type: ignore[list-item]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.server is not None
        self.server.close()
        await self.server.wait_closed()

    async def process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(asyncio.get_running_loop().time())
        refusal = self.refuse(len(self.handshakes))
        if refusal is None:
            return None
        return Response(refusal[0], "refused", Headers({**refusal[1], "Content-Length": "0", "Connection": "close"}), b"")

    async def serve(self, socket: ServerConnection) -> None:
        peer = Peer(socket, len(self.peers) + 1)
        self.peers.append(peer)
        await self.script(peer)
