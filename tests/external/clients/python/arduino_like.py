"""A client with the habits of the libraries of small boards, over a plain socket with the receive buffer of an ESP32, one frame at
a time. `--library` is one of LIBRARIES; tests/it/ws/boards.rs has more of their habits."""

import base64
import hashlib
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from reader import Reader, report_close

ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TCP_WINDOW_BYTES = 5744
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass
class Library:
    """The lines of the handshake in their order, without those that all have, and the habits that differ."""

    headers: list
    # The names of headers in the answer are compared letter by letter.
    letters: bool = False
    head_bytes: int = 1 << 20
    # Closes with 1009 above it.
    message_bytes: int = 1 << 30
    # Pongs end at the first NUL.
    text_pongs: bool = False
    # What is sent for a close frame: 1000, the server's code where the library knows it, or none.
    farewell: str = "1000"


LIBRARIES = {
    "links2004": Library(
        ["Host: {netloc}", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: {key}",
         "Sec-WebSocket-Protocol: arduino", "Origin: file://", "User-Agent: arduino-WebSocket-Client"],
        message_bytes=15 * 1024),
    # As it was before 0.4.11, of which many sketches have a copy.
    "gilmaimon": Library(
        ["Host: {hostname}", "Sec-WebSocket-Key: {key}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
         "User-Agent: TinyWebsockets Client", "Origin: https://github.com/gilmaimon/TinyWebsockets"],
        letters=True, text_pongs=True, farewell="known"),
    "esp-idf": Library(
        ["Connection: Upgrade", "Host: {netloc}", "User-Agent: ESP32 Websocket Client", "Upgrade: websocket",
         "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: {key}"],
        head_bytes=1024, farewell="empty"),
}


class Connection:
    """A WebSocket connection."""

    def __init__(self, library, url, receive_buffer):
        self.library = library
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer:
            # The kernel doubles the value.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer // 2)
        self.socket.connect((parts.hostname, parts.port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {parts.path}?{parts.query} HTTP/1.1"]
        lines += [line.format(netloc=parts.netloc, hostname=parts.hostname, key=key) for line in library.headers]
        self.socket.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        self.check(head.decode(), base64.b64encode(hashlib.sha1((key + ACCEPT_GUID).encode()).digest()).decode())

    def check(self, head, accept):
        """Ends the program where the library would not accept the answer."""
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        if not self.library.letters:
            headers = {name.title().replace("Websocket", "WebSocket"): value for name, value in headers.items()}
        good = (status.startswith("HTTP/1.1 101 ") and len(head) < self.library.head_bytes
                and headers.get("Connection", "").lower() == "upgrade" and headers.get("Upgrade", "").lower() == "websocket"
                and headers.get("Sec-WebSocket-Accept") == accept)
        if not good:
            raise SystemExit(f"error: not accepted: {head!r}")

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
        return first & 0xF, self.read(length) if length <= self.library.message_bytes else None


def run(reader):
    """Returns the close code."""
    library = LIBRARIES[reader.options.library]
    connection = Connection(library, reader.url, reader.options.receive_buffer)
    while not reader.finished:
        opcode, payload = connection.frame()
        if payload is None:
            connection.send(CLOSE, (1009).to_bytes(2, "big"))
            return 1009
        if opcode == PING:
            connection.send(PONG, payload.split(b"\0")[0] if library.text_pongs else payload)
        elif opcode == TEXT:
            reader.block(payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            known = library.farewell == "known" and 1000 <= code <= 1011
            farewell = (1000).to_bytes(2, "big") if library.farewell == "1000" else payload[:2] if known else b""
            connection.send(CLOSE, farewell)
            return code
    connection.send(CLOSE, (1000).to_bytes(2, "big"))
    return 1000


try:
    code = run(Reader(receive_buffer=TCP_WINDOW_BYTES, library="links2004"))
except OSError:
    code = 1006
report_close(code)
