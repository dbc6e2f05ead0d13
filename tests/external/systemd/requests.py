"""Requests a path of http://127.0.0.1:8000: once, or until FILE exists, each time on a new connection. Counts refused and lost
connections. usage: requests.py once PATH [BODY] | requests.py until FILE"""

import os
import socket
import sys
import time


def request(path, body=None):
    """Sends one request and returns the whole response, empty if there was none."""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", 8000), timeout=20) as stream:
        stream.sendall((head + "\r\n" + (body or "")).encode())
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    return answer.decode()


def main():
    if sys.argv[1] == "once":
        answer = request(*sys.argv[2:])
        print(answer.split(" ", 2)[1], answer.split("\r\n\r\n", 1)[1])
        return
    sent, refused, lost = 0, [], []
    while not os.path.exists(sys.argv[2]):
        sent += 1
        try:
            if " 200 " not in request("/healthz")[:20]:
                lost.append("no answer")
        except (ConnectionRefusedError, TimeoutError) as error:
            refused.append(repr(error))
        except OSError as error:
            lost.append(repr(error))
        time.sleep(0.002)
    print(f"{sent} sent, {len(refused)} refused, {len(lost)} lost {refused[:3]} {lost[:3]}")
    # One at a time: a process that is killed takes at most one with it.
    sys.exit(1 if refused or len(lost) > 1 or sent < 100 else 0)


main()
