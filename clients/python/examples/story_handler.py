"""A program behind a custom message type: tells stories. Needs nothing but Python.

usage: story_handler.py [PORT]; the secret is in the variable STORY_SECRET

In the server's configuration:

    [[handler]]
    type = "story"
    url = "http://127.0.0.1:9000/story"
    secret = "…"

A client asks with {"type": "story", "message": {"about": "a lamp"}}, and gets {"type": "story_response", "data": {"story": "…"}}.
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = os.environ.get("STORY_SECRET", "").encode()
#: The age of a request that is accepted, in seconds: an older one may be a copy.
MAX_AGE = 300
MAX_BODY = 65536


def is_genuine(timestamp: str, signature: str, body: bytes) -> bool:
    """Returns whether the server made the request, and recently."""
    expected = "sha256=" + hmac.new(SECRET, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    recent = timestamp.isdigit() and abs(time.time() - int(timestamp)) <= MAX_AGE
    return recent and hmac.compare_digest(expected.encode(), signature.encode())


def tell(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer, which becomes the `data` of the `story_response`."""
    message = request.get("message")
    about = message.get("about") if isinstance(message, dict) else None
    return {"story": f"Once upon a time there was {about or 'a robot'} that came back after every power cut."}


class Handler(BaseHTTPRequestHandler):
    """Answers POST requests of the server."""

    timeout = 10

    def do_POST(self) -> None:
        """Checks the signature, and tells a story."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, MAX_BODY))
        if not is_genuine(self.headers.get("X-QY-LTY-Timestamp", ""), self.headers.get("X-QY-LTY-Signature", ""), body):
            self.send_error(403, "wrong signature")
            return
        answer = json.dumps(tell(json.loads(body)), ensure_ascii=False).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    if not SECRET:
        sys.exit("set STORY_SECRET to the secret of the handler in the server's configuration")
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Handler)
    print(f"listening {server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
