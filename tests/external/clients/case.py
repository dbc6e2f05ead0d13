"""One case: a user with a backlog, the connections of one client program, and the verdict on what they received."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time

# A busy machine takes its time to start a browser.
START_SECONDS = 60
# Beyond the longest pause of a client; without a new message for that long, a connection counts as stuck.
STUCK_SECONDS = 20
# For a proof that is on its way when a connection ends.
SETTLE_SECONDS = 2
MAX_CONNECTIONS = 60


class Connection:
    """A run of a client program, which connects once."""

    def __init__(self, command, environment):
        self.ids, self.pending, self.code = [], None, None
        self.changed = time.monotonic()
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True, env={**os.environ, **environment})
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # killed while it was printing
            word, _, value = line.strip().partition(" ")
            if word == "id":
                self.ids.append(int(value))
            elif word == "status":
                self.pending = int(value)
            elif word == "closed":
                self.code = value
            self.changed = time.monotonic()

    @property
    def ended(self):
        return not self.thread.is_alive()

    def wait_until(self, done, pause_seconds):
        """Waits for the condition or the end; returns False where the client got stuck before."""
        while not (self.ended or done()):
            patience = START_SECONDS if self.pending is None else STUCK_SECONDS
            if time.monotonic() - self.changed > patience + pause_seconds:
                return False
            time.sleep(0.02)
        return True

    def kill(self):
        """Kills the program with all its processes; returns the last error in its output."""
        if self.errors.closed:
            return ""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.thread.join()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        errors = [line for line in lines if re.search("error|exception", line, re.I)]
        return (errors or lines or [""])[-1][-200:]


class Case:
    """A client in a scenario, with a user of its own. `problems` is the verdict."""

    def __init__(self, server, client, name):
        self.server, self.client = server, client
        self.user, self.token = server.user(name)
        # The ids: accepted by the server, of those the ones that need not arrive, and received.
        self.accepted, self.optional, self.seen = set(), set(), set()
        self.connections, self.problems, self.open = 0, [], []

    def send(self, count, large=0, size=None):
        """Sends `count` small messages, `large` of them replaced by large ones, evenly spread; returns the ids."""
        every = count // large if large else count + 1
        sizes = [(size or self.client.large_bytes) if at % every == every // 2 else 100 for at in range(count)]
        ids = self.server.send(self.user, sizes)
        self.accepted.update(ids)
        return ids

    def waiting(self):
        return self.server.waiting(self.user)

    def connect(self, mode, count=0, pause_ms=0, ack=False):
        self.connections += 1
        url = f"ws://{self.client.host}:{self.server.port}/ws/device/?token={self.token}{'&ack=client' if ack else ''}"
        arguments = ["--url", url, "--mode", mode, "--count", str(count), "--pause-ms", str(pause_ms)]
        connection = Connection([*self.client.command, *arguments], {"CLIENT_DIR": str(self.server.path)})
        self.open.append(connection)
        return connection

    def describe_cut(self, code, received, errors):
        return f"cut with {code} after {received} ({self.server.reasons(self.user)}) {errors}".strip()

    def fail(self, problem):
        if problem not in self.problems:
            self.problems.append(problem)

    def judge(self, connection):
        """Checks the order of what a connection received."""
        top = max(self.seen, default=0)
        before = 0
        for at in connection.ids:
            if at <= before:
                self.fail(f"{at} after {before}")
            if at not in self.seen and at < top:
                self.fail(f"{at} for the first time after {top}")
            if at not in self.accepted:
                self.fail(f"{at} was never accepted")
            before = at
            top = max(top, at)
            self.seen.add(at)

    def settle(self, before):
        """Returns the number of queued messages once it is below `before`, or after a moment."""
        for _ in range(SETTLE_SECONDS * 10):
            now = self.waiting()
            if now < before:
                break
            time.sleep(0.1)
        return now

    def stays_until_empty(self, mode, count=0, pause_ms=0, silence=0):
        """One connection, which must receive everything and prove it without being cut. `silence`: seconds beyond the pauses for
        which nothing need arrive."""
        connection = self.connect(mode, count, pause_ms)
        free = connection.wait_until(lambda: self.required <= self.seen | set(connection.ids), pause_ms / 1000 + silence)
        until = time.monotonic() + STUCK_SECONDS
        while free and not connection.ended and self.waiting() > 0 and time.monotonic() < until:
            time.sleep(0.1)
        cut, code = connection.ended, connection.code
        errors = connection.kill()
        self.judge(connection)
        if cut:
            self.fail(self.describe_cut(code, len(connection.ids), errors))
        elif not free:
            self.fail(f"stuck after {len(connection.ids)}, {self.waiting()} queued")
        elif self.waiting() > 0:
            self.fail(f"{self.waiting()} never proved")

    def returns_until_empty(self, mode, pause_ms=0, kill_after=None, floor=0, ack=False):
        """Connection after connection until at most `floor` messages are queued; with `kill_after`, each is killed after that many."""
        sizes = [self.waiting()]
        while sizes[-1] > floor:
            connection = self.connect(mode, 0, pause_ms, ack)

            def done():
                # A proof of the connection before may have reached the server after it was looked at: fewer messages than `kill_after`
                # may be left, or none.
                if connection.pending is None:
                    return False
                if kill_after and len(connection.ids) >= kill_after:
                    return True
                return self.required <= self.seen | set(connection.ids) and self.waiting() == 0

            free = connection.wait_until(done, pause_ms / 1000)
            code, pending = connection.code, connection.pending
            errors = connection.kill()
            self.judge(connection)
            if not free:
                return self.fail(f"stuck after {len(connection.ids)}, {self.waiting()} queued")
            if pending is None:
                return self.fail(f"not connected: {code} {errors}")
            sizes.append(self.settle(sizes[-1]))
            if len(sizes) > 3 and sizes[-1] > floor and sizes[-1] >= sizes[-4]:
                return self.fail(f"queue {'→'.join(map(str, sizes[-4:]))} over three connections")
            if self.connections > MAX_CONNECTIONS:
                return self.fail(f"{sizes[-1]} left after {self.connections} connections")

    @property
    def required(self):
        return self.accepted - self.optional

    def end(self):
        """Checks what is left: nothing lost, nothing queued. Ends what still runs."""
        for connection in self.open:
            connection.kill()
        missing = len(self.required - self.seen)
        if missing and self.waiting() == 0:
            self.fail(f"{missing} lost")
        elif not self.problems and (missing or self.waiting() > 0):
            self.fail(f"{missing} not received, {self.waiting()} queued")
        self.server.call("DELETE", f"/api/queue/user/{self.user}", token=self.server.admin)
