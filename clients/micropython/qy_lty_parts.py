"""Parts of the client of qy-lty for MicroPython: sockets, sends, storage, pairing, the REST API. See qy_lty_client.py."""
import asyncio
import binascii
import hashlib
import json
import os
from collections import namedtuple

MAX_HEAD_BYTES = 2048
MAX_RETRY_AFTER = 3600

# `status`: "answered", "sent" (written, and no reply came) or "dropped"; `reason`: "disconnected", "unanswered", "full", "expired",
# "closed" or "refused", the latter with the server's `code` and `message`; `reply`: the frame.
Outcome = namedtuple("Outcome", ("status", "reason", "reply", "code", "message"))


class RequestError(Exception):
    """A request without a reply; `code` is the server's (`VALIDATION_ERROR`, …), "timeout", "disconnected", "full" or "closed"."""

    def __init__(self, code, message=""):
        super().__init__(code, message)
        self.code, self.message = code, message


def result_of(outcome):
    """Returns the reply of an outcome; raises `RequestError` where there is none."""
    if outcome.status != "answered":
        raise RequestError(outcome.code or outcome.reason, outcome.message or "")
    return outcome.reply


class Ended(Exception):
    """The end of a connection: a close code (1006: none) and reason, and the server's advice."""

    def __init__(self, code, reason="", retry_after=None):
        super().__init__(code, reason)
        self.code, self.reason, self.retry_after = code, reason, retry_after


def is_name(client):
    """Returns whether a reader may have this name, or none."""
    return client is None or 0 < len(client) <= 64 and all(c.isalpha() and ord(c) < 128 or c.isdigit() or c in "._-" for c in client)


def query_of(client, since, ack, max_bytes):
    """Returns the query of a connection."""
    pairs = (("client", client), ("since", since), ("ack", ack), ("max_bytes", max_bytes))
    return "&".join("%s=%s" % pair for pair in pairs if pair[1] is not None)


def frame_of(**fields):
    """Returns the text of a message; a field that is None is left out."""
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


async def within(awaitable, seconds):
    """Waits for so long at most; returns whether it was long enough."""
    try:
        await asyncio.wait_for(awaitable, seconds)
        return True
    except asyncio.TimeoutError:
        return False


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
            if self.on_part:
                self.on_part("")


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
                while size:
                    size -= len(await self.exact(min(size, 256)))
            else:
                part = await self.exact(size)
                self._parts = self._parts + part if self._parts else part
            if first & 0x80:
                whole, self._parts = self._parts, None
                return self._code, None if self._large else whole

    async def close(self):
        try:
            if self.stream:
                self.stream.close()
                await self.stream.wait_closed()
        except OSError:
            pass  # It has ended already.


class Events:
    """Handlers of messages, and listeners of events."""

    def __init__(self):
        self._handlers, self._listeners, self.state = {}, {}, "closed"

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

    # The guide's requests; `send_message` is the client's.
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


class Chat:
    """The answer to a question: an asynchronous iterator of its parts."""

    def __init__(self, client, text):
        self._client, self._part, self._none, self._event = client, "", True, asyncio.Event()
        self._send = client._queue_up("chat_message", {"content": text, "stream": True}, private=True, on_part=self._add)

    def _add(self, part):
        self._part, self._none = self._part + part, self._none and not part
        self._event.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._part and not self._send.result:
            self._event.clear()
            await self._event.wait()
        part, self._part = self._part, ""
        if not part:
            whole = await self.text()  # Raises where the answer broke off.
            part, self._none = whole if self._none else "", False  # A responder without parts: the whole is the only one.
        if not part:
            raise StopAsyncIteration
        return part

    async def text(self):
        """Returns the whole answer, or an empty text where it was cancelled; raises `RequestError`."""
        reply = result_of(await self._send.outcome)
        return "" if reply["type"] == "chat_cancelled" else reply.get("message", "")

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
        except (OSError, Ended, ValueError, asyncio.TimeoutError):
            pass  # The network, or a proxy's page; the pairing goes on, or ends with 410.
        data = reply.get("data") or {} if status in (200, 201) else {}
        if data.get("state") == "paired":
            return data["token"]
        if status == 201:
            body, interval = {"device_code": data["device_code"]}, data.get("interval", 5)
            if on_code:
                on_code(data["code"])
        elif status == 410:
            body = description
        elif status and status < 500 and status not in (200, 408, 429):
            raise RequestError((reply or {}).get("code"), (reply or {}).get("message"))
        await asyncio.sleep(min(wait or interval, MAX_RETRY_AFTER))
