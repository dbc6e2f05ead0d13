"""Stores for the position and the queue of sends, so that both outlive the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypedDict

#: The layout of the state; a store with another one is not read.
STATE_VERSION = 1
#: The largest file that is read or written, in bytes.
MAX_STATE_BYTES = 16 * 1024 * 1024


class StoredSend(TypedDict):
    """A send that waits."""

    type: str
    message: Any
    ref: str
    timestamp: str
    extra: dict[str, Any]
    retry: bool
    #: Seconds for which it may still wait; `None`: for ever. Time while no program runs does not count.
    ttl: float | None


class State(TypedDict):
    """The content of a store."""

    version: int
    epoch: str | None
    last_id: int
    queue: list[StoredSend]


class Store(Protocol):
    """A place for the state of one client. Calls never overlap."""

    async def load(self) -> State | None:
        """Returns the state that was saved last, or `None` where there is none."""

    async def save(self, state: State) -> None:
        """Replaces the state as a whole: a crash leaves the old one or the new one."""


class FileStore:
    """Keeps the state in a file, which one client at a time may use.

    The file is replaced atomically: a crash or power cut leaves the old or the new state. It is at most 16 MiB long, and only its
    owner can read it, since it contains messages. A damaged file is renamed to `NAME.damaged`, and the client starts anew.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    async def load(self) -> State | None:
        """Returns the state in the file; `None` where there is no file."""
        return await asyncio.to_thread(self._load)

    async def save(self, state: State) -> None:
        """Replaces the file, and waits until it is on disk."""
        await asyncio.to_thread(self._save, state)

    def _load(self) -> State | None:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return None
        try:
            if len(data) > MAX_STATE_BYTES:
                raise ValueError("the file is too long")
            return check_state(json.loads(data))
        except ValueError as error:
            damaged = self.path.with_name(self.path.name + ".damaged")
            os.replace(self.path, damaged)
            raise ValueError(f"{self.path} is damaged ({error}); it was renamed to {damaged}") from error

    def _save(self, state: State) -> None:
        data = json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode()
        if len(data) > MAX_STATE_BYTES:
            raise ValueError(f"the state has {len(data)} bytes; {self.path} may have {MAX_STATE_BYTES}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            with os.fdopen(os.open(scratch, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        # The new name must be on disk too. Windows can't open directories, and has no need for it.
        with contextlib.suppress(OSError):
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def check_state(value: Any) -> State:
    """Returns a state that was read; raises `ValueError` where it is none."""
    if not isinstance(value, dict) or value.get("version") != STATE_VERSION:
        raise ValueError(f"no state of version {STATE_VERSION}")
    epoch, last_id, queue = value.get("epoch"), value.get("last_id"), value.get("queue")
    if not (epoch is None or isinstance(epoch, str)) or not isinstance(last_id, int) or last_id < 0 or not isinstance(queue, list):
        raise ValueError("a field of the state is missing")
    for send in queue:
        fields = isinstance(send, dict) and [send.get(name) for name in ("type", "ref", "timestamp")]
        if not fields or not all(isinstance(field, str) for field in fields) or "message" not in send:
            raise ValueError("a field of a stored send is missing")
    return State(version=STATE_VERSION, epoch=epoch, last_id=last_id, queue=[_complete(send) for send in queue])


def _complete(send: dict[str, Any]) -> StoredSend:
    ttl, extra = send.get("ttl"), send.get("extra")
    return StoredSend(
        type=send["type"], message=send["message"], ref=send["ref"], timestamp=send["timestamp"],
        extra=extra if isinstance(extra, dict) else {}, retry=bool(send.get("retry")),
        ttl=float(ttl) if isinstance(ttl, (int, float)) else None,
    )


class Saver:
    """Saves a state that changes: one save at a time, each with the newest state, however often it changed meanwhile."""

    def __init__(self, store: Store, snapshot: Callable[[], State], on_error: Callable[[Exception], None]) -> None:
        self._store = store
        self._snapshot = snapshot
        self._on_error = on_error
        self._dirty = False
        self._task: asyncio.Task[None] | None = None

    def mark(self) -> asyncio.Task[None]:
        """Notes a change; returns the task that saves it."""
        self._dirty = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._save(), name="qy-lty save")
        return self._task

    async def flush(self) -> None:
        """Notes a change, and waits until it is saved, or was reported as an error."""
        await asyncio.shield(self.mark())

    async def _save(self) -> None:
        while self._dirty:
            self._dirty = False
            try:
                await self._store.save(self._snapshot())
            except Exception as error:  # a full disk must not end the connection; the next change tries again
                self._on_error(error)
