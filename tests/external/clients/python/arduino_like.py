"""A client with the habits of the Arduino libraries, over a plain socket: the receive buffer of an ESP32, 15 KiB for a message
(closes with 1009 above it), one frame at a time, pongs that end at the first NUL, and `Origin: file://`."""

import base64
import os
import socket
from urllib.parse import urlsplit

from reader import Reader, report_close

MAX_MESSAGE_BYTES = 15 * 1024
TCP_WINDOW_BYTES = 5744
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Connection:
    """A WebSocket connection."""

    def __init__(self, url, receive_buffer):
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            # The kernel doubles the value.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer // 2)
        self.socket.connect((parts.hostname, parts.port))
        lines = [
            f"GET {parts.path}?{parts.query} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Protocol: arduino",
            "Origin: file://",
            "User-Agent: arduino-WebSocket-Client",
        ]
        self.socket.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(head.decode())

    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the connection ended")
            data += part
        return data

    def send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def frame(self):
        """Returns the next frame, or None in place of a payload that is too large."""
        first, length = self.read(2)
        if length == 126:
            length = int.from_bytes(self.read(2), "big")
        elif length == 127:
            length = int.from_bytes(self.read(8), "big")
        return first & 0xF, self.read(length) if length <= MAX_MESSAGE_BYTES else None


def run(reader):
    """Returns the close code."""
    connection = Connection(reader.url, reader.options.receive_buffer)
    while not reader.finished:
        opcode, payload = connection.frame()
        if payload is None:
            connection.send(CLOSE, (1009).to_bytes(2, "big"))
            return 1009
        if opcode == PING:
            connection.send(PONG, payload.split(b"\0")[0])
        elif opcode == TEXT:
            reader.block(payload)
        elif opcode == CLOSE:
            connection.send(CLOSE, payload[:2])
            return int.from_bytes(payload[:2], "big")
    connection.send(CLOSE, (1000).to_bytes(2, "big"))
    return 1000


try:
    code = run(Reader(receive_buffer=TCP_WINDOW_BYTES))
except OSError:
    code = 1006
report_close(code)
