"""Slow links: clients in network namespaces of their own, behind a token bucket. Needs root, `ip` and `tc`."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from case import Case
from server import Server

RATES_KB = [1.5, 3, 6, 12]
# What the router at the slow end buffers.
QUEUE_BYTES = 6000
# A large message takes that long at the slowest rate, with what is queued before it.
SILENCE_SECONDS = 60


class Link:
    """A namespace that receives at most so much; used as a context."""

    def __init__(self, number, rate_kb):
        self.name, self.address = f"qylty{number}", f"10.213.{number}.1"
        self.rate_kb = rate_kb

    def __enter__(self):
        try:
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def open(self):
        here, there = f"{self.name}a", f"{self.name}b"
        self.run("ip", "netns", "add", self.name)
        self.run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        self.run("ip", "address", "add", f"{self.address}/24", "dev", here)
        self.run("ip", "link", "set", here, "up")
        self.run("ip", "-n", self.name, "address", "add", f"{self.address[:-1]}2/24", "dev", there)
        self.run("ip", "-n", self.name, "link", "set", there, "up")
        self.run("tc", "qdisc", "add", "dev", here, "root", "tbf", "rate", f"{self.rate_kb * 8:g}kbit",
                 "burst", "2000", "limit", str(QUEUE_BYTES))

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True)


def run_link(server, name, client, link):
    """Runs one client over one link; returns the problems."""
    began = time.monotonic()
    with link:
        client = replace(client, command=["ip", "netns", "exec", link.name, *client.command], host=link.address, large_bytes=12_000)
        case = Case(server, client, f"{name}-{link.rate_kb}")
        try:
            case.send(900, large=10)
            case.stays_until_empty("drain", silence=SILENCE_SECONDS)
        finally:
            case.end()
    sys.stdout.write(f"{name:20} {link.rate_kb:4} KB/s {time.monotonic() - began:6.1f} s  {'; '.join(case.problems) or 'ok'}\n")
    sys.stdout.flush()
    return case.problems


def run(options, clients):
    """Runs all clients over all links at the same time; returns the problems by client and rate."""
    arduino = clients["links2004-like"]
    chosen = {
        "buffer of 5.7 KB": arduino,
        "default buffer": replace(arduino, command=[*arduino.command, "--receive-buffer", "0"]),
        "websockets": clients["websockets"],
    }
    server = Server(options.binary, {}, "0.0.0.0:0")
    try:
        with ThreadPoolExecutor(len(chosen) * len(RATES_KB)) as pool:
            running = {}
            for name, client in chosen.items():
                for rate in RATES_KB:
                    link = Link(len(running) + 1, rate)
                    running[name, str(rate)] = pool.submit(run_link, server, name, client, link)
            return {key: result.result() for key, result in running.items()}
    finally:
        server.stop()
