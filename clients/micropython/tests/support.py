"""The server, the agent on MicroPython, and a server of scripted frames, for the tests of the client."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "external" / "packages"))
from server import Server  # noqa: E402

BINARY = os.environ.get("QY_LTY_BINARY", "qy-lty")
MICROPYTHON = os.environ.get("MICROPYTHON", "micropython")
HEAP = "192k"
# The machine may be busy.
SECONDS = 40


def real_server(messages=1000):
    """Returns a running server and its directory, which the caller keeps."""
    directory = tempfile.TemporaryDirectory(prefix="qy-lty-micropython-")
    return Server(BINARY, directory.name, messages), directory


class Agent:
    """`agent.py` on MicroPython with a small heap; its lines are kept, and waited for."""

    def __init__(self, **options):
        self.process = subprocess.Popen(
            [MICROPYTHON, "-X", f"heapsize={HEAP}", HERE / "agent.py", json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines, self.seen, self.all = queue.Queue(), [], []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def do(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def wait(self, seconds=SECONDS, **expected):
        """Returns the next line with these values, an event's data compared by its own; earlier lines are kept for others."""
        until = time.monotonic() + seconds
        while True:
            for at, line in enumerate(self.seen):
                if all(line.get(name) == value for name, value in expected.items()):
                    return self.seen.pop(at)
            try:
                text = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {expected}: {self.all}") from None
            if text is None:
                raise AssertionError(f"the agent ended with {self.process.wait()}: {self.all}")
            try:
                self.seen.append(json.loads(text))
            except ValueError:
                self.seen.append({"text": text})
            self.all.append(self.seen[-1])

    def handled(self):
        """Returns the ids that were handled so far, in order."""
        return [line["handled"] for line in self.all if "handled" in line]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Link:
    """One connection of the scripted server."""

    def __init__(self, raw):
        self.raw, self.file = raw, raw.makefile("rb")
        raw.settimeout(SECONDS)
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                raise AssertionError("the client went before it had sent its head")
            self.head += line

    def refuse(self, status, *headers):
        self.raw.sendall("\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode())
        self.close()

    def accept(self, greet=True, **status):
        """Answers the handshake, and greets."""
        key = next(line.split(b": ")[1] for line in self.head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.raw.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         f"Sec-WebSocket-Accept: {digest}\r\n\r\n".encode())
        if greet:
            self.event("connection_status", **{"status": "connected", "epoch": "e1", "last_id": 0, "pending": 0, **status})
        return self

    def frame(self, payload, code=1, final=True, mask=False):
        size = len(payload)
        short = size if size < 126 else 126 if size < 65536 else 127
        extended = b"" if size < 126 else struct.pack(">H" if size < 65536 else ">Q", size)
        self.raw.sendall(bytes([(0x80 if final else 0) | code, (0x80 if mask else 0) | short]) + extended
                         + (b"\0\0\0\0" if mask else b"") + payload)

    def event(self, kind, **fields):
        self.frame(json.dumps({"type": kind, **fields}).encode())

    def read(self):
        """Returns the code and the unmasked payload of the client's next frame; None at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        assert head[1] & 0x80, "a frame of a client has a mask"
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        mask, payload = self.file.read(4), self.file.read(size)
        return head[0] & 15, bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))

    def wait(self, kind):
        """Returns the client's next message of a type."""
        while frame := self.read():
            if frame[0] == 1 and json.loads(frame[1])["type"] == kind:
                return json.loads(frame[1])
        raise AssertionError(f"the client ended the connection without {kind}")

    def shut(self, code, reason=b""):
        self.frame(struct.pack(">H", code) + reason, 8)

    def close(self):
        # The file holds the socket as well.
        self.file.close()
        self.raw.close()


class Script:
    """A listener whose connections a test plays by hand."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}"

    def link(self):
        return Link(self.listener.accept()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.close()
