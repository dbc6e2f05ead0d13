"""A language model's server: streams the words of an answer, slowly."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Model:
    """`endless` in the question has it answer until the connection is closed, which `stopped` counts."""

    def __init__(self) -> None:
        self.stopped = 0
        model = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"]
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                words = (f"word{n} " for n in range(100_000 if "endless" in question else 5))
                try:
                    for word in words:
                        data = json.dumps({"choices": [{"delta": {"content": word}}]})
                        self.wfile.write(f"data: {data}\n\n".encode())
                        time.sleep(0.02)
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    model.stopped += 1

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    @property
    def config(self) -> str:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        return f'[chat]\nresponder = "openai"\nurl = "{url}"\nmodel = "m"\nper_minute = 0\n'

    def __enter__(self) -> Model:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
