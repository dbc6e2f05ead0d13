#!/usr/bin/env python3
"""A TCP proxy that treats WebSocket connections as bad networks do. Standard library only.

usage: chaos.py --to HOST:PORT --seed N [--calm-after SECONDS] [--only FAULT[,FAULT…]]

Prints `listening PORT`, and at its end (SIGTERM, SIGINT) one line `counts {…}`: the number of times that each fault was done.
Bytes are never changed or reordered. What arrives is what was sent, or its beginning; only a close frame of the server is left
out by the fault `swallow`, and nothing follows it.

All random choices of a connection come from the seed and the connection's number. Times depend on the peers, so that two runs
with one seed are alike and not the same.
"""

import argparse
import asyncio
import collections
import json
import random
import signal
import socket
import struct
import sys
import time

# What can happen, and to what.
REFUSE = "refuse"  # A connection is accepted and reset at once.
SHUT = "shut"  # The port refuses connections for a while.
RST = "rst"  # An open connection is reset on both sides.
FIN = "fin"  # An open connection ends in order on both sides, wherever in a frame that is.
TRUNCATE = "truncate"  # Nothing more passes in the middle of a write; the socket stays open for a while.
SWALLOW = "swallow"  # The server's close frame is left out; the socket stays open for a while.
SPLIT = "split"  # Up to SPLIT_BYTES of a write pass one by one.
MERGE = "merge"  # Writes are collected, and pass as one.
DELAY = "delay"  # A write passes late.
STALL = "stall"  # Nothing passes in one direction for a while.
FAULTS = (REFUSE, SHUT, RST, FIN, TRUNCATE, SWALLOW, SPLIT, MERGE, DELAY, STALL)

SPLIT_BYTES = 200
MAX_READ_BYTES = 4096
DELAY_SECONDS = (0.01, 0.1)
MERGE_SECONDS = (0.02, 0.08)
STALL_SECONDS = (0.2, 3.0)
HANG_SECONDS = (0.3, 3.0)
SHUT_SECONDS = (0.2, 1.0)
# A connection that is to be cut lasts for an exponential number of bytes or seconds, whichever is over first.
MEAN_LIFE_BYTES = 40_000
MEAN_LIFE_SECONDS = 5.0
# One in ten of these is cut within this, in the handshake or the first frames.
EARLY_BYTES = 600
# One in four lasts longer, for any number of bytes, so that the server's close is seen behind what was on its way.
LONG_SECONDS = 20.0
# The share of writes that a fault of time is done to.
WEIGHTS = {None: 74, SPLIT: 9, MERGE: 8, DELAY: 8, STALL: 1}


class CloseFrames:
    """Finds the close frame in what a server sends: after the head of HTTP, RFC 6455 frames without masks."""

    def __init__(self):
        self.head = b""
        self.in_head = True
        self.skip = 0

    def find(self, data):
        """Returns the position in `data` where a close frame begins, or None. Takes all bytes of the stream, in order."""
        at = 0
        if self.in_head:
            known = len(self.head)
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return None
            self.in_head, at = False, end + 4 - known
            self.head = b""
        while at < len(data):
            if self.skip:
                step = min(self.skip, len(data) - at)
                self.skip -= step
                at += step
                continue
            start = at - len(self.head)
            self.head += data[at : at + 1]
            at += 1
            if self.head[0] & 0x0F == 8:
                return max(start, 0)
            self.skip = self.payload()
            if self.skip is None:
                self.skip = 0
            else:
                self.head = b""
        return None

    def payload(self):
        """Returns the length of the payload once the frame's header is whole, else None."""
        if len(self.head) < 2:
            return None
        short = self.head[1] & 0x7F
        size = {126: 2, 127: 8}.get(short, 0)
        if len(self.head) < 2 + size:
            return None
        return int.from_bytes(self.head[2 : 2 + size], "big") if size else short


def reset(writer):
    """Closes a connection with RST in place of FIN."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy, number, client, server):
        self.proxy = proxy
        self.random = random.Random(f"{proxy.seed}/{number}")
        self.client, self.server = client, server
        endings = [fault for fault in (RST, FIN, TRUNCATE) if proxy.does(fault)]
        self.ending = self.random.choice(endings) if endings else None
        early = self.random.random() < 0.1
        self.bytes_left = self.random.randrange(EARLY_BYTES) if early else self.random.expovariate(1 / MEAN_LIFE_BYTES)
        self.seconds = self.random.expovariate(1 / MEAN_LIFE_SECONDS)
        if self.random.random() < 0.25 and proxy.only is None:
            self.bytes_left, self.seconds = float("inf"), self.random.expovariate(1 / LONG_SECONDS)
        # In most connections, so that a server's close is mostly the quiet kind.
        self.swallow = proxy.does(SWALLOW) and (self.random.random() < 0.6 or proxy.only == [SWALLOW])
        self.over = asyncio.Event()

    async def run(self):
        """Passes bytes in both directions until the connection has ended, by itself or by a fault."""
        pipes = [
            asyncio.create_task(self.pipe(self.client[0], self.server[1], None)),
            asyncio.create_task(self.pipe(self.server[0], self.client[1], CloseFrames())),
        ]
        over = asyncio.create_task(self.over.wait())
        try:
            # Either direction's end is the end: a WebSocket has no use for half a connection.
            done, _ = await asyncio.wait(
                [*pipes, over], timeout=self.seconds if self.ending else None, return_when=asyncio.FIRST_COMPLETED)
            if not done and not self.proxy.is_calm():
                self.over.set()
            if not done and self.proxy.is_calm():
                await asyncio.wait([*pipes, over], return_when=asyncio.FIRST_COMPLETED)
            if self.over.is_set():
                for pipe in pipes:
                    pipe.cancel()
                await self.cut()
        finally:
            for task in (*pipes, over):
                task.cancel()
            await asyncio.gather(*pipes, over, return_exceptions=True)
            for writer in (self.client[1], self.server[1]):
                writer.close()

    async def cut(self):
        """Ends the connection in the way that was chosen for it."""
        self.proxy.count(self.ending)
        if self.ending == RST:
            reset(self.client[1])
            reset(self.server[1])
        elif self.ending == FIN:
            for writer in (self.client[1], self.server[1]):
                writer.close()
        else:
            await asyncio.sleep(self.random.uniform(*HANG_SECONDS))
            reset(self.client[1])
            reset(self.server[1])

    async def pipe(self, reader, writer, frames):
        """Passes one direction on; `frames` is given for that of the server."""
        try:
            while data := await reader.read(self.random.randint(1, MAX_READ_BYTES)):
                data, split = await self.treat(data, reader)
                close = frames.find(data) if frames and self.swallow else None
                if close is not None and not self.proxy.is_calm():
                    self.proxy.count(SWALLOW)
                    writer.write(data[:close])
                    await asyncio.sleep(self.random.uniform(*HANG_SECONDS))
                    return
                if self.ending and not self.proxy.is_calm():
                    self.bytes_left -= len(data)
                    if self.bytes_left <= 0:
                        # The cut is within this write: a frame, or the head of the handshake, ends in the middle.
                        await self.write(writer, data[: self.random.randrange(len(data) + 1)], split)
                        self.over.set()
                        return
                await self.write(writer, data, split)
        except (ConnectionError, OSError):
            pass

    async def treat(self, data, reader):
        """Does a fault of time to a write, or none; returns the write, with others merged into it, and whether to split it."""
        fault = self.proxy.choose(self.random)
        if fault in (DELAY, STALL):
            self.proxy.count(fault)
            await asyncio.sleep(self.random.uniform(*(DELAY_SECONDS if fault == DELAY else STALL_SECONDS)))
        elif fault == MERGE:
            await asyncio.sleep(self.random.uniform(*MERGE_SECONDS))
            try:
                more = await asyncio.wait_for(reader.read(MAX_READ_BYTES), 0.001)
            except (TimeoutError, asyncio.TimeoutError):
                return data, False
            if more:
                self.proxy.count(MERGE)
                data += more
        return data, fault == SPLIT

    async def write(self, writer, data, split):
        """Writes, the first bytes one by one with `split`."""
        if split:
            self.proxy.count(SPLIT)
            for at in range(min(len(data), SPLIT_BYTES)):
                if writer.is_closing():
                    raise ConnectionResetError
                writer.write(data[at : at + 1])
                await asyncio.sleep(0.0003)
            data = data[SPLIT_BYTES:]
        writer.write(data)
        await writer.drain()


class Proxy:
    """The listener, the choice of faults, and their counts."""

    def __init__(self, target, seed, calm_after=None, only=None):
        self.target, self.seed, self.only = target, seed, only
        self.began, self.calm_after = time.monotonic(), calm_after
        self.counts = collections.Counter({"connections": 0, **{fault: 0 for fault in FAULTS if self.does(fault)}})
        self.random = random.Random(f"{seed}/listener")
        # Keeps the port while nothing listens on it, so that no other process gets it.
        self.placeholder = self.bound(0)
        self.port = self.placeholder.getsockname()[1]
        self.listener = None

    @staticmethod
    def bound(port):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        raw.bind(("127.0.0.1", port))
        return raw

    def does(self, fault):
        """Returns whether this proxy does the fault at all."""
        return not self.only or fault in self.only

    def is_calm(self):
        """Returns whether the time of faults is over."""
        return self.calm_after is not None and time.monotonic() - self.began >= self.calm_after

    def count(self, fault):
        self.counts[fault] += 1

    def choose(self, dice):
        """Chooses what happens to one write."""
        if self.is_calm():
            return None
        possible = {fault: weight for fault, weight in WEIGHTS.items() if fault is None or self.does(fault)}
        if self.only and len(possible) > 1:
            possible.pop(None)  # A fault that was asked for is done each time.
        return dice.choices(list(possible), list(possible.values()))[0]

    async def listen(self):
        self.listener = await asyncio.start_server(self.accept, sock=self.bound(self.port))

    async def shut_at_times(self):
        """Closes the port every few seconds for a part of one; open connections go on."""
        while True:
            await asyncio.sleep(self.random.uniform(1, 2) if self.only else self.random.uniform(2, 8))
            if self.is_calm():
                return
            self.count(SHUT)
            self.listener.close()
            await asyncio.sleep(self.random.uniform(*SHUT_SECONDS))
            await self.listen()

    async def accept(self, reader, writer):
        """Connects to the server for a client, unless the client is to be refused."""
        number = self.counts["connections"]
        self.count("connections")
        dice = random.Random(f"{self.seed}/{number}/accept")
        share = 1.0 if self.only == [REFUSE] else 0.1
        if self.does(REFUSE) and not self.is_calm() and dice.random() < share:
            self.count(REFUSE)
            reset(writer)
            return
        try:
            server = await asyncio.open_connection(*self.target)
        except OSError:
            # The server is away, which clients must see as a refusal.
            self.counts["server_away"] += 1
            reset(writer)
            return
        for end in (writer, server[1]):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await Link(self, number, (reader, writer), server).run()
        except asyncio.CancelledError:
            pass

    async def serve(self):
        """Runs until SIGTERM or SIGINT, then prints the counts."""
        over = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        await self.listen()
        print(f"listening {self.port}", flush=True)
        shutter = asyncio.create_task(self.shut_at_times()) if self.does(SHUT) else None
        await over.wait()
        if shutter:
            shutter.cancel()
        self.listener.close()
        print("counts " + json.dumps(self.counts), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--calm-after", type=float, metavar="SECONDS", help="passes everything on unchanged after this time")
    parser.add_argument("--only", metavar="FAULT[,FAULT…]", help=f"does these alone, as often as it can: {', '.join(FAULTS)}")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    only = options.only.split(",") if options.only else None
    if only and set(only) - set(FAULTS):
        parser.error(f"unknown fault in {options.only!r}; known are {', '.join(FAULTS)}")
    asyncio.run(Proxy((host, int(port)), options.seed, options.calm_after, only).serve())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
