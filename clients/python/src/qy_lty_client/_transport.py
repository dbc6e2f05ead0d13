"""Opens the WebSocket, with any version of websockets from 13.0 on."""

from __future__ import annotations

import ssl as ssl_module
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
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


class _Connect(connect):
    """Follows no redirects: the token is for the address that the program names."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_socket(ws_base: str, token: str, since: str | None, options: Options) -> ClientConnection:
    """Returns a connection after its handshake; raises `OpenError`. The token is in a header, where no log of URLs has it."""
    url = socket_url(ws_base, options.parameters(since))
    more: dict[str, Any] = {}
    if url.startswith("wss:"):
        more["ssl"] = options.ssl or ssl_module.create_default_context()
    try:
        return await _Connect(
            url,
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
    except InvalidStatus as error:
        response = error.response
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        raise OpenError(f"the server answered with HTTP {response.status_code}", response.status_code, retry_after) from error
    except (OSError, EOFError, WebSocketException) as error:  # TimeoutError is an OSError
        raise OpenError(str(error) or type(error).__name__) from error
