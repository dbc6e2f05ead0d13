"""Opens the WebSocket, with any version of websockets from 13.0 on."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections import deque
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.typing import Subprotocol

from ._backoff import parse_retry_after
from ._options import Options
from ._urls import socket_url

SUBPROTOCOL = Subprotocol("qy-lty.v1")
#: The interval of WebSocket pings, and the time for the pong: a link that is dead is noticed within their sum.
PING_SECONDS = 20.0


class OpenError(Exception):
    """An attempt to connect that failed; `status` is the HTTP status of a refusal."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Socket(ClientConnection):
    """A connection that makes up for two defects of early versions of websockets."""

    #: Messages that were received and not read. At a close, 13.0 forgets them: the server's reasons for it, and replies.
    unread: deque[bytes | None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to receive."""
        self.unread = deque()
        super().connection_made(transport)

    def process_event(self, event: Event) -> None:
        """Notes a message; of one in fragments, which this server does not send, only that it was there."""
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            whole_text = event.opcode is Opcode.TEXT and event.fin
            self.unread.append(bytes(event.data) if whole_text else None)
        super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends; in 13.0, one who gave up a refused handshake has cancelled what is set here."""
        if self.connection_lost_waiter.cancelled():
            self.connection_lost_waiter = self.loop.create_future()
        super().connection_lost(exc)

    async def next_message(self) -> str | bytes:
        """Returns the next message; may be cancelled without losing one."""
        message = await self.recv()
        if self.unread:
            self.unread.popleft()
        return message

    def remaining(self) -> list[str]:
        """Returns, after the end of the connection, the messages that nobody has read."""
        texts = [data.decode(errors="replace") for data in self.unread if data is not None]
        self.unread.clear()
        return texts


class _Connect(connect):
    """Follows no redirects: the token is for the address that the program names."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_socket(ws_base: str, token: str, since: str | None, options: Options) -> Socket:
    """Returns a connection after its handshake; raises `OpenError`. The token is in a header, where no log of URLs has it."""
    url = socket_url(ws_base, options.parameters(since))
    more: dict[str, Any] = {}
    if url.startswith("wss:"):
        more["ssl"] = options.ssl or ssl_module.create_default_context()
    try:
        socket = await _Connect(
            url,
            create_connection=Socket,
            additional_headers={"Authorization": f"Token {token}"},
            subprotocols=[SUBPROTOCOL],
            compression=None,
            open_timeout=options.connect_timeout,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=options.close_timeout,
            max_size=options.max_size,
            **more,
        )
        assert isinstance(socket, Socket)
        return socket
    except InvalidStatus as error:
        response = error.response
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        raise OpenError(f"the server answered with HTTP {response.status_code}", response.status_code, retry_after) from error
    except (OSError, EOFError, WebSocketException) as error:  # TimeoutError is an OSError
        raise OpenError(str(error) or type(error).__name__) from error
