"""Calls the handlers of a client, beside the loop that receives."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ._events import finish
from ._resume import Entry
from ._sends import Frame

Handler = Callable[[Frame], Any]
#: Queued messages, and bytes of them, that wait for handlers. With `ack="client"` the server's window is below both; with "auto", no
#: more is read until there is room.
MAX_BACKLOG = 2000
MAX_BACKLOG_BYTES = 4 * 1024 * 1024
#: Live messages and replies that wait for handlers, and bytes of them. Further ones are dropped: the server keeps none either.
MAX_LIVE = 1000
MAX_LIVE_BYTES = 2 * 1024 * 1024


@dataclass
class Job:
    """A message for a handler."""

    frame: Frame
    size: int
    entry: Entry | None


@dataclass
class _Load:
    """A number of messages and of their bytes."""

    messages: int = 0
    bytes: int = 0

    def add(self, messages: int, size: int) -> None:
        self.messages += messages
        self.bytes += size

    def reaches(self, messages: int, size: int) -> bool:
        return self.messages >= messages or self.bytes >= size


async def call(handler: Callable[..., Any], *arguments: Any) -> None:
    """Calls a handler, which may be a coroutine function or an ordinary one."""
    result = handler(*arguments)
    if inspect.isawaitable(result):
        await result


class Dispatcher:
    """Handles messages in order, or up to `concurrency` at the same time.

    The tasks that do so end when nothing is left to do. `room` is set as long as the queued messages are within their bounds.
    """

    def __init__(self, concurrency: int, handle: Callable[[Job], Awaitable[None]], done: Callable[[Job], None]) -> None:
        self._concurrency = concurrency
        self._handle = handle
        self._done = done
        self._backlog: deque[Job] = deque()
        self._queued, self._live = _Load(), _Load()
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False
        self.room = asyncio.Event()
        self.room.set()

    def put(self, job: Job) -> bool:
        """Queues a message for its handler; returns false for a live one for which there is no room.

        While handlers are being ended it takes nothing: what is not handled comes again on the next connection.
        """
        if self._closing:
            return True
        if job.entry is None and self._live.reaches(MAX_LIVE, MAX_LIVE_BYTES):
            return False
        self._backlog.append(job)
        self._load(job).add(1, job.size)
        if self._queued.reaches(MAX_BACKLOG, MAX_BACKLOG_BYTES):
            self.room.clear()
        if len(self._workers) < self._concurrency:
            task = asyncio.get_running_loop().create_task(self._work(), name="qy-lty handler")
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        return True

    def _load(self, job: Job) -> _Load:
        return self._live if job.entry is None else self._queued

    async def _work(self) -> None:
        while self._backlog and not self._closing:
            job = self._backlog.popleft()
            self._load(job).add(-1, -job.size)
            if not self._queued.reaches(MAX_BACKLOG, MAX_BACKLOG_BYTES):
                self.room.set()
            await self._handle(job)
            self._done(job)
            # Handlers that never wait must not keep the loop from receiving.
            await asyncio.sleep(0)
        # At once, not in the callback: a message that arrives in between would find no room for a worker.
        current = asyncio.current_task()
        if current is not None:
            self._workers.discard(current)

    @property
    def closing(self) -> bool:
        """Whether handlers are being cancelled."""
        return self._closing

    async def close(self, seconds: float, caller: asyncio.Task[Any] | None) -> None:
        """Takes no more from the backlog, waits for running handlers, then cancels them; not the one that asks for it itself."""
        self._closing = True
        self._backlog.clear()
        self._queued, self._live = _Load(), _Load()
        self.room.set()
        await finish(self._workers, seconds, caller)

    def reopen(self) -> None:
        """Takes messages again, perhaps in another event loop."""
        self.room = asyncio.Event()
        self.room.set()
        self._closing = False
