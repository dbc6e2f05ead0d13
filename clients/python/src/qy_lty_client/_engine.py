"""Connects, connects again, and passes frames between a connection, the queue and the handlers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from ._connection import Connection, Ending
from ._dispatch import Dispatcher, Handler, Job, call
from ._errors import GoneError, RequestError
from ._events import Emitter, logger
from ._options import Options, Token
from ._resume import Tracker
from ._sends import Composer, Frame, Outcome, Send, SendQueue, to_text
from ._store import STATE_VERSION, Saver, State, StoredSend
from ._tokens import TokenSource
from ._transport import OpenError, open_socket
from ._urls import split_base
from .chat import outcome_frame

#: A connection that lived for so long, in seconds, or on which something was handled, was a success: delays start anew.
GOOD_CONNECTION_SECONDS = 5.0
#: The longest gap between two messages after the server refused some for their rate, and its duration, in seconds.
MAX_GAP = 10.0
GAP_SECONDS = 600.0
#: Frames with an `id` that is not that of the frame itself.
STATUS_TYPES = frozenset({"delivery_status"})
#: Frames for the client: without a handler of their own nobody gets them.
INTERNAL_TYPES = frozenset({"connection_status", "disconnect", "missed", "pong"})


class Engine:
    """The client without its convenience; `state` is `idle`, `connecting`, `connected`, `waiting`, `gone` or `closed`."""

    def __init__(self, token: Token, base_url: str, options: Options) -> None:
        self.http_base, self._ws_base = split_base(base_url)
        self.options = options
        self.state = "idle"
        self.gone: GoneError | None = None
        self.emitter = Emitter()
        self.handlers: dict[str, Handler] = {}
        self.tracker = Tracker()
        self.queue = SendQueue(options.queue_limit, options.queue_bytes, self._queue_changed)
        self.connection: Connection | None = None
        self._composer = Composer()
        self._dispatcher = Dispatcher(options.concurrency, self._handle, self._done)
        self._tokens = TokenSource(token)
        self._saver = Saver(options.store, self._snapshot, self.fail) if options.store is not None else None
        self._loading: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[str]] = set()
        self._missed: tuple[Any, ...] | None = None
        self._gap = 0.0
        self._gap_until = 0.0

    # -- starting and ending

    def start(self) -> None:
        """Begins to connect, unless it does already."""
        if self._task is None or self._task.done():
            self.gone = None
            self._closing = None
            self._tokens.reset()
            self._dispatcher.reopen()
            self._set_state("connecting")
            self._task = asyncio.get_running_loop().create_task(self._run(), name="qy-lty client")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("the client ended with an error", exc_info=task.exception())
            self._set_state("closed")

    async def closed(self) -> None:
        """Waits for a closing that is going on."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def next_state(self) -> str:
        """Waits for a change of the state, and returns the new one."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        """Ends everything in order; later and concurrent calls wait for the first one."""
        if self._closing is None:
            caller = asyncio.current_task()
            self._closing = asyncio.get_running_loop().create_task(self._close(caller), name="qy-lty close")
        await asyncio.shield(self._closing)

    def cancel(self) -> None:
        """Stops connecting at once, for one who no longer waits for the first connection, unless somebody else does."""
        if not self._waiters and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(None), name="qy-lty close")

    async def _close(self, caller: asyncio.Task[Any] | None) -> None:
        total = self.options.close_timeout
        clock = asyncio.get_running_loop().time
        deadline = clock() + total
        was_connected = self.state == "connected"
        await self._dispatcher.close(total / 4, caller)
        connection = self.connection
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.send_ack(), max(deadline - clock(), 0.05))
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(connection.close(), max(deadline - clock(), 0.05))
        if self._task is not None and self._task is not caller and not self._task.done():
            if connection is not None:
                await asyncio.wait({self._task}, timeout=max(deadline - clock(), 0.05))
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=total)
        self.queue.close(stored=self._saver is not None)
        if self._saver is not None and self._loading is not None:
            await self._saver.flush()
        self.queue.clear()
        self.tracker.rewind()
        self._loading = None
        if self.state != "gone":
            if was_connected:
                self._disconnected(Ending(1000, "closed by the client"), None)
            self._set_state("closed")
        await self.emitter.close(total / 4, caller)

    def _set_state(self, state: str) -> None:
        if state == self.state:
            return
        self.state = state
        for waiter in list(self._waiters):
            if not waiter.done():
                waiter.set_result(state)
        self.emitter.emit("state", state)

    # -- the store

    async def load(self) -> None:
        """Reads the store, once."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(), name="qy-lty load")
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        if self.options.store is None:
            return
        try:
            state = await self.options.store.load()
        except Exception as error:  # whatever is wrong with the store, a device has to go on
            self.fail(error)
            return
        if state is None:
            return
        if not self.tracker.handled:
            self.tracker.restore(state["epoch"], state["last_id"])
        for stored in state["queue"]:
            self.queue.add(self._restored(stored))

    def _restored(self, stored: StoredSend) -> Send:
        frame: Frame = {"type": stored["type"], "message": stored["message"], "timestamp": stored["timestamp"], **stored["extra"]}
        frame["ref"] = stored["ref"]
        send = Send(frame, to_text(frame), retry=stored["retry"])
        send.ttl = stored["ttl"]
        send.answer_timeout = self.options.request_timeout
        send.stored = True
        return send

    def _snapshot(self) -> State:
        return State(
            version=STATE_VERSION, epoch=self.tracker.epoch, last_id=self.tracker.handled, queue=self.queue.stored_form(),
        )

    def _queue_changed(self) -> None:
        if self._saver is not None:
            self._saver.mark()

    # -- sending

    async def send(
        self, message_type: str, message: Any, extra: dict[str, Any], *, ttl: float | None = None, wait: bool = True, **settings: Any,
    ) -> Send:
        """Queues a message; while connected, waits until it is written, which slows down one who sends without end."""
        await self.load()
        frame = self._composer.compose(message_type, message, extra)
        send = Send(frame, to_text(frame), retry=settings.get("retry", False), private=settings.get("private", False),
                    keep=settings.get("keep", True))
        send.ttl = ttl
        send.answer_timeout = settings.get("answer_timeout", self.options.request_timeout)
        send.on_part = settings.get("on_part")
        if not self._accept(send):
            return send
        connection = self.connection if self.state == "connected" else None
        if self._saver is not None and send.keep and (send.retry or connection is None):
            await self._saver.flush()
        if connection is not None:
            connection.wake()
            if wait:
                await asyncio.wait({send.written, connection.ended}, return_when=asyncio.FIRST_COMPLETED)
        return send

    async def request(self, message_type: str, message: Any, extra: dict[str, Any], *, timeout: float, retry: bool) -> Frame:
        """Sends a message, and returns the reply to it; raises `RequestError`."""
        send = await self.send(
            message_type, message, extra, wait=False, retry=retry, private=True, keep=False, answer_timeout=None,
        )
        try:
            await asyncio.wait({send.outcome}, timeout=timeout)
            if not send.outcome.done():
                raise RequestError("timeout", f"no answer to {message_type!r} within {timeout:g} s")
            return outcome_frame(send.outcome.result())
        finally:
            if not send.outcome.done():
                self.queue.forget(send)

    def _accept(self, send: Send) -> bool:
        if self._closing is not None or self.state in ("gone", "closed"):
            send.settle(Outcome("dropped", "closed"))
            return False
        if send.size > self.options.max_frame_bytes:
            # The server would close the connection with 1009, and everything behind it would wait.
            text = f"the message has {send.size} bytes; at most {self.options.max_frame_bytes} are allowed"
            send.settle(Outcome("dropped", "refused", code="MESSAGE_TOO_LARGE", message=text))
            return False
        return self.queue.add(send)

    # -- the loop

    async def _run(self) -> None:
        await self.load()
        failures = 0
        while True:
            self._set_state("connecting")
            ending, good = await self._attempt()
            self.queue.connection_lost()
            if self._closing is not None:
                return
            failures = 0 if good else failures + 1
            if ending.stay_away and not (ending.code == 4001 and self._tokens.renew()):
                self._stay_away(ending)
                return
            delay = self.options.back_off.delay(0 if ending.stay_away else failures, ending.retry_after)
            self._disconnected(ending, delay)
            self._set_state("waiting")
            await asyncio.sleep(delay)

    async def _attempt(self) -> tuple[Ending, bool]:
        """Makes one connection, and serves it until its end; returns that, and whether the connection was of use."""
        try:
            token = await self._tokens.get()
        except Exception as error:  # whatever the function raises: a service for tokens may be down for a while
            self.fail(error)
            return Ending(1006, f"no token: {error}"), False
        try:
            socket = await open_socket(self._ws_base, token, self.tracker.since(), self.options)
        except OpenError as error:
            if error.status == 401:
                return Ending(4001, str(error), stay_away=True), False
            self.fail(error)
            return Ending(1006, str(error), retry_after=error.retry_after), False
        if time.monotonic() > self._gap_until:
            self._gap = 0.0
        save = self._saver.flush if self._saver is not None else None
        connection = Connection(
            socket, self.options, self.tracker, self.queue, self._dispatcher, self._receive, self.fail, save, self._gap,
        )
        self.connection = connection
        try:
            ending = await connection.run()
        except Exception as error:  # a frame that nobody could foresee must not end the client
            self.fail(error)
            ending = Ending(1006, str(error))
        finally:
            self.connection = None
        if ending.code == 4008 and ending.retry_after is not None:
            self._gap = min(max(self._gap, ending.retry_after), MAX_GAP)
            self._gap_until = time.monotonic() + GAP_SECONDS
        good = connection.progress or (
            connection.greeted.is_set() and time.monotonic() - connection.opened_at >= GOOD_CONNECTION_SECONDS
        )
        return ending, good

    def _stay_away(self, ending: Ending) -> None:
        self.gone = GoneError(ending.code, ending.reason)
        self._disconnected(ending, None)
        self.queue.close(stored=self._saver is not None)
        self.emitter.emit("gone", {"code": ending.code, "reason": ending.reason, "meaning": self.gone.meaning})
        self._set_state("gone")

    def _disconnected(self, ending: Ending, retry_in: float | None) -> None:
        self.emitter.emit("disconnected", {
            "code": ending.code, "reason": ending.reason, "will_reconnect": retry_in is not None, "retry_in": retry_in,
        })

    def fail(self, error: Exception) -> None:
        """Reports an error that ends nothing."""
        if self.emitter.handlers("error"):
            self.emitter.emit("error", error)
        else:
            logger.warning("%s", error)

    # -- receiving

    def _receive(self, frame: Frame, size: int) -> None:
        connection = self.connection
        assert connection is not None
        kind = frame.get("type")
        if kind == "connection_status" and not connection.greeted.is_set():
            self._greet(connection, frame)
        elif kind == "disconnect":
            connection.advise(frame)
        elif kind == "missed":
            self._emit_missed(frame)
        elif kind == "error" and frame.get("code") == "RATE_LIMITED":
            connection.pause()
        message_id = frame.get("id")
        entry = None
        if isinstance(message_id, int) and kind not in STATUS_TYPES:
            entry = self.tracker.accept(message_id)
            if entry is None:
                if self.tracker.ack_due():
                    connection.want_ack()
                return
        job = Job(frame, size, entry)
        if self.queue.answer(frame):
            self._done(job)
        elif kind in INTERNAL_TYPES and kind not in self.handlers:
            pass
        elif not self._dispatcher.put(job):
            self.fail(BufferError(f"a live message of type {kind!r} was dropped: the handlers are too slow"))

    def _greet(self, connection: Connection, frame: Frame) -> None:
        last_id = frame.get("last_id")
        # A replay that the program has asked for begins anew until something of it is handled.
        place = last_id if isinstance(last_id, int) and self.options.since is None else 0
        self.tracker.start_connection(str(frame.get("epoch") or ""), place, bool(frame.get("pending")))
        self._tokens.accepted()
        connection.greeted.set()
        self._set_state("connected")
        self.emitter.emit("connected", frame)
        if frame.get("recovered") is True:
            self.emitter.emit("recovered", {"pending": frame.get("pending"), "last_id": frame.get("last_id")})
        elif frame.get("recovered") is False or frame.get("missed"):
            # The server repeats it until something is acknowledged.
            key = (frame.get("epoch"), frame.get("missed"), self.tracker.handled)
            if key != self._missed:
                self._missed = key
                self.emitter.emit("missed", {"count": frame.get("missed"), "after": None, "upto": None})

    def _emit_missed(self, frame: Frame) -> None:
        after, upto = frame.get("after"), frame.get("upto")
        count = upto - after if isinstance(after, int) and isinstance(upto, int) else None
        self.emitter.emit("missed", {"count": count, "after": after, "upto": upto})

    async def _handle(self, job: Job) -> None:
        handler = self.handlers.get(str(job.frame.get("type")))
        handlers = [handler] if handler is not None else self.emitter.handlers("message")
        if not handlers:
            logger.info("received a message of type %r", job.frame.get("type"))
        for each in handlers:
            try:
                await call(each, job.frame)
            except asyncio.CancelledError:
                if self._dispatcher.closing:
                    raise
                self.fail(RuntimeError(f"the handler of {job.frame.get('type')!r} was cancelled"))
            except Exception as error:  # the message counts as handled: one that always fails must not stop all others
                logger.exception("the handler of %r failed", job.frame.get("type"))
                if self.emitter.handlers("error"):
                    self.emitter.emit("error", error)

    def _done(self, job: Job) -> None:
        if job.entry is None:
            return
        self.tracker.finish(job.entry)
        if self.connection is not None:
            self.connection.handled()
        elif self._saver is not None and self._closing is None:  # the last save has been made, with the sends that wait
            self._saver.mark()
