"""Asks http://127.0.0.1:8000 for a path until it is told to stop, each time on a connection of its own, and counts who was
turned away. usage: knock.py once PATH | knock.py until FILE"""

import os
import socket
import sys
import time


def ask(path, body=None):
    """The status and the body of the answer; None when there was none."""
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
        answer = ask(*sys.argv[2:])
        print(answer.split(" ", 2)[1], answer.split("\r\n\r\n", 1)[1])
        return
    asked, refused, lost = 0, [], []
    while not os.path.exists(sys.argv[2]):
        asked += 1
        try:
            if " 200 " not in ask("/healthz")[:20]:
                lost.append("no answer")
        except (ConnectionRefusedError, TimeoutError) as error:
            refused.append(repr(error))
        except OSError as error:
            lost.append(repr(error))
        time.sleep(0.002)
    print(f"{asked} asked, {len(refused)} refused, {len(lost)} lost {refused[:3]} {lost[:3]}")
    # One at a time: a process that is killed takes at most one with it.
    sys.exit(1 if refused or len(lost) > 1 or asked < 100 else 0)


main()
