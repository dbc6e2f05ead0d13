#!/usr/bin/env python3
"""The smallest driver for chaos_run.py, on bare sockets. usage: raw_driver.py URL TOKEN CLIENT COUNT [STORE_FILE]

It shows what chaos_run.py expects of a driver, and tests it without any package. It keeps only the highest handled id.
"""

import base64
import json
import os
import pathlib
import random
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

SILENCE_SECONDS = 4.0


class Ended(Exception):
    """The connection is of no more use."""


class Socket:
    """A WebSocket on a blocking socket."""

    def __init__(self, url, token, query):
        parts = urlsplit(url)
        self.raw = socket.create_connection((parts.hostname, parts.port), timeout=SILENCE_SECONDS)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.raw.sendall((
            f"GET /ws/device/?{query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: Token {token}\r\n\r\n").encode())
        self.file = self.raw.makefile("rb")
        if b" 101 " not in self.file.readline():
            raise Ended
        while self.file.readline() not in (b"\r\n", b""):
            pass

    def exactly(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise Ended
        return data

    def frame(self):
        """Returns the operation code and the payload of the next frame."""
        first, second = self.exactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
        return first & 0x0F, self.exactly(size)

    def write(self, code, payload):
        mask = os.urandom(4)
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        masked = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
        self.raw.sendall(bytes([0x80 | code]) + size + mask + masked)

    def ack(self, number):
        self.write(1, json.dumps({"type": "ack", "message": {"id": number}}).encode())

    def close(self):
        """Closes in order: what was written before is read by the server."""
        try:
            self.write(8, b"\x03\xe8")
            while self.frame()[0] != 8:
                pass
        except (OSError, Ended):
            pass
        self.raw.close()


def main():
    url, token, client, count = *sys.argv[1:4], int(sys.argv[4])
    store = pathlib.Path(sys.argv[5]) if len(sys.argv) > 5 else None
    last = int(store.read_text()) if store and store.exists() else 0
    handled = 0
    while handled < count:
        unacknowledged = 0
        try:
            link = Socket(url, token, f"client={client}&ack=client")
            while handled < count:
                code, payload = link.frame()
                if code == 9:
                    link.write(10, payload)
                if code == 8:
                    break
                event = json.loads(payload) if code == 1 else {}
                if "id" not in event:
                    continue
                if event["id"] > last:
                    time.sleep(random.uniform(0, 0.002))
                    print(event["message"]["n"], event["id"], flush=True)
                    last, handled = event["id"], handled + 1
                    if store:
                        store.write_text(str(last))
                unacknowledged += 1
                if unacknowledged == 50 or handled == count:
                    link.ack(event["id"])
                    unacknowledged = 0
            link.close()
        except (OSError, Ended, ValueError):
            time.sleep(random.uniform(0, 0.5))


if __name__ == "__main__":
    main()
