"""One server for all tests, and a user for each."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from server import Server, User

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared() -> Iterator[Server]:
    if "QY_LTY" not in os.environ:
        pytest.exit("set QY_LTY to the server's binary", 2)
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def user(shared: Server) -> User:
    return shared.user(f"user{next(_numbers)}")


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers that the test may stop."""
    servers: list[Server] = []

    def start(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.remove()


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine; fails where it leaves a task, a timer, or a warning of asyncio behind."""

    def run_checked(main: Coroutine[Any, Any, Any]) -> Any:
        async def checked() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_debug(False)
            result = await asyncio.wait_for(main, 100)
            await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"leaked tasks: {left}"
            timers = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
            assert not [timer for timer in timers if "qy_lty" in repr(timer)], f"leaked timers: {timers}"
            return result

        with caplog.at_level(logging.WARNING, "asyncio"):
            result = asyncio.run(checked())
            gc.collect()  # has asyncio complain about exceptions that nobody retrieved
        assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text
        return result

    return run_checked


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Waits until a condition holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not await asyncio.to_thread(condition):
        assert loop.time() < end, "the condition did not come true in time"
        await asyncio.sleep(0.02)
