"""Calls the handlers of a client, beside the loop that receives."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ._resume import Entry
from ._sends import Frame

Handler = Callable[[Frame], Any]
#: Messages, and bytes of them, that wait for handlers. With `ack="client"` the server's window is below both.
MAX_BACKLOG = 2000
MAX_BACKLOG_BYTES = 4 * 1024 * 1024


@dataclass
class Job:
    """A message for a handler."""

    frame: Frame
    size: int
    entry: Entry | None


async def call(handler: Callable[..., Any], *arguments: Any) -> None:
    """Calls a handler, which may be a coroutine function or an ordinary one."""
    result = handler(*arguments)
    if inspect.isawaitable(result):
        await result


class Dispatcher:
    """Handles messages in order, or up to `concurrency` at the same time.

    The tasks that do so end when nothing is left to do. `room` is set as long as the backlog is within its bounds.
    """

    def __init__(self, concurrency: int, handle: Callable[[Job], Awaitable[None]], done: Callable[[Job], None]) -> None:
        self._concurrency = concurrency
        self._handle = handle
        self._done = done
        self._backlog: deque[Job] = deque()
        self._bytes = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._closing = False
        self.room = asyncio.Event()
        self.room.set()

    @property
    def full(self) -> bool:
        """Whether the backlog has reached a bound."""
        return len(self._backlog) >= MAX_BACKLOG or self._bytes >= MAX_BACKLOG_BYTES

    def put(self, job: Job) -> None:
        """Queues a message for its handler."""
        self._backlog.append(job)
        self._bytes += job.size
        if self.full:
            self.room.clear()
        if len(self._workers) < self._concurrency:
            task = asyncio.get_running_loop().create_task(self._work(), name="qy-lty handler")
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._backlog and not self._closing:
            job = self._backlog.popleft()
            self._bytes -= job.size
            if not self.full:
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
        self._bytes = 0
        self.room.set()
        others = {task for task in self._workers if task is not caller}
        if others:
            _, late = await asyncio.wait(others, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=seconds)

    def reopen(self) -> None:
        """Takes messages again, perhaps in another event loop."""
        self.room = asyncio.Event()
        self.room.set()
        self._closing = False
