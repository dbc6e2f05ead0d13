"""Events of a client."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("qy_lty_client")

#: The names of events.
EVENTS = frozenset({"connected", "disconnected", "missed", "recovered", "gone", "error", "message", "state"})


class Emitter:
    """Calls the functions that were registered for an event; coroutine functions run as tasks.

    An exception in one is logged: it ends neither the connection nor other functions.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[[Any], Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, name: str, handler: Callable[[Any], Any]) -> Callable[[], None]:
        """Registers a function; returns one that takes the registration back."""
        if name not in EVENTS:
            raise ValueError(f"unknown event {name!r}: events are {', '.join(sorted(EVENTS))}")
        handlers = self._handlers.setdefault(name, [])
        handlers.append(handler)

        def unsubscribe() -> None:
            if handler in handlers:
                handlers.remove(handler)

        return unsubscribe

    def handlers(self, name: str) -> list[Callable[[Any], Any]]:
        """Returns the functions for an event."""
        return list(self._handlers.get(name, ()))

    def emit(self, name: str, data: Any) -> None:
        """Calls the functions for an event."""
        for handler in self.handlers(name):
            self.call(handler, data)

    def call(self, handler: Callable[[Any], Any], data: Any) -> None:
        """Calls one function."""
        try:
            result = handler(data)
        except Exception:
            logger.exception("an event handler failed")
            return
        if inspect.isawaitable(result):
            task = asyncio.get_running_loop().create_task(self._wait(result), name="qy-lty event")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wait(self, result: Any) -> None:
        try:
            await result
        except Exception:
            logger.exception("an event handler failed")

    async def close(self, seconds: float, caller: asyncio.Task[Any] | None) -> None:
        """Waits for running functions, then cancels them; not the one that asks for it itself."""
        await finish(self._tasks, seconds, caller)


async def finish(tasks: set[asyncio.Task[Any]], seconds: float, caller: asyncio.Task[Any] | None) -> None:
    """Waits for tasks, then cancels those that are late; not the one that asks for it itself."""
    others = {task for task in tasks if task is not caller}
    if others:
        _, late = await asyncio.wait(others, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=seconds)
