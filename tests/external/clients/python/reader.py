"""The command line and the output that all clients of this directory share; README.md describes them."""

import argparse
import json
import time


class Reader:
    """The reading habits that the command line asks for."""

    def __init__(self, **defaults):
        parser = argparse.ArgumentParser()
        parser.add_argument("--url", required=True)
        parser.add_argument("--mode", choices=["drain", "slow", "block", "close"], required=True)
        parser.add_argument("--count", type=int, default=0)
        parser.add_argument("--pause-ms", type=int, default=0)
        for name, value in defaults.items():
            parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
        self.options = parser.parse_args()
        self.url = self.options.url
        self.received = 0
        self.pending = None
        self.last_id = 0

    def take(self, text):
        """Reports one event; returns the seconds to pause before the next one is read."""
        event = json.loads(text)
        if event["type"] == "connection_status":
            self.pending = event["pending"]
            print("status", self.pending, flush=True)
        if "id" not in event:
            return 0
        self.received += 1
        self.last_id = event["id"]
        print("id", self.last_id, flush=True)
        pauses = self.options.mode == "slow" or (self.options.mode == "block" and self.received == self.options.count)
        return self.options.pause_ms / 1000 if pauses else 0

    @property
    def finished(self):
        """True once the client is to close."""
        if self.options.mode == "close":
            return self.pending is not None and self.received >= self.pending
        return self.options.mode == "drain" and 0 < self.options.count <= self.received

    def block(self, text):
        """The same as `take`, with the pause."""
        time.sleep(self.take(text))

    def acknowledgement(self):
        """Returns the event that acknowledges the last message, or None where pongs do that."""
        if self.last_id and "ack=client" in self.url:
            return json.dumps({"type": "ack", "message": {"id": self.last_id}})
        return None

    @property
    def blocks(self):
        """True in the mode in which the whole program stands still during a pause."""
        return self.options.mode == "block"


def report_close(code):
    """Reports the end of the connection."""
    print("closed", code, flush=True)
