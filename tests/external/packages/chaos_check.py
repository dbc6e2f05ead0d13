#!/usr/bin/env python3
"""Checks that chaos.py does each of its faults, as a client and a server see it. usage: chaos_check.py

Each fault is done alone, against a server of this program; what both ends observe must agree with the proxy's own counts. Then all
of them are done together, and every byte that arrives is compared with what was sent. Prints the figures of each case.
"""

import asyncio
import json
import pathlib
import struct
import sys
import time

import chaos

PROXY = pathlib.Path(__file__).resolve().parent / "chaos.py"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
CLOSE = b"\x88\x02\x03\xe9"


def frame(payload):
    """Returns an unmasked text frame, as a server writes it."""
    size = len(payload)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)) + payload


class Server:
    """A server that writes `parts`, `gap` seconds apart, to each connection, keeps what arrives, and counts ends."""

    def __init__(self, parts, gap=0.0, stay=60.0):
        self.parts, self.gap, self.stay = parts, gap, stay
        self.received, self.resets, self.writes = bytearray(), 0, 0

    async def accept(self, reader, writer):
        async def read():
            try:
                while data := await reader.read(65536):
                    self.received += data
            except ConnectionResetError:
                self.resets += 1

        reading = asyncio.create_task(read())
        try:
            for part in self.parts:
                writer.write(part)
                self.writes += 1
                await writer.drain()
                await asyncio.sleep(self.gap)
            await asyncio.wait([reading], timeout=self.stay)
        except ConnectionError:
            pass
        reading.cancel()
        writer.close()


async def observed(port, send=b"", limit=8.0):
    """Connects, sends, and reads until the end; returns the outcome, the reads with their times, and the time of the end."""
    reads, began = [], time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return "refused", reads, 0.0
    except ConnectionError:
        return "reset", reads, 0.0
    try:
        writer.write(send)
        while True:
            data = await asyncio.wait_for(reader.read(65536), max(0.01, limit - (time.monotonic() - began)))
            if not data:
                return "fin", reads, time.monotonic() - began
            reads.append((time.monotonic() - began, data))
    except (TimeoutError, asyncio.TimeoutError):
        return "open", reads, time.monotonic() - began
    except ConnectionError:
        return "reset", reads, time.monotonic() - began
    finally:
        writer.transport.abort()


class Run:
    """A server, and the proxy as a process before it."""

    def __init__(self, server, *options):
        self.server, self.options = server, options

    async def __aenter__(self):
        listener = await asyncio.start_server(self.server.accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROXY), "--to", f"127.0.0.1:{port}", *self.options, stdout=asyncio.subprocess.PIPE)
        self.port = int((await self.process.stdout.readline()).split()[1])
        self.listener = listener
        return self

    async def __aexit__(self, *_):
        self.process.terminate()
        self.counts = json.loads((await self.process.stdout.read()).split(b" ", 1)[1])
        await self.process.wait()
        self.listener.close()

    async def clients(self, number, **options):
        return await asyncio.gather(*(observed(self.port, **options) for _ in range(number)))


def joined(reads):
    return b"".join(data for _, data in reads)


def check(condition, *figures):
    if not condition:
        raise AssertionError(figures)


async def endings():
    """RST, FIN and truncation: each connection ends so, in the middle of what was sent; refusals end before the first byte."""
    parts = [frame(b"x" * 1000)] * 400
    for fault, outcome in ((chaos.RST, "reset"), (chaos.FIN, "fin"), (chaos.TRUNCATE, "reset"), (chaos.REFUSE, "reset")):
        server = Server([HEAD, *parts])
        async with Run(server, "--seed", "1", "--only", fault) as run:
            seen = await run.clients(20, limit=30)
        ends = [end for end, _, _ in seen]
        lengths = [len(joined(reads)) for _, reads, _ in seen]
        whole = sum(map(len, server.parts))
        sent = HEAD + b"".join(parts)
        check(all(sent.startswith(joined(reads)) for _, reads, _ in seen), fault, "bytes differ")
        # A reset that overtakes bytes in the client's kernel shows as the end, on few connections at most.
        check(ends.count(outcome) >= 18, fault, ends)
        check(run.counts[fault] == 20, fault, run.counts)
        cut = sum(length < whole for length in lengths)
        check(cut == 20 if fault != chaos.REFUSE else not any(lengths), fault, lengths)
        hung = [end - (reads[-1][0] if reads else 0) for _, reads, end in seen]
        if fault == chaos.TRUNCATE:
            check(min(hung) >= chaos.HANG_SECONDS[0] * 0.9, fault, hung)
        yield fault, f"{ends.count(outcome)} of 20 saw {outcome}; bytes until then {min(lengths)} to {max(lengths)} of {whole}"


async def shut():
    """The port refuses connections at times, and is the same afterwards."""
    async with Run(Server([HEAD], stay=0.0), "--seed", "2", "--only", chaos.SHUT) as run:
        ends = []
        until = time.monotonic() + 6
        while time.monotonic() < until:
            ends.append((await observed(run.port))[0])
            await asyncio.sleep(0.02)
    refused, fin = ends.count("refused"), ends.count("fin")
    check(refused >= 10 and fin >= 10 and run.counts[chaos.SHUT] >= 2, ends, run.counts)
    yield chaos.SHUT, f"{run.counts[chaos.SHUT]} times; {refused} connections refused, {fin} served"


async def swallow():
    """The close frame and the end are left out, and the socket stays open for a while; all before it arrives."""
    before = [HEAD, frame(b"a" * 300), frame(b"b" * 20_000), b"\x89\x03abc"]
    async with Run(Server([*before, CLOSE], stay=0.0), "--seed", "3", "--only", chaos.SWALLOW) as run:
        seen = await run.clients(10)
    quiet = [end - reads[-1][0] for _, reads, end in seen]
    check(all(joined(reads) == b"".join(before) for _, reads, _ in seen), [joined(reads)[-8:] for _, reads, _ in seen])
    check(run.counts[chaos.SWALLOW] == 10 and min(quiet) >= chaos.HANG_SECONDS[0] * 0.9, run.counts, quiet)
    yield chaos.SWALLOW, f"10 of 10 saw no close frame, and {min(quiet):.1f} to {max(quiet):.1f} s of silence before the end"


async def times():
    """Splits, merges, delays and stalls; the bytes are whole, in both directions."""
    parts = [HEAD, *(frame(b"%03d" % n * 30) for n in range(20))]
    sent = b"".join(parts)
    # The client's bytes are one write, the server's 21, a moment apart.
    upward = bytes(range(256)) * 8
    for fault in (chaos.SPLIT, chaos.MERGE, chaos.DELAY, chaos.STALL):
        server = Server(parts if fault != chaos.STALL else parts[:3], gap=0.01 if fault == chaos.MERGE else 0.002)
        async with Run(server, "--seed", "4", "--only", fault) as run:
            [(end, reads, _)] = await run.clients(1, send=upward, limit=12.0 if fault == chaos.STALL else 8.0)
        check(end == "open" and sent.startswith(joined(reads)) and bytes(server.received) == upward, fault, end, reads)
        check(len(joined(reads)) == len(b"".join(server.parts)), fault, len(joined(reads)))
        single = sum(len(data) == 1 for _, data in reads)
        gaps = [later[0] - earlier[0] for earlier, later in zip([(0.0, b"")] + reads, reads)]
        if fault == chaos.SPLIT:
            check(single >= 50, single)
        if fault == chaos.MERGE:
            check(len(reads) <= server.writes // 2, len(reads), server.writes)
        if fault == chaos.DELAY:
            check(max(gaps) >= chaos.DELAY_SECONDS[0], gaps)
        if fault == chaos.STALL:
            check(max(gaps) >= chaos.STALL_SECONDS[0], gaps)
        check(run.counts[fault] >= 1, run.counts)
        yield fault, (f"{run.counts[fault]} times; {server.writes} writes were {len(reads)} reads, {single} of one byte, "
                      f"with at most {max(gaps):.2f} s between two")


async def together():
    """All faults: what arrives is the beginning of what was sent, in both directions; after the calm, all of it."""
    parts = [HEAD, *(frame(b"%04d" % n * 50) for n in range(300)), CLOSE]
    sent = b"".join(parts)
    whole, seen = 0, []
    async with Run(Server(parts, stay=0.0), "--seed", "5", "--calm-after", "15") as run:
        began = time.monotonic()
        for _ in range(8):
            seen += await run.clients(40, limit=15)
        await asyncio.sleep(max(0.0, 15.5 - (time.monotonic() - began)))
        calm = await run.clients(40)
    check(all(sent.startswith(joined(reads)) for _, reads, _ in seen), "bytes differ")
    whole = sum(joined(reads) == sent for _, reads, _ in seen)
    check(all(joined(reads) == sent and end == "fin" for end, reads, _ in calm), [end for end, _, _ in calm])
    check(all(run.counts[fault] for fault in chaos.FAULTS), run.counts)
    yield "together", f"{len(seen)} connections, {whole} whole; after the calm 40 of 40; {json.dumps(run.counts)}"


async def main():
    for case in (endings, shut, swallow, times, together):
        async for name, figures in case():
            print(f"{name:10} {figures}", flush=True)
    print("ok")


if __name__ == "__main__":
    asyncio.run(main())
