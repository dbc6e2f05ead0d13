"""One connection: its receiving loop, and the tasks that write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State as SocketState

from ._backoff import bounded_seconds
from ._dispatch import Dispatcher
from ._options import Options
from ._resume import Tracker
from ._sends import Frame, SendQueue, now, to_text
from ._transport import Socket

#: Handled messages, and seconds, after which an acknowledgement is sent.
ACK_MESSAGES = 100
ACK_SECONDS = 0.2
#: Seconds within which the server's close frame must follow its `disconnect`.
CLOSE_AFTER_ADVICE = 2.0
#: Codes after which the client stays away, also where no `disconnect` came before.
GONE_CODES = frozenset({4001, 4003, 4104})


@dataclass
class Ending:
    """The end of a connection, or of an attempt."""

    code: int
    reason: str
    stay_away: bool = False
    retry_after: float | None = None


class Connection:
    """A WebSocket whose handshake is done, until its end."""

    def __init__(
        self, socket: Socket, options: Options, tracker: Tracker, queue: SendQueue, dispatcher: Dispatcher,
        receive: Callable[[Frame, int], None], fail: Callable[[Exception], None], save: Callable[[], Awaitable[None]] | None,
        gap: float,
    ) -> None:
        self._socket = socket
        self._options = options
        self._tracker = tracker
        self._queue = queue
        self._dispatcher = dispatcher
        self._receive = receive
        self._fail = fail
        self._save = save
        #: Seconds between two messages, after the server has refused some for their rate.
        self._gap = gap
        self._advice: Frame | None = None
        self._paused = False
        self._handled = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._ack_now = asyncio.Event()
        self._wake = asyncio.Event()
        #: The `connection_status` has arrived: messages may be sent.
        self.greeted = asyncio.Event()
        #: Resolved at the end of the connection.
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened_at = time.monotonic()
        #: Something new was handled on this connection.
        self.progress = False

    async def run(self) -> Ending:
        """Serves the connection until its end."""
        work = (self._write(), self._acknowledge(), self._beat())
        tasks = [asyncio.get_running_loop().create_task(each, name="qy-lty connection") for each in work]
        try:
            return await self._read()
        finally:
            if not self.ended.done():
                self.ended.set_result(None)
            if self._ack_timer is not None:
                self._ack_timer.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Does the closing handshake, for at most `close_timeout`."""
        with contextlib.suppress(Exception):
            await self._socket.close()

    def wake(self) -> None:
        """Has the writer look for messages."""
        self._wake.set()

    def handled(self) -> None:
        """Notes that a message was handled."""
        self.progress = True
        self._handled += 1
        self.want_ack(self._handled >= ACK_MESSAGES)

    def want_ack(self, at_once: bool = False) -> None:
        """Has what is handled acknowledged soon, or at once."""
        if at_once:
            self._ack_now.set()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(ACK_SECONDS, self._ack_now.set)

    async def send_ack(self) -> None:
        """Acknowledges everything up to the lowest message that is not handled.

        The position is saved first: after a crash in between, the server sends the messages again, and they are known.
        """
        self._handled = 0
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        if self._save is not None:
            await self._save()
        last = self._tracker.take_ack()
        if last is not None and self._options.acknowledges:
            await self._socket.send(f'{{"type":"ack","message":{{"id":{last}}}}}')

    def pause(self) -> None:
        """Stops writing: the server closes the connection, and processes nothing that follows."""
        self._paused = True

    def advise(self, frame: Frame) -> None:
        """Takes in a `disconnect` frame."""
        self._paused = True
        self._advice = frame

    async def _read(self) -> Ending:
        deadline = asyncio.get_running_loop().time() + self._options.connect_timeout
        try:
            while True:
                limit = None if self.greeted.is_set() else max(deadline - asyncio.get_running_loop().time(), 0.01)
                if self._advice is not None:
                    limit = CLOSE_AFTER_ADVICE
                raw = await self._next(limit)
                if isinstance(raw, str):
                    self._take(raw)
                if not self._dispatcher.room.is_set():
                    # Not reading any further makes TCP slow the server down. Never with ack="client": the window is smaller.
                    await self._dispatcher.room.wait()
        except ConnectionClosed as error:
            for text in self._socket.remaining():
                self._take(text)
            return self._ending(error)
        except (asyncio.TimeoutError, TimeoutError):
            return self._advised() or Ending(1006, "the server sent no connection_status in time")

    async def _next(self, limit: float | None) -> str | bytes:
        if limit is None:
            return await self._socket.next_message()
        return await asyncio.wait_for(self._socket.next_message(), limit)

    def _take(self, raw: str) -> None:
        try:
            frame = json.loads(raw)
        except ValueError as error:
            self._fail(error)
            return
        if isinstance(frame, dict):
            self._receive(frame, len(raw))

    def _advised(self) -> Ending | None:
        if self._advice is None:
            return None
        code = self._advice.get("code")
        return Ending(
            code if isinstance(code, int) else 1006, str(self._advice.get("reason", "")),
            self._advice.get("reconnect") is False or code in GONE_CODES, bounded_seconds(self._advice.get("retry_after")),
        )

    def _ending(self, error: ConnectionClosed) -> Ending:
        advised = self._advised()
        if advised is not None:
            return advised
        if error.rcvd is not None:
            return Ending(error.rcvd.code, error.rcvd.reason, error.rcvd.code in GONE_CODES)
        # Without a close frame of the server; `sent` has the library's own reason, such as a ping without a pong.
        return Ending(1006, error.sent.reason if error.sent is not None else "the connection was lost")

    async def _write(self) -> None:
        await self.greeted.wait()
        with contextlib.suppress(ConnectionClosed):
            while True:
                send = None if self._paused else self._queue.take()
                if send is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if self._socket.state is not SocketState.OPEN:
                    self._queue.put_back(send)
                    return
                await self._socket.send(send.text)
                self._queue.wrote(send)
                if self._gap:
                    await asyncio.sleep(self._gap)

    async def _acknowledge(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._ack_now.wait()
                self._ack_now.clear()
                await self.send_ack()

    async def _beat(self) -> None:
        if not self._options.heartbeat_seconds:
            return
        await self.greeted.wait()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._options.heartbeat_seconds)
                if not self._paused:
                    await self._socket.send(to_text({"type": "ping", "message": {}, "timestamp": now()}))
