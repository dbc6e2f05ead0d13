"""The WebSocket client, with the names of the guide's class and more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ._engine import Engine
from ._options import Options, Token
from ._sends import Frame, Send
from .chat import ChatStream


class DeviceWebSocketClient:
    """A connection to qy-lty that comes back by itself.

    `token` is a token, or a function (ordinary or async) that returns one: it is called before the first connection, and once more
    when the server refuses what it returned. `base_url` begins with `ws://`, `wss://`, `http://` or `https://`; a path prefix is kept.
    Further keywords are the fields of `Options`.

    `on_connect`, `on_disconnect` and `on_error` may be set to functions: they get the `connection_status` frame, the data of the event
    `disconnected`, and an exception. `on` registers any number of functions for these and other events.

    A client belongs to one event loop, and to one task or more of it; it is not safe to use it from other threads (see
    `qy_lty_client.sync`).
    """

    def __init__(self, token: Token, base_url: str = "ws://localhost:8000", **options: Any) -> None:
        self.options = Options(**options)
        self._engine = Engine(token, base_url, self.options)
        self.on_connect: Callable[[Frame], Any] | None = None
        self.on_disconnect: Callable[[dict[str, Any]], Any] | None = None
        self._on_error: Callable[[Exception], Any] | None = None
        self._off_error: Callable[[], None] | None = None
        self.on("connected", lambda data: self.on_connect(data) if self.on_connect else None)
        self.on("disconnected", lambda data: self.on_disconnect(data) if self.on_disconnect else None)

    # -- the connection

    @property
    def state(self) -> str:
        """`idle`, `connecting`, `connected`, `waiting` (for the next attempt), `gone` (stays away) or `closed`."""
        return self._engine.state

    @property
    def running(self) -> bool:
        """Whether the client is connected, or will connect by itself."""
        return self.state in ("connecting", "connected", "waiting")

    @property
    def epoch(self) -> str | None:
        """The epoch of the server's data, once connected; ids of another one mean nothing."""
        return self._engine.tracker.epoch

    @property
    def last_id(self) -> int:
        """The id up to which every message was handled; 0 before the first."""
        return self._engine.tracker.handled

    @property
    def acknowledged(self) -> bool:
        """Whether everything that arrived is handled, and its acknowledgement written on the present connection."""
        return self.state == "connected" and self._engine.tracker.all_acked()

    @property
    def queue_size(self) -> int:
        """The number of sends that wait for a connection."""
        return len(self._engine.queue)

    async def connect(self, timeout: float | None = None) -> None:
        """Connects, and returns once the server has accepted the connection; receiving goes on in a task.

        A server that is not reachable is tried again, without a limit of attempts, until `timeout`, if there is one: `TimeoutError`.
        Raises `GoneError` where the server refuses the client for good, and `ConnectionError` where it is closed meanwhile.
        """
        await self._engine.closed()
        self._engine.start()
        try:
            await asyncio.wait_for(self._until_connected(), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            await self.disconnect()
            raise TimeoutError(f"no connection within {timeout:g} s") from None
        except asyncio.CancelledError:
            self._engine.cancel()
            raise

    async def _until_connected(self) -> None:
        state = self.state
        while state != "connected":
            if state == "gone" and self._engine.gone is not None:
                raise self._engine.gone
            if state == "closed":
                raise ConnectionError("the client was closed")
            state = await self._engine.next_state()

    async def disconnect(self) -> None:
        """Closes in order: running handlers get half a second, what is handled is acknowledged, then comes the closing handshake.

        Takes at most `close_timeout` (2 s), and as long as the store takes. A handler may call it; its own message then counts as not
        handled. `connect` may be called again.
        """
        await self._engine.close()

    async def wait_closed(self) -> None:
        """Waits until the client was closed; raises `GoneError` where it stays away."""
        while self.running:
            await self._engine.next_state()
        if self._engine.gone is not None:
            raise self._engine.gone

    async def __aenter__(self) -> DeviceWebSocketClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    # -- receiving

    @property
    def on_error(self) -> Callable[[Exception], Any] | None:
        """The function that gets errors; without it, and without one for the event `error`, they are logged."""
        return self._on_error

    @on_error.setter
    def on_error(self, handler: Callable[[Exception], Any] | None) -> None:
        if self._off_error is not None:
            self._off_error()
        self._on_error = handler
        self._off_error = self.on("error", handler) if handler is not None else None

    def register_handler(self, message_type: str, handler: Callable[[Frame], Any] | None) -> None:
        """Sets the function for messages of a type, ordinary or async, in place of an earlier one; `None` removes it.

        A queued message is acknowledged once its function has finished. An exception is logged and reported as the event `error`; the
        message counts as handled.
        """
        if handler is None:
            self._engine.handlers.pop(message_type, None)
        else:
            self._engine.handlers[message_type] = handler

    def on(self, name: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls a function at an event; returns a function that ends that.

        Events: `connected`, `disconnected`, `missed`, `recovered`, `gone`, `error`, `message`, `state`; see the README.
        """
        return self._engine.emitter.on(name, handler)

    # -- sending

    async def send_message(
        self, message_type: str, message_content: Any = None, *, retry: bool = False, ttl: float | None = None, target: Any = None,
    ) -> Send:
        """Sends a message, or queues it while there is no connection; `await send.outcome` tells its end.

        With `retry` it is sent again where the connection ends before the answer, on at most 10 connections: the server may process it
        more than once. `ttl` is the time in seconds for which it may wait for a connection. `target` is the recipient of the reply.
        Raises `ValueError` or `TypeError` for what is no JSON.
        """
        return await self._engine.send(message_type, message_content, {"target": target}, ttl=ttl, retry=retry)

    async def request(
        self, message_type: str, message_content: Any = None, *, timeout: float | None = None, retry: bool = False, target: Any = None,
    ) -> Frame:
        """Sends a message, and returns the server's reply to it, which no handler gets. A handler may call it.

        Raises `RequestError`: with the server's code, or `timeout` (after `request_timeout`, 30 s), `disconnected`, `full`, `closed`.
        """
        timeout = self.options.request_timeout if timeout is None else timeout
        return await self._engine.request(message_type, message_content, {"target": target}, timeout=timeout, retry=retry)

    def chat(self, text: str, *, timeout: float = 90.0, **options: Any) -> ChatStream:
        """Asks the language model; returns an async iterator of the parts of its answer.

        `timeout` is for each part; `options` become fields of the message.
        """
        return ChatStream(self._engine, text, timeout, options)

    async def send_chat_message(self, message: str) -> Send:
        """Says something; the answer is a `chat_response`."""
        return await self.send_message("chat_message", message)

    async def request_weather(self, city: str) -> Send:
        """Asks for the weather; the answer is a `weather_response`."""
        return await self.send_message("weather", {"city": city})

    async def request_sing(self, song: str, artist: str) -> Send:
        """Asks for a song; the answer is a `sing_response`."""
        return await self.send_message("sing", {"song": song, "artist": artist})

    async def request_dance(self, dance: str, style: str, duration: str = "30秒") -> Send:
        """Asks for a dance; the answer is a `dance_response`."""
        return await self.send_message("dance", {"dance": dance, "style": style, "duration": duration})
