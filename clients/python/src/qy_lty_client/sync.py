"""The client for programs without asyncio: an event loop in a thread, and methods that block.

```python
from qy_lty_client.sync import DeviceWebSocketClient

with DeviceWebSocketClient("qlt_…", "ws://localhost:8000") as client:
    print(client.request("weather", {"city": "北京"})["data"])
```
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from . import client as asynchronous
from . import rest as asynchronous_rest
from ._options import Token
from ._sends import Frame, Outcome
from ._sends import Send as AsyncSend
from .chat import ChatStream

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qy-lty client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs a coroutine in the loop, and returns its result; after `timeout` it is cancelled: `TimeoutError`."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking method was called in the client's own thread: use the asynchronous client")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f"not done within {timeout} s") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._loop.close()


class Send:
    """A message that was given to the client."""

    def __init__(self, loop: _Loop, send: AsyncSend) -> None:
        self._loop = loop
        self._send = send

    @property
    def ref(self) -> str:
        """The reference that the reply carries."""
        return self._send.ref

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Waits for the end of the send; after `timeout`: `TimeoutError`."""
        if self._send.outcome.done():
            return self._send.outcome.result()

        async def wait() -> Outcome:
            return await asyncio.shield(self._send.outcome)

        return self._loop.run(wait(), timeout)


class Chat:
    """The answer to a question: an iterator of its parts; see `qy_lty_client.ChatStream`."""

    def __init__(self, loop: _Loop, stream: ChatStream) -> None:
        self._loop = loop
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        async def next_part() -> str | None:
            try:
                return await self._stream.__anext__()
            except StopAsyncIteration:
                return None

        while (part := self._loop.run(next_part())) is not None:
            yield part

    def text(self) -> str:
        """Reads to the end, and returns the whole answer."""
        return self._loop.run(self._stream.text())

    def cancel(self) -> bool:
        """Stops the question; another thread may do so."""
        return self._loop.run(self._stream.cancel())


class DeviceWebSocketClient:
    """As `qy_lty_client.DeviceWebSocketClient`, with blocking methods that any thread may call.

    Handlers are called in threads (up to `concurrency` at a time), so that they may block, and call the client. After `disconnect` the
    client can't be used again.
    """

    def __init__(self, token: Token, base_url: str = "ws://localhost:8000", **options: Any) -> None:
        self._client = asynchronous.DeviceWebSocketClient(token, base_url, **options)
        self._loop = _Loop()
        self._closed = False

    @property
    def state(self) -> str:
        """`idle`, `connecting`, `connected`, `waiting`, `gone` or `closed`."""
        return self._client.state

    @property
    def last_id(self) -> int:
        """The id up to which every message was handled."""
        return self._client.last_id

    def connect(self, timeout: float | None = None) -> None:
        """Connects; see the asynchronous client. Handlers should be registered before."""
        self._loop.run(self._client.connect(timeout))

    def disconnect(self) -> None:
        """Closes in order, and ends the thread. Not from a handler: it would wait for itself."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._client.disconnect())
            self._loop.close()

    def __enter__(self) -> DeviceWebSocketClient:
        try:
            self.connect()
        except BaseException:
            self.disconnect()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def register_handler(self, message_type: str, handler: Callable[[Frame], Any]) -> None:
        """Sets the function for messages of a type; it is called in a thread."""
        self._client.register_handler(message_type, _in_thread(handler))

    def on(self, name: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Calls a function at an event, in a thread; returns a function that ends that."""
        return self._client.on(name, _in_thread(handler))

    def send_message(self, message_type: str, message_content: Any = None, **settings: Any) -> Send:
        """Sends or queues a message: `retry`, `ttl`, `target`."""
        return Send(self._loop, self._loop.run(self._client.send_message(message_type, message_content, **settings)))

    def request(self, message_type: str, message_content: Any = None, **settings: Any) -> Frame:
        """Sends a message, and returns the reply: `timeout`, `retry`, `target`. Raises `RequestError`."""
        return self._loop.run(self._client.request(message_type, message_content, **settings))

    def chat(self, text: str, *, timeout: float = 90.0, **options: Any) -> Chat:
        """Asks the language model; returns an iterator of the parts of its answer."""
        return Chat(self._loop, self._client.chat(text, timeout=timeout, **options))

    def send_chat_message(self, message: str) -> Send:
        """Says something."""
        return self.send_message("chat_message", message)

    def request_weather(self, city: str) -> Send:
        """Asks for the weather."""
        return self.send_message("weather", {"city": city})

    def request_sing(self, song: str, artist: str) -> Send:
        """Asks for a song."""
        return self.send_message("sing", {"song": song, "artist": artist})

    def request_dance(self, dance: str, style: str, duration: str = "30秒") -> Send:
        """Asks for a dance."""
        return self.send_message("dance", {"dance": dance, "style": style, "duration": duration})


def _in_thread(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def call(data: Any) -> None:
        result = await asyncio.to_thread(handler, data)
        if inspect.isawaitable(result):
            await result

    return call


class RestClient:
    """As `qy_lty_client.RestClient`, whose methods block here: `RestClient(url).login(name, password)`.

    Lists are returned as lists; the types of results are those of the asynchronous methods.
    """

    def __init__(self, base_url: str = "http://localhost:8000", token: str | None = None, **options: Any) -> None:
        self._rest = asynchronous_rest.RestClient(base_url, token, **options)

    @property
    def token(self) -> str | None:
        """The token of further calls."""
        return self._rest.token

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._rest, name)
        if name.startswith("_") or not inspect.iscoroutinefunction(method):
            raise AttributeError(name)

        def blocking(*arguments: Any, **settings: Any) -> Any:
            return asyncio.run(method(*arguments, **settings))

        return blocking
