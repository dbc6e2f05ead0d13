"""A client that needs nothing but Python. usage: receive.py ready HOST PORT | receive.py message HOST PORT TOKEN
`ready` succeeds where /readyz answers 200; `message` prints the first queued message that comes over a WebSocket."""

import base64
import json
import os
import socket
import sys


def exactly(stream, count):
    data = stream.read(count)
    if len(data) < count:
        raise SystemExit("the connection ended")
    return data


def ready(host, port):
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status = connection.makefile("rb").readline().split()
    raise SystemExit(0 if status[1:2] == [b"200"] else 1)


def message(host, port, token):
    with socket.create_connection((host, port), timeout=20) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /ws/device/?token={token} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        stream = connection.makefile("rb")
        if stream.readline().split()[1] != b"101":
            raise SystemExit("no WebSocket")
        while stream.readline().strip():
            pass
        while True:
            head, length = exactly(stream, 2)
            if length == 126:
                length = int.from_bytes(exactly(stream, 2), "big")
            elif length == 127:
                length = int.from_bytes(exactly(stream, 8), "big")
            payload = exactly(stream, length)
            if head & 15 == 8:
                raise SystemExit(f"closed: {payload!r}")
            if head & 15 == 1 and "id" in json.loads(payload):
                print(payload.decode())
                return


if sys.argv[1] == "ready":
    ready(sys.argv[2], int(sys.argv[3]))
else:
    message(sys.argv[2], int(sys.argv[3]), sys.argv[4])
