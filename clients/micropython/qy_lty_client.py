"""Client of qy-lty for MicroPython 1.21 and later: one file, standard modules only. Speaks `qy-lty.v1`; README.md has the API.

Bounds: `max_bytes` for a message, twice that and INBOX_LIMIT for messages that wait for handlers, `queue_limit` and `queue_bytes`
for sends, MAX_HEAD_BYTES for heads of HTTP. A buffer is made for what is there, not for the bound.
"""
import asyncio
import binascii
import hashlib
import json
import os
import time
from collections import namedtuple

__version__ = "0.2.0"
# Close codes after which a client stays away, and the remedy.
GONE = {4001: "get another token", 4003: "fix the URL", 4104: "delete a client that is no longer used"}
INBOX_LIMIT = 16
MAX_HEAD_BYTES = 2048
CONNECT_SECONDS = 20  # From the address look-up to the first event.
CLOSE_SECONDS = 2
ACK_MESSAGES, ACK_SECONDS = 100, 0.2
MAX_RETRY_AFTER = 3600
MAX_TRIES = 10  # Connections on which a send with `retry` is written.

# `status`: "answered", "sent" (written, and no reply came) or "dropped"; `reason`: "disconnected", "unanswered", "full", "expired",
# "closed" or "refused", the latter with the server's `code` and `message`; `reply`: the frame.
Outcome = namedtuple("Outcome", ("status", "reason", "reply", "code", "message"))


class RequestError(Exception):
    """A request without a reply; `code` is the server's (`VALIDATION_ERROR`, …), "timeout", "disconnected", "full" or "closed"."""

    def __init__(self, code, message=""):
        super().__init__(code, message)
        self.code, self.message = code, message


class Ended(Exception):
    """The end of a connection: a close code (1006: none) and reason, and the server's advice."""

    def __init__(self, code, reason="", retry_after=None):
        super().__init__(code, reason)
        self.code, self.reason, self.retry_after = code, reason, retry_after


class FileStore:
    """Keeps the position and the queue in a file, which is replaced as a whole: a power cut leaves the old or the new one."""

    def __init__(self, path):
        self.path = path

    def load(self):
        """Returns the stored state, or an empty one."""
        for path in (self.path, self.path + ".new"):
            try:
                with open(path) as file:
                    state = json.load(file)
                    if isinstance(state, dict):
                        return state
            except (OSError, ValueError):
                pass
        return {}

    def save(self, state):
        """Replaces the stored state."""
        new = self.path + ".new"
        with open(new, "w") as file:
            json.dump(state, file)
        try:
            os.rename(new, self.path)
        except OSError:  # FAT replaces no file; `load` finds the new one.
            os.remove(self.path)
            os.rename(new, self.path)


class Send:
    """A message that was given to the client; `await send.outcome` is its `Outcome`, and nobody has to wait for it."""

    def __init__(self, ref, text, retry=False, private=False, on_part=None):
        self.ref, self.text, self.retry, self.private, self.on_part = ref, text, retry, private, on_part
        self.tries, self.result, self._event = 0, None, asyncio.Event()

    @property
    def outcome(self):
        return self._wait()

    async def _wait(self):
        await self._event.wait()
        return self.result

    def settle(self, status, reason=None, reply=None, code=None, message=None):
        """Ends the send, once."""
        if not self.result:
            self.result = Outcome(status, reason, reply, code, message)
            self._event.set()


class Socket:
    """A TCP or TLS connection with exact reads, HTTP heads and WebSocket frames."""

    def __init__(self):
        self.stream, self._lock, self._parts, self._large = None, asyncio.Lock(), None, False

    async def open(self, base_url, ssl):
        """Connects; returns the `Host` and the path prefix of the URL. `wss` and `https` need a TLS context."""
        scheme, _, rest = base_url.partition("://")
        host, _, path = rest.partition("/")
        tls = scheme in ("wss", "https")
        if not host or not tls and scheme not in ("ws", "http"):
            raise ValueError("base_url must be ws://, wss://, http:// or https://")
        if tls and not ssl:
            raise ValueError("TLS needs ssl=: an ssl.SSLContext with the certificate of the server or its CA")
        name, _, port = host.partition(":") if host[0] != "[" else (host[1:].partition("]")[0], "", host.partition("]:")[2])
        port = int(port or (443 if tls else 80))
        self.stream = (await asyncio.open_connection(name, port, ssl, name) if tls else await asyncio.open_connection(name, port))[0]
        path = path.strip("/")
        return host, "/" + path if path else ""

    async def exact(self, size):
        """Returns so many bytes; raises `Ended` at the end of the connection."""
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = await self.stream.readinto(view[at:])
            if got == 0:
                raise Ended(1006, "the connection was lost")
            at += got or 0  # None: woken without data.
        return data

    async def skip(self, size):
        while size:
            size -= len(await self.exact(min(size, 256)))

    async def head(self):
        """Reads the head of a response; returns its status and headers, with names in lower case."""
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += await self.exact(1)
            if len(head) > MAX_HEAD_BYTES:
                raise Ended(1002, "the head of the response is too long")
        lines = head.decode().split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        return int(lines[0].split(" ")[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def upgrade(self, host, path, token):
        """Makes the WebSocket handshake."""
        key = binascii.b2a_base64(os.urandom(16)).strip().decode()
        await self.raw("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: qy-lty.v1\r\nAuthorization: Token %s\r\n\r\n"
                       % (path, host, key, token))
        status, headers = await self.head()
        if status != 101:
            wait = headers.get("retry-after", "")
            raise Ended(4001 if status == 401 else 1006, "HTTP %d" % status, int(wait) if wait.isdigit() else None)
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        if headers.get("sec-websocket-accept") != binascii.b2a_base64(digest).strip().decode():
            raise Ended(1002, "not the handshake of a WebSocket server")

    async def raw(self, data):
        self.stream.write(data.encode() if isinstance(data, str) else data)
        await self.stream.drain()

    async def write(self, code, payload):
        """Writes a masked frame; `code` is 1 for text, 8 close, 9 ping, 10 pong."""
        size = len(payload)
        frame = bytearray((0x80 | code, 0x80 | size) if size < 126 else (0x80 | code, 0xFE, size >> 8, size & 255))
        if size > 65535:
            raise ValueError("a message has at most 65535 bytes")
        mask = os.urandom(4)
        frame += mask
        start = len(frame)
        frame += payload
        for at in range(size):
            frame[start + at] ^= mask[at & 3]
        async with self._lock:
            await self.raw(frame)

    async def frame(self, max_bytes):
        """Returns the code and the payload of the next message or control frame; None in place of a payload above `max_bytes`."""
        while True:
            first, second = await self.exact(2)
            code, size = first & 15, second & 127
            if first & 0x70 or second & 0x80 or code & 8 and (size > 125 or not first & 0x80):
                raise Ended(1002, "invalid frame")
            if size > 125:
                size = int.from_bytes(await self.exact(2 if size == 126 else 8), "big")
            if code & 8:
                return code, bytes(await self.exact(size))
            if bool(code) == bool(self._parts is not None):
                raise Ended(1002, "invalid fragment")
            if code:
                self._parts, self._code, self._large = b"", code, False
            if len(self._parts) + size > max_bytes:
                self._large, self._parts = True, b""
            if self._large:
                await self.skip(size)
            else:
                part = await self.exact(size)
                self._parts = self._parts + part if self._parts else part
            if first & 0x80:
                whole, self._parts = self._parts, None
                return self._code, None if self._large else whole

    async def close(self):
        if self.stream:
            self.stream.close()
            await self.stream.wait_closed()


class DeviceWebSocketClient:
    """A connection that is made again whenever it ends; README.md explains each option."""

    def __init__(self, token, base_url="ws://localhost:8000", client=None, since=None, ack="client", max_bytes=8192, store=None,
                 queue_limit=20, queue_bytes=16384, heartbeat_seconds=30, request_timeout=30, back_off=None, ssl=None):
        if ack not in ("client", "auto") or max_bytes < 1024:
            raise ValueError("ack must be 'client' or 'auto', and max_bytes at least 1024")
        self.token, self.base_url, self.client, self.ack, self.max_bytes, self.ssl = token, base_url, client, ack, max_bytes, ssl
        self.store, self.queue_limit, self.queue_bytes, self.heartbeat = store, queue_limit, queue_bytes, heartbeat_seconds
        self.request_timeout, self.back_off, self.state = request_timeout, back_off or {}, "closed"
        self._handlers, self._listeners, self._prefix, self._number = {}, {}, binascii.hexlify(os.urandom(4)).decode(), 0
        state = store.load() if store else {}
        self._epoch, self._last, self._since = state.get("epoch"), state.get("id", 0), since
        self._taken, self._base, self._saved = self._last, 0, None  # Taken into the inbox; handled is `_last`.
        self._queue = [Send(ref, text.encode(), retry) for ref, text, retry in state.get("queue", ())]
        self._unanswered, self._inbox, self._inbox_bytes, self._current, self._unacked = [], [], 0, None, 0
        self._task = self._worker = self._socket = None
        for name in ("_over", "_ready", "_stop", "_more", "_filled", "_space", "_due", "_full", "_first"):
            setattr(self, name, asyncio.Event())

    # Handlers and events.
    def register_handler(self, message_type, handler):
        """Sets the handler of a type, a function or coroutine function; a message is acknowledged after it."""
        self._handlers[message_type] = handler

    on_message = register_handler

    def on(self, name, handler):
        """Calls `handler(data)` at each event of that name; returns a function that ends this."""
        handlers = self._listeners.setdefault(name, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler) if handler in handlers else None

    def _emit(self, name, data):
        for handler in list(self._listeners.get(name, ())):
            try:
                result = handler(data)
                if hasattr(result, "send"):
                    asyncio.create_task(self._guarded(result))
            except Exception as error:
                self._fail(error, name)

    def _fail(self, error, where):
        if where != "error":  # An exception in a listener of errors has nowhere else to go.
            self._emit("error", {"error": error, "where": where})

    async def _guarded(self, coroutine, where="event"):
        try:
            await coroutine
        except Exception as error:
            self._fail(error, where)

    def _enter(self, state):
        if state != self.state:
            self.state = state
            self._emit("state", state)

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
        if self.state == "gone":
            raise self._ending

    async def disconnect(self):
        """Closes in order: finishes the running handler, acknowledges, shakes hands; after 2 seconds each without ado."""
        task, worker, self._task = self._task, self._worker, None
        self._stop.set()
        self._filled.set()
        own = asyncio.current_task()
        until = time.ticks_add(time.ticks_ms(), CLOSE_SECONDS * 1000)
        while self._current is not None and own is not worker and time.ticks_diff(until, time.ticks_ms()) > 0:
            await asyncio.sleep(0.01)
        if self._ready.is_set():
            try:
                await asyncio.wait_for(self._close(), CLOSE_SECONDS)
            except (asyncio.TimeoutError, OSError):
                pass
        self._over.set()
        if task:
            await task
            if own is not worker:
                worker.cancel()
                self._current = None
        # A handler that called this finishes afterwards; its message is not to be taken again.
        self._inbox, self._inbox_bytes, self._taken = [], 0, max(self._last, self._current or 0)
        self._save()
        for send in self._queue:
            send.settle("dropped", "closed")
        if not self.store:
            self._queue = []
        if self.state != "gone":
            self._enter("closed")

    async def _close(self):
        await self._acknowledge()
        await self._socket.write(8, b"\x03\xe8")
        await self._over.wait()

    async def _run(self):
        tries, renewed = 0, False
        while not self._stop.is_set():
            self._enter("connecting")
            greeted = await self._session()
            ending = self._ending
            tries, renewed = (0, False) if greeted else (tries + 1, renewed)
            advice = self._advice or {}
            again = advice.get("reconnect", True) and ending.code not in GONE
            if ending.code == 4001 and callable(self.token) and not renewed:
                again = renewed = True  # Once: the function may have a fresh token.
            again = again and not self._stop.is_set()
            most = min(self.back_off.get("most", 60), self.back_off.get("first", 1) * 2 ** min(tries, 16))
            wait = most * int.from_bytes(os.urandom(2), "big") / 65536  # Full jitter.
            after = advice.get("retry_after") or ending.retry_after
            if isinstance(after, (int, float)):
                wait = max(wait, min(after, MAX_RETRY_AFTER))
            if ending.code == 0:
                wait = 0  # The client itself made room.
            if greeted:
                self._emit("disconnected", {"code": ending.code, "reason": ending.reason, "will_reconnect": again,
                                            "retry_in": wait if again else None})
            elif again:
                self._emit("error", {"error": ending, "where": "connect", "retry_in": wait})
            if not again and not self._stop.is_set():
                self._enter("gone")
                self._emit("gone", {"code": ending.code, "reason": ending.reason, "meaning": GONE.get(ending.code, "do not reconnect")})
                self._first.set()
                for send in self._queue:
                    send.settle("dropped", "closed")
                return
            if self._stop.is_set():
                return
            self._enter("waiting")
            try:
                await asyncio.wait_for(self._stop.wait(), wait)
            except asyncio.TimeoutError:
                pass

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
        for task in tasks:
            try:
                await task
            except asyncio.CancelledError:
                pass
        try:
            await self._socket.close()
        except OSError:
            pass
        greeted = self._ready.is_set()
        self._ready.clear()
        again, unanswered, self._unanswered = [], self._unanswered, []
        for send in unanswered:
            if send.retry and send.tries < MAX_TRIES:
                again.append(send)
            else:
                send.settle("sent", "disconnected")
        self._queue = again + self._queue
        return greeted

    async def _until_over(self, part):
        try:
            await part
        except asyncio.TimeoutError:
            self._end(Ended(1006, "timeout"))
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
            # A paused client does not read, so that it can't know.
            if not self._paused and time.ticks_diff(time.ticks_ms(), self._heard) > self.heartbeat * 2500:
                raise Ended(1006, "the server is silent")
            await asyncio.wait_for(self._socket.write(1, b'{"type":"ping"}'), self.heartbeat)

    def _path(self):
        last = self._last or self._base
        since = "%s:%d" % (self._epoch, last) if self._epoch and last else self._since
        pairs = (("client", self.client), ("since", since), ("ack", "client" if self.ack == "client" else None),
                 ("max_bytes", self.max_bytes))
        return "/ws/device/?" + "&".join("%s=%s" % pair for pair in pairs if pair[1] is not None)

    # Receiving.
    async def _receive(self):
        host, prefix = await self._socket.open(self.base_url, self.ssl)
        token = self.token() if callable(self.token) else self.token
        await self._socket.upgrade(host, prefix + self._path(), await token if hasattr(token, "send") else token)
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
            silent = kind in ("connection_status", "disconnect", "missed", "pong") and kind not in self._handlers
            if not self._answer(frame) and not silent and await self._room(size):
                self._put(frame, size, 0)
            return
        if not self._behind:
            self._arrived = number
            if number <= self._taken:
                self._due.set()  # A repeat; the acknowledgement was lost.
            elif await self._room(size):
                self._taken = number
                self._put(frame, size, number)
            else:
                self._behind = True  # This and the following messages come again on the next connection.

    def _put(self, frame, size, number):
        self._inbox.append((frame, size, number, self._epoch))
        self._inbox_bytes += size
        self._filled.set()

    async def _room(self, size):
        """Waits for room in the inbox; returns false where a send waits for its reply, which may be behind this message."""
        while self._inbox and (len(self._inbox) >= INBOX_LIMIT or self._inbox_bytes + size > 2 * self.max_bytes):
            self._space.clear()
            self._paused = True
            try:
                await asyncio.wait_for(self._space.wait(), 1)
            except asyncio.TimeoutError:
                if self._unanswered:
                    break
        else:
            self._paused = False
            self._heard = time.ticks_ms()
            return True
        self._paused = False
        return False

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
        if frame.get("missed"):
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
            if handler:
                try:
                    result = handler(frame)
                    if hasattr(result, "send"):
                        await result
                except Exception as error:  # Handled all the same, else it would come again for ever.
                    self._fail(error, frame.get("type"))
            else:
                self._emit("message", frame)
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
                try:
                    await asyncio.wait_for(self._full.wait(), ACK_SECONDS)
                except asyncio.TimeoutError:
                    pass
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
            except OSError as error:
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
            raise RequestError("timeout", "no reply in time")
        if outcome.status != "answered":
            raise RequestError(outcome.code or outcome.reason, outcome.message or "")
        return outcome.reply

    def send_chat_message(self, text):
        return self.send_message("chat_message", text)

    def request_weather(self, city):
        return self.send_message("weather", {"city": city})

    def request_sing(self, song, artist):
        return self.send_message("sing", {"song": song, "artist": artist})

    def request_dance(self, dance, style, duration="30秒"):
        return self.send_message("dance", {"dance": dance, "style": style, "duration": duration})

    def chat(self, text):
        """Asks a question; `async for part in client.chat(…)` has the answer as it is made."""
        return Chat(self, text)

    def _queue_up(self, message_type, message, retry=False, target=None, private=False, on_part=None):
        self._number += 1
        frame = {"type": message_type, "ref": "%s%s%d" % (self._prefix, "-" if private else ".", self._number)}
        for name, value in (("message", message), ("target", target)):
            if value is not None:
                frame[name] = value
        send = Send(frame["ref"], json.dumps(frame).encode(), retry, private, on_part)
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
        for at, send in enumerate(self._unanswered):
            if send.ref == ref:
                break
        else:
            return isinstance(ref, str) and ref.startswith(self._prefix + "-")  # Too late: nobody waits any longer.
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


class Chat:
    """The answer to a question: an asynchronous iterator of its parts."""

    def __init__(self, client, text):
        self._client, self._part, self._none, self._event = client, "", True, asyncio.Event()
        self._send = client._queue_up("chat_message", {"content": text, "stream": True}, private=True, on_part=self._add)

    def _add(self, part):
        self._part, self._none = self._part + part, False
        self._event.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        ended = asyncio.create_task(self._end())
        try:
            while not self._part and not self._send.result:
                self._event.clear()
                await self._event.wait()
        finally:
            ended.cancel()
        if not self._part and self._none:
            self._part, self._none = await self.text(), False
        if not self._part:
            await self.text()
            raise StopAsyncIteration
        part, self._part = self._part, ""
        return part

    async def _end(self):
        await self._send.outcome
        self._event.set()

    async def text(self):
        """Returns the whole answer, or an empty text where it was cancelled; raises `RequestError`."""
        outcome = await self._send.outcome
        if outcome.status != "answered":
            raise RequestError(outcome.code or outcome.reason, outcome.message or "")
        return "" if outcome.reply["type"] == "chat_cancelled" else outcome.reply.get("message", "")

    async def cancel(self):
        """Stops the answer; returns whether there was one to stop."""
        return (await self._client.request("chat_cancel", {"ref": self._send.ref}))["cancelled"]


async def rest(base_url, method, path, body=None, token=None, ssl=None, timeout=30, max_bytes=16384, key=None):
    """Makes a call of the REST API; returns status, reply, and `Retry-After` in seconds or None. `key` is the `Idempotency-Key`."""
    socket = Socket()

    async def call():
        host, prefix = await socket.open(base_url, ssl)
        data = json.dumps(body).encode() if body is not None else b""
        lines = ["%s %s%s HTTP/1.0" % (method, prefix, path), "Host: " + host, "Content-Type: application/json",
                 "Content-Length: %d" % len(data)]
        lines += (["Authorization: Token " + token] if token else []) + (["Idempotency-Key: " + key] if key else [])
        await socket.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        status, headers = await socket.head()
        size = int(headers.get("content-length", "0"))
        if size > max_bytes:
            raise ValueError("the reply is above max_bytes")
        wait = headers.get("retry-after", "")
        return status, json.loads(await socket.exact(size)) if size else None, int(wait) if wait.isdigit() else None

    try:
        return await asyncio.wait_for(call(), timeout)
    finally:
        await socket.close()


async def pair(base_url, name=None, serial=None, model=None, on_code=None, ssl=None):
    """Pairs this device: calls `on_code(code)` with each code to show, and returns the token once its owner has entered one."""
    description = {key: value for key, value in (("name", name), ("serial", serial), ("model", model)) if value}
    body, interval = description, 5
    while True:
        status, reply, wait = 0, None, None
        try:
            status, reply, wait = await rest(base_url, "POST", "/api/devices/pair", body, ssl=ssl)
        except (OSError, Ended, asyncio.TimeoutError):
            pass  # The network; the pairing goes on, or ends with 410.
        data = reply.get("data") or {} if status in (200, 201) else {}
        if data.get("state") == "paired":
            return data["token"]
        if status == 201:
            body, interval = {"device_code": data["device_code"]}, data.get("interval", 5)
            if on_code:
                on_code(data["code"])
        elif status == 410:
            body = description
        elif status and status < 500 and status not in (200, 429):
            raise RequestError((reply or {}).get("code"), (reply or {}).get("message"))
        await asyncio.sleep(min(wait or interval, MAX_RETRY_AFTER))
