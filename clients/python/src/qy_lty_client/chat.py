"""An answer of a language model, part by part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ._errors import RequestError
from ._sends import Frame, Outcome, Send

if TYPE_CHECKING:
    from types import TracebackType

    from ._engine import Engine

#: The characters of an answer that wait to be read; the server's answers end at 8,000.
MAX_CHARACTERS = 1_000_000


class ChatStream:
    """The answer to one question: an async iterator of its parts.

    The question is sent when the first part is asked for. `async with` stops the question where the block is left before the end:

        async with client.chat("tell me a story") as answer:
            async for part in answer:
                print(part, end="")

    Without a model, and where the server does not stream, the whole answer is the only part. An error raises `RequestError`, with the
    code `disconnected` where the connection ended: the question went with it. A question that was stopped ends without an error.
    """

    def __init__(self, engine: Engine, text: str, timeout: float, options: dict[str, Any]) -> None:
        self._engine = engine
        self._message = {"content": text, "stream": True, **options}
        self._timeout = timeout
        self._send: Send | None = None
        self._parts: list[str] = []
        self._characters = 0
        self._news = asyncio.Event()
        self._yielded = False
        self._final: Frame | None = None
        self._over = False
        #: Set once the question was stopped.
        self.cancelled = False

    @property
    def ref(self) -> str | None:
        """The reference of the question, once it was sent."""
        return self._send.ref if self._send is not None else None

    def __aiter__(self) -> ChatStream:
        return self

    async def __anext__(self) -> str:
        await self._start()
        while not self._parts:
            if self._over:
                raise StopAsyncIteration
            assert self._send is not None
            if self._send.outcome.done():
                self._finish(self._send.outcome.result())
                continue
            self._news.clear()
            await self._news.wait()
        part = "".join(self._parts)
        self._parts.clear()
        self._characters = 0
        self._yielded = True
        return part

    async def text(self) -> str:
        """Reads to the end, and returns the whole answer, as the server has it; of a stopped question, what arrived before."""
        parts = [part async for part in self]
        if self._final is not None and isinstance(self._final.get("message"), str):
            return str(self._final["message"])
        return "".join(parts)

    async def cancel(self) -> bool:
        """Stops the question; returns whether there was something to stop. Its parts end then."""
        if self._send is None or self._send.outcome.done():
            self._over = True
            self._news.set()
            return False
        if self._send.tries == 0:
            self._engine.queue.forget(self._send)
            self.cancelled = True
            return True
        reply = await self._engine.request("chat_cancel", {"ref": self._send.ref}, {}, timeout=self._timeout, retry=False)
        return reply.get("cancelled") is True

    async def __aenter__(self) -> ChatStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._over:
            return
        try:
            await self.cancel()
        except RequestError:
            pass  # the connection ended, and the question with it
        finally:
            if self._send is not None:
                self._engine.queue.forget(self._send)

    async def _start(self) -> None:
        if self._send is None and not self._over:
            self._send = await self._engine.send(
                "chat_message", self._message, {}, ttl=self._timeout, wait=False, private=True, keep=False,
                answer_timeout=self._timeout, on_part=self._take,
            )
            self._send.outcome.add_done_callback(lambda _: self._news.set())

    def _take(self, frame: Frame) -> None:
        part = frame.get("message")
        if isinstance(part, str) and part and self._characters < MAX_CHARACTERS:
            self._parts.append(part)
            self._characters += len(part)
            self._news.set()

    def _finish(self, outcome: Outcome) -> None:
        self._over = True
        if self.cancelled:
            return
        frame = outcome_frame(outcome)
        if frame.get("type") == "chat_cancelled":
            self.cancelled = True
            return
        self._final = frame
        if not self._yielded and isinstance(frame.get("message"), str):
            self._parts.append(frame["message"])


def outcome_frame(outcome: Outcome) -> Frame:
    """Returns the answer of a request, or raises `RequestError`."""
    if outcome.status == "answered":
        assert outcome.reply is not None
        return outcome.reply
    if outcome.reason == "refused":
        raise RequestError(outcome.code or "refused", outcome.message or "the server refused it")
    texts = {
        "unanswered": ("timeout", "no answer came in time"),
        "disconnected": ("disconnected", "the connection ended before the answer"),
        "full": ("full", "too many messages wait for the connection"),
        "expired": ("expired", "it waited too long for a connection"),
        "closed": ("closed", "the client is closed"),
    }
    raise RequestError(*texts[outcome.reason or "closed"])
