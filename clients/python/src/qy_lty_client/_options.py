"""Options of a client."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from ._backoff import BackOff
from ._store import Store
from ._urls import CLIENT_NAME

#: A token, or a function that returns a fresh one.
Token = str | Callable[[], str | Awaitable[str]]
#: The largest message that is received unless `max_bytes` says otherwise; the server's are at most 256 KiB by default.
DEFAULT_MAX_SIZE = 1024 * 1024
#: Room for what the server puts around a payload.
ENVELOPE_BYTES = 4096


@dataclass(frozen=True)
class Options:
    """Everything about a client but its token and address; see the README for each."""

    client: str | None = None
    since: int | str | None = None
    ack: Literal["client", "auto"] = "client"
    peek: bool = False
    concurrency: int = 1
    store: Store | None = None
    queue_limit: int = 1000
    queue_bytes: int = 1024 * 1024
    heartbeat_seconds: float = 30.0
    request_timeout: float = 30.0
    connect_timeout: float = 20.0
    close_timeout: float = 2.0
    back_off: BackOff = field(default_factory=BackOff)
    max_bytes: int | None = None
    max_frame_bytes: int = 65536
    ssl: ssl_module.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.client is not None and not CLIENT_NAME.match(self.client):
            raise ValueError(f"client {self.client!r} must have 1 to 64 of the characters A-Z a-z 0-9 . _ -")
        if self.ack not in ("client", "auto"):
            raise ValueError(f"ack {self.ack!r} must be 'client' or 'auto'")
        for name in ("concurrency", "queue_limit", "queue_bytes", "max_frame_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("request_timeout", "connect_timeout", "close_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if self.heartbeat_seconds < 0:
            raise ValueError("heartbeat_seconds must not be negative; 0 sends no heartbeat")
        if self.max_bytes is not None and self.max_bytes < 1024:
            raise ValueError("max_bytes must be at least 1024")

    @property
    def acknowledges(self) -> bool:
        """Whether messages are acknowledged with frames; an observer may not do so."""
        return self.ack == "client" and not self.peek

    @property
    def max_size(self) -> int:
        """The largest frame that is received, in bytes: `max_bytes` bounds queued messages alone, not replies and live messages."""
        return max(DEFAULT_MAX_SIZE, (self.max_bytes or 0) + ENVELOPE_BYTES)

    def parameters(self, since: str | None) -> dict[str, str]:
        """Returns the query parameters of a connection."""
        parameters = {}
        if self.client is not None:
            parameters["client"] = self.client
        if since is None and self.since is not None:
            since = str(self.since)
        if since is not None:
            parameters["since"] = since
        if self.peek:
            parameters["peek"] = "1"
        elif self.ack == "client":
            parameters["ack"] = "client"
        if self.max_bytes is not None:
            parameters["max_bytes"] = str(self.max_bytes)
        return parameters
