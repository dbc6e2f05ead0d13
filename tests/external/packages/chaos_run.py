#!/usr/bin/env python3
"""Runs client packages through chaos.py, and checks that each message is handled exactly once, in order.

usage: chaos_run.py BINARY DRIVER… [--messages N] [--seeds S] [--kills K] [--store] [--growth-mib M]

A DRIVER is a command, such as "node clients/javascript/tests/chaos_driver.mjs". It is called with URL TOKEN CLIENT COUNT and, with
--store, STORE_FILE. It connects with client=CLIENT and ack=client, prints a line `n id` after it has handled a message of the type
`chaos`, `{"n": int}`, and exits with 0 once it has handled COUNT of them and acknowledged the last.

For each driver and seed there is a user, a proxy, and a queue: half of the messages wait before the driver starts, the others are
sent meanwhile. The server closes the user's connections at times. With --store the driver runs twice, for half of the messages
each. With --kills the server is killed (SIGKILL) and started again so many times for each seed.
"""

import argparse
import json
import os
import pathlib
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from server import Server

HERE = pathlib.Path(__file__).resolve().parent
SENDERS = 4


def judge(sent, handled):
    """Compares the lines of a driver with the sent messages, both lists of (n, id); returns the numbers of lost, disordered, repeated."""
    expected = {number: n for n, number in sent}
    seen, disordered, repeated, highest = set(), 0, 0, 0
    for n, number in handled:
        if number in seen:
            repeated += 1
        elif number < highest or expected.get(number) != n:
            disordered += 1
        seen.add(number)
        highest = max(highest, number)
    return len(set(expected) - seen), disordered, repeated


def check_judge():
    """The judgement notices each kind of mistake."""
    sent = [(n, n + 10) for n in range(4)]
    for handled, verdict in (
        (sent, (0, 0, 0)),
        (sent[:3], (1, 0, 0)),
        ([*sent, sent[3]], (0, 0, 1)),
        ([sent[1], sent[0], *sent[2:]], (0, 1, 0)),
        ([*sent[:3], (7, 13)], (0, 1, 0)),
    ):
        assert judge(sent, handled) == verdict, (handled, verdict)


def memory(process):
    """Returns the resident memory of a process in KiB, or 0 where it has ended."""
    try:
        text = pathlib.Path(f"/proc/{process}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0


class Case:
    """One driver with one seed."""

    def __init__(self, run, driver, seed, number):
        self.run, self.seed, self.number = run, seed, number
        self.driver = shlex.split(driver)
        self.name = next((word for word in reversed(self.driver) if "driver" in word), driver)
        self.sent, self.handled, self.kicks, self.over = [], [], 0, threading.Event()
        self.first, self.peak, self.stderr = 0, 0, ""

    def send(self, numbers):
        with ThreadPoolExecutor(SENDERS) as pool:
            ids = pool.map(lambda n: self.run.server.send(self.user, "chaos", {"n": n}), numbers)
            self.sent.extend(zip(numbers, ids))

    def kick(self):
        """Has the server close the connections every few seconds: its close frames are what the proxy swallows."""
        dice = random.Random(self.seed)
        while not self.over.wait(dice.uniform(0.5, 2)):
            try:
                self.kicks += self.run.server.kick(self.user)
            except (OSError, RuntimeError, ValueError):
                pass  # The server has just been killed.

    def watch(self, process):
        """Notes the memory once a tenth of the messages was handled, and the highest afterwards."""
        while process.poll() is None:
            now = memory(process.pid)
            if len(self.handled) >= self.run.messages // 10:
                self.first = self.first or now
                self.peak = max(self.peak, now)
            time.sleep(0.2)

    def drive(self, url, token, count, store):
        """Runs the driver until it has handled `count` messages; returns a text for a failure of its own, else None."""
        process = subprocess.Popen(
            [*self.driver, url, token, "chaos", str(count), *store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        timer = threading.Timer(self.run.timeout, process.kill)
        timer.start()
        watcher = threading.Thread(target=self.watch, args=(process,))
        watcher.start()
        errors = []
        drain = threading.Thread(target=lambda: errors.extend(process.stderr))
        drain.start()
        malformed = None
        for line in process.stdout:
            try:
                n, number = line.split()
                self.handled.append((int(n), int(number)))
            except ValueError:
                malformed = malformed or line
        status = process.wait()
        timed_out = not timer.is_alive()
        timer.cancel()
        watcher.join()
        drain.join()
        text = self.stderr = "".join(errors[-20:])
        if malformed:
            return f"a line is not `n id`: {malformed!r}\n{text}"
        if status:
            return f"{'timed out' if timed_out else f'exit status {status}'} after {len(self.handled)} messages\n{text}"
        return None

    def execute(self):
        """Runs the case, and prints its line; returns whether all is well."""
        messages, server, began = self.run.messages, self.run.server, time.monotonic()
        self.user, token = server.user(f"chaos-{self.number}-{self.seed}")
        self.send(range(messages // 2))
        proxy = subprocess.Popen(
            [sys.executable, HERE / "chaos.py", "--to", f"127.0.0.1:{server.port}", "--seed", str(self.seed), *self.run.only],
            stdout=subprocess.PIPE, text=True)
        url = f"ws://127.0.0.1:{proxy.stdout.readline().split()[1]}"
        rest = threading.Thread(target=self.send, args=(range(messages // 2, messages),))
        kicker = threading.Thread(target=self.kick)
        kicker.start()
        store = [str(self.run.path / f"store-{self.number}-{self.seed}")] if self.run.store else []
        failure = self.drive(url, token, messages // 2, store) if store else None
        rest.start()  # after the first run, or it would take some of the second one's
        failure = failure or self.drive(url, token, messages - len(self.handled), store)
        self.over.set()
        rest.join()
        kicker.join()
        left = server.waiting(self.user)
        proxy.terminate()
        counts = json.loads(proxy.stdout.read().split(" ", 1)[1])
        proxy.wait()
        lost, disordered, repeated = judge(self.sent, self.handled)
        growth = (self.peak - self.first) / 1024
        well = not (failure or lost or disordered or repeated or len(self.sent) != messages or growth > self.run.growth)
        faults = sum(counts.get(kind, 0) for kind in ("refuse", "rst", "fin", "truncate", "swallow"))
        print(f"{'ok    ' if well else 'FAILED'} {self.name} seed {self.seed}: {len(self.sent)} sent, {len(self.handled)} handled, "
              f"{lost} lost, {disordered} out of order, {repeated} twice; {counts['connections']} connections, {faults} ended by "
              f"faults, {self.kicks} closed by the server; {left} left unacknowledged; memory {self.peak / 1024:.1f} MiB, "
              f"growth {growth:.1f} MiB; {time.monotonic() - began:.0f} s", flush=True)
        if failure:
            print(f"       {failure}", flush=True)
        if not well or self.run.verbose:
            print(f"       {json.dumps(counts)}", *self.stderr.splitlines(), sep="\n       ", flush=True)
        return well


class Run:
    """The server, and the cases against it: the drivers beside each other, one seed after the other."""

    def __init__(self, options, path):
        self.messages, self.store, self.growth = options.messages, options.store, options.growth_mib
        self.kills, self.verbose, self.path = options.kills, options.verbose, path
        self.only = ["--only", options.only] if options.only else []
        self.timeout = options.timeout or 180 + options.messages * 0.1
        self.server = Server(options.binary, path, options.messages * 2 + 1000)

    def kill(self, over, seed):
        dice = random.Random(f"{seed}/kills")
        for _ in range(self.kills):
            if over.wait(dice.uniform(3, 8)):
                return
            self.server.kill()

    def seed(self, drivers, seed):
        """Runs all drivers with a seed; returns whether all is well."""
        over = threading.Event()
        killer = threading.Thread(target=self.kill, args=(over, seed))
        cases = [Case(self, driver, seed, number) for number, driver in enumerate(drivers)]
        killer.start()
        try:
            with ThreadPoolExecutor(len(cases)) as pool:
                return all(list(pool.map(Case.execute, cases)))
        finally:
            over.set()
            killer.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("drivers", nargs="+", metavar="DRIVER")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0, help="times that the server is killed in each seed")
    parser.add_argument("--store", action="store_true", help="pass a store file, and run each driver twice")
    parser.add_argument("--growth-mib", type=float, default=64, help="largest growth of the driver's memory")
    parser.add_argument("--timeout", type=float, help="seconds for one driver")
    parser.add_argument("--only", help="faults, as chaos.py takes them")
    parser.add_argument("--verbose", action="store_true", help="print the proxy's counts")
    options = parser.parse_args()
    for driver in options.drivers:
        if not shutil.which(shlex.split(driver)[0]):
            parser.error(f"there is no program for the driver {driver!r}")
    check_judge()
    os.environ["PYTHONUNBUFFERED"] = "1"
    with tempfile.TemporaryDirectory(prefix="qy-lty-chaos-") as directory:
        run = Run(options, pathlib.Path(directory))
        try:
            results = [run.seed(options.drivers, seed) for seed in range(1, options.seeds + 1)]
        finally:
            run.server.stop()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
