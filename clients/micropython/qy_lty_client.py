"""Client of qy-lty for MicroPython 1.21 and later, standard modules only. Speaks `qy-lty.v1`; README.md has the API.

Bounds: `max_bytes` for a message, twice that and INBOX_LIMIT for messages that wait for handlers, `queue_limit` and `queue_bytes`
for sends. A buffer is made for what is there, not for the bound. The other half is qy_lty_parts.py.
"""
import asyncio
import binascii
import json
import os
import time

from qy_lty_parts import MAX_RETRY_AFTER, Chat, Ended, Events, FileStore, Outcome, RequestError, Send, Socket, pair, rest
from qy_lty_parts import frame_of, is_name, query_of, result_of, within

__version__ = "0.2.0"
__all__ = ("Chat", "DeviceWebSocketClient", "Ended", "FileStore", "Outcome", "RequestError", "Send", "pair", "rest")
# Close codes after which a client stays away, and the remedy.
GONE = {4001: "get another token", 4003: "fix the URL", 4104: "delete a client that is no longer used"}
INBOX_LIMIT = 16
CONNECT_SECONDS = 20  # From the address look-up to the first event.
CLOSE_SECONDS = 2
ACK_MESSAGES, ACK_SECONDS = 100, 0.2
GOOD_MS = 5000  # A connection that lived for so long, or on which something was handled, was a success.
MAX_TRIES = 10  # Connections on which a send with `retry` is written.


class DeviceWebSocketClient(Events):
    """A connection that is made again whenever it ends; README.md explains each option."""

    def __init__(self, token, base_url="ws://localhost:8000", client=None, since=None, ack="client", max_bytes=8192, store=None,
                 queue_limit=20, queue_bytes=16384, heartbeat_seconds=30, request_timeout=30, back_off=None, ssl=None):
        if ack not in ("client", "auto") or max_bytes < 1024 or heartbeat_seconds <= 0 or not is_name(client):
            raise ValueError("ack must be 'client' or 'auto', max_bytes at least 1024, heartbeat_seconds above 0, client a name")
        super().__init__()
        self.token, self.base_url, self.client, self.ack, self.max_bytes, self.ssl = token, base_url, client, ack, max_bytes, ssl
        self.store, self.queue_limit, self.queue_bytes, self.heartbeat = store, queue_limit, queue_bytes, heartbeat_seconds
        self.request_timeout, self.back_off = request_timeout, back_off or {}
        self._prefix, self._number = binascii.hexlify(os.urandom(4)).decode(), 0
        state = store.load() if store else {}
        self._epoch, self._last, self._since = state.get("epoch"), state.get("id", 0), since
        self._taken, self._base, self._saved = self._last, 0, None  # Taken into the inbox; handled is `_last`.
        self._queue = [Send(ref, text.encode(), retry) for ref, text, retry in state.get("queue", ())]
        self._unanswered, self._inbox, self._inbox_bytes, self._current, self._unacked = [], [], 0, None, 0
        self._task = self._worker = self._socket = self._told = None
        for name in ("_over", "_ready", "_stop", "_more", "_filled", "_space", "_due", "_full", "_first"):
            setattr(self, name, asyncio.Event())

    # Connection.
    async def connect(self):
        """Connects, and keeps connected; returns once connected for the first time. Raises `Ended` if the client has to stay away."""
        if not self._task or self._task.done():
            self._stop.clear()
            self._first.clear()
            self._task = asyncio.create_task(self._run())
            if not self._worker or self._worker.done():
                self._worker = asyncio.create_task(self._work())
        await self._first.wait()
        if self._stop.is_set() or self.state == "gone":
            raise self._ending if self.state == "gone" else Ended(1000, "the client was closed")

    async def disconnect(self):
        """Closes in order: finishes the running handler, acknowledges, shakes hands; after 2 seconds each without ado.

        Returns whether the server confirmed it: it then has the acknowledgement of everything that was handled.
        """
        task, worker, self._task = self._task, self._worker, None
        for event in (self._stop, self._filled, self._first):
            event.set()
        own = asyncio.current_task()
        until = time.ticks_add(time.ticks_ms(), CLOSE_SECONDS * 1000)
        while self._current is not None and own is not worker and time.ticks_diff(until, time.ticks_ms()) > 0:
            await asyncio.sleep(0.01)
        closed = False
        if self._ready.is_set():
            try:
                closed = await within(self._close(), CLOSE_SECONDS) and self._ending.code == 1000
            except OSError:
                pass  # The connection ends meanwhile.
        self._over.set()
        if task:
            await task
            if own is not worker:
                worker.cancel()
                self._worker = self._current = None
        # A handler that called this finishes afterwards; its message is not to be taken again.
        self._inbox, self._inbox_bytes, self._taken = [], 0, max(self._last, self._current or 0)
        self._save()
        self._drop()
        if self.state != "gone":
            self._enter("closed")
        return closed

    def _drop(self):
        """Ends the sends that wait; a store keeps them for the next start."""
        for send in self._queue:
            send.settle("dropped", "closed")
        self._queue = [send for send in self._queue if not send.private] if self.store else []

    async def _close(self):
        await self._acknowledge()
        await self._socket.write(8, b"\x03\xe8")
        await self._over.wait()

    async def _run(self):
        tries, renewed = 0, False
        while not self._stop.is_set():
            self._enter("connecting")
            before, began = self._last, time.ticks_ms()
            greeted = await self._session()
            ending, good = self._ending, self._last != before or time.ticks_diff(time.ticks_ms(), began) > GOOD_MS
            tries, renewed = 0 if greeted and good else tries + 1, renewed and not greeted
            advice = self._advice or {}
            again = advice.get("reconnect", True) and ending.code not in GONE
            if ending.code == 4001 and callable(self.token) and not renewed:
                again = renewed = True  # Once: the function may have a fresh token.
            again = again and not self._stop.is_set()
            most = min(self.back_off.get("most", 60), self.back_off.get("first", 1) * 2 ** min(tries, 16))
            # Full jitter; 0: the client itself made room.
            wait = most * int.from_bytes(os.urandom(2), "big") / 65536 if ending.code else 0
            after = advice.get("retry_after") or ending.retry_after
            if isinstance(after, (int, float)):
                wait = max(wait, min(after, MAX_RETRY_AFTER))
            if greeted:
                self._emit("disconnected", {"code": ending.code, "reason": ending.reason, "will_reconnect": again,
                                            "retry_in": wait if again else None})
            elif again:
                self._emit("error", {"error": ending, "where": "connect", "retry_in": wait})
            if not again and not self._stop.is_set():
                self._enter("gone")
                self._emit("gone", {"code": ending.code, "reason": ending.reason, "meaning": GONE.get(ending.code, "do not reconnect")})
                self._first.set()
                return self._drop()
            if not self._stop.is_set():
                self._enter("waiting")
                await within(self._stop.wait(), wait)

    async def _session(self):
        """Runs one connection to its end, `_ending`; returns whether the server greeted it."""
        self._over.clear()
        self._ready.clear()
        self._socket, self._ending, self._advice = Socket(), Ended(1006, ""), None
        self._arrived = self._acked = self._unacked = 0
        self._heard = time.ticks_ms()
        self._behind = self._paused = False
        tasks = [asyncio.create_task(self._until_over(part)) for part in (
            self._receive(), self._transmit(), self._beat(), self._acknowledge_always())]
        await self._over.wait()
        for task in tasks:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        await self._socket.close()
        greeted = self._ready.is_set()
        self._ready.clear()
        again, unanswered, self._unanswered = [], self._unanswered, []
        for send in unanswered:
            again.append(send) if send.retry and send.tries < MAX_TRIES else send.settle("sent", "disconnected")
        self._queue = again + self._queue
        return greeted

    async def _until_over(self, part):
        try:
            await part
        except Exception as error:
            self._end(error if isinstance(error, Ended) else Ended(1006, repr(error)))
        finally:
            self._over.set()

    def _end(self, ending):
        if not self._over.is_set():
            self._ending = ending
            self._over.set()

    async def _beat(self):
        """Sends the heartbeat, and ends a connection that is silent for two and a half of them."""
        await asyncio.wait_for(self._ready.wait(), CONNECT_SECONDS)
        while True:
            await asyncio.sleep(self.heartbeat)
            if not self._paused and time.ticks_diff(time.ticks_ms(), self._heard) > self.heartbeat * 2500:
                raise Ended(1006, "the server is silent")
            await asyncio.wait_for(self._socket.write(1, b'{"type":"ping"}'), self.heartbeat)

    # Receiving.
    async def _receive(self):
        host, prefix = await self._socket.open(self.base_url, self.ssl)
        token = self.token() if callable(self.token) else self.token
        last = self._last or self._base
        since = "%s:%d" % (self._epoch, last) if self._epoch and last else self._since
        query = query_of(client=self.client, since=since, ack="client" if self.ack == "client" else None, max_bytes=self.max_bytes)
        token = await token if hasattr(token, "send") else token
        await self._socket.upgrade(host, prefix + "/ws/device/?" + query, token)
        while True:
            code, data = await self._socket.frame(self.max_bytes)
            self._heard = time.ticks_ms()
            if code == 9 and not (self._behind and self.ack == "auto"):  # Such a pong would acknowledge what was left out.
                await self._socket.write(10, data)
            elif code == 8:
                number = int.from_bytes(data[:2], "big") if len(data) > 1 else 1006
                if not self._stop.is_set():
                    await self._socket.write(8, data[:2])
                raise Ended(number, data[2:].decode())
            elif code == 1 and data is None:
                self._emit("error", {"error": ValueError("a message above max_bytes was left out"), "where": "receive"})
            elif code == 1:
                await self._take(json.loads(data), len(data))

    async def _take(self, frame, size):
        kind, number = frame.get("type"), frame.get("id")
        if kind == "connection_status":
            self._greet(frame)
        elif kind == "disconnect":
            self._advice = frame
            await self._acknowledge()
            raise Ended(frame.get("code", 1006), frame.get("reason", ""))  # The close frame behind it adds nothing.
        elif kind == "missed":
            self._emit("missed", {"count": None, "after": frame.get("after"), "upto": frame.get("upto")})
        if not isinstance(number, int):
            silent = kind in ("connection_status", "missed", "pong") and kind not in self._handlers
            if self._answer(frame) or silent or not await self._room(size):
                return
            number = 0
        elif self._behind:
            return
        else:
            self._arrived = number
            if number <= self._taken:
                return self._due.set()  # A repeat; the acknowledgement was lost.
            if not await self._room(size):
                self._behind = True  # This and the following messages come again on the next connection.
                return
            self._taken = number
        self._inbox.append((frame, size, number, self._epoch))
        self._inbox_bytes += size
        self._filled.set()

    async def _room(self, size):
        """Waits for room in the inbox; returns false where a send waits for its reply, which may be behind this message."""
        room = True
        while room and self._inbox and (len(self._inbox) >= INBOX_LIMIT or self._inbox_bytes + size > 2 * self.max_bytes):
            self._space.clear()
            self._paused = True  # Not reading: silence means nothing.
            room = await within(self._space.wait(), 1) or not self._unanswered
        self._paused, self._heard = False, time.ticks_ms()
        return room

    def _greet(self, frame):
        resumed, epoch = bool(self._epoch and (self._last or self._base)), frame.get("epoch")
        if epoch != self._epoch:
            self._epoch, self._last, self._taken = epoch, 0, 0
            self._base = frame.get("last_id", 0)
        self._ready.set()
        self._first.set()
        self._more.set()
        self._enter("connected")
        self._emit("connected", frame)
        told, self._told = self._told, (epoch, self._last, frame.get("missed"))
        if frame.get("missed"):
            if self._told != told:  # The server repeats it until something is acknowledged.
                self._emit("missed", {"count": frame["missed"]})
        elif resumed and frame.get("recovered") is False:
            self._emit("missed", {"count": None})
        elif resumed and frame.get("recovered"):
            self._emit("recovered", frame)

    async def _work(self):
        """Calls handlers, one message after the other, over all connections. Never writes: a dead connection must not stop it."""
        while True:
            while not (self._inbox or self._stop.is_set()):
                self._filled.clear()
                if self._behind:
                    self._end(Ended(0, "reading the rest again"))
                await self._filled.wait()
            if self._stop.is_set():
                return  # What is in the inbox comes again.
            frame, size, number, epoch = self._inbox.pop(0)
            self._current = number
            handler = self._handlers.get(frame.get("type"))
            for each in [handler] if handler else list(self._listeners.get("message", ())):
                try:
                    result = each(frame)
                    if hasattr(result, "send"):
                        await result
                except Exception as error:  # Handled all the same, else it would come again for ever.
                    self._fail(error, frame.get("type"))
            self._current = None
            self._inbox_bytes = max(0, self._inbox_bytes - size)
            self._space.set()
            if number and epoch == self._epoch:
                self._last = number
                self._unacked += 1
                self._due.set()
                if self._unacked >= ACK_MESSAGES:
                    self._full.set()
                if not self._ready.is_set():
                    self._save()
            await asyncio.sleep(0)

    async def _acknowledge_always(self):
        """Acknowledges after each ACK_MESSAGES or ACK_SECONDS, whichever comes first."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._unacked < ACK_MESSAGES:
                self._full.clear()
                await within(self._full.wait(), ACK_SECONDS)
            await self._acknowledge()

    async def _acknowledge(self):
        self._unacked = 0
        self._save()  # Before: what the server never sends again must be known after a power cut.
        number = min(self._last, self._arrived)  # The server refuses ids that it did not send on this connection.
        if number > self._acked and self.ack == "client":
            self._acked = number
            await self._socket.write(1, b'{"type":"ack","message":{"id":%d}}' % number)

    def _save(self):
        keep = [send for send in self._unanswered + self._queue if not send.private and (send.retry or not send.tries)]
        state = (self._epoch, self._last, [send.ref for send in keep])
        if self.store and state != self._saved:
            try:
                self.store.save({"epoch": self._epoch, "id": self._last, "queue": [(s.ref, s.text.decode(), s.retry) for s in keep]})
                self._saved = state
            except Exception as error:  # Whatever is wrong with the store, a device has to go on.
                self._fail(error, "store")

    # Sending.
    async def send_message(self, message_type, message=None, retry=False, target=None):
        """Queues a message; returns its `Send` at once. With `retry`, it is sent again until it is answered."""
        return self._queue_up(message_type, message, retry, target)

    async def request(self, message_type, message=None, timeout=None, retry=False, target=None):
        """Sends a message, and returns the reply, which no handler gets; raises `RequestError`. Usable in handlers."""
        send = self._queue_up(message_type, message, retry, target, True)
        try:
            outcome = await asyncio.wait_for(send.outcome, timeout or self.request_timeout)
        except asyncio.TimeoutError:
            self._forget(send)
            raise RequestError("timeout", "no reply in time") from None
        return result_of(outcome)

    def _queue_up(self, message_type, message, retry=False, target=None, private=False, on_part=None):
        self._number += 1
        ref = "%s%s%d" % (self._prefix, "-" if private else ".", self._number)
        send = Send(ref, frame_of(type=message_type, ref=ref, message=message, target=target), retry, private, on_part)
        size = sum(len(waiting.text) for waiting in self._queue) + len(send.text)
        if self.state == "gone":
            send.settle("dropped", "closed")
        elif len(self._queue) >= self.queue_limit or size > self.queue_bytes:
            send.settle("dropped", "full")
        else:
            self._queue.append(send)
            self._more.set()
            if not self._ready.is_set():
                self._save()
        return send

    def _forget(self, send):
        for sends in (self._queue, self._unanswered):
            if send in sends:
                sends.remove(send)
        send.settle("sent" if send.tries else "dropped", "unanswered" if send.tries else "expired")

    async def _transmit(self):
        await self._ready.wait()
        while True:
            while self._queue:
                send = self._queue.pop(0)
                send.tries += 1
                self._unanswered.append(send)
                if len(self._unanswered) > self.queue_limit:
                    self._forget(self._unanswered[0])
                await self._socket.write(1, send.text)
            self._save()
            self._more.clear()
            await self._more.wait()

    def _answer(self, frame):
        """Gives a reply to its sender; returns whether nobody else is to see it."""
        ref = frame.get("ref")
        at = next((at for at, send in enumerate(self._unanswered) if send.ref == ref), None)
        if at is None:
            return isinstance(ref, str) and ref.startswith(self._prefix + "-")  # Too late: nobody waits any longer.
        send = self._unanswered[at]
        kind, code = frame.get("type"), frame.get("code")
        if kind == "chat_delta":
            if send.on_part:
                send.on_part(frame.get("message", ""))
        elif kind == "error" and code == "RATE_LIMITED":
            # The server closes behind it, and processes nothing that follows.
            self._queue = self._unanswered[at:] + self._queue
            del self._unanswered[at:]
        else:
            self._unanswered.pop(at)
            if kind == "error":
                send.settle("dropped", "refused", frame, code, frame.get("message"))
            else:
                send.settle("answered", None, frame)
        return send.private
