"""Reads messages of the type `chaos` through a bad network.

usage: chaos_driver.py URL TOKEN CLIENT COUNT [STORE_FILE]

Writes `n id` for each message after it was handled; ends with status 0 once COUNT distinct ones were handled and the last one is
acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

from qy_lty_client import BackOff, DeviceWebSocketClient, FileStore


async def main(url: str, token: str, name: str, count: int, store: str | None) -> None:
    # Short delays: the run measures correctness, and cuts a connection every few seconds.
    client = DeviceWebSocketClient(
        token, url, client=name, ack="client", back_off=BackOff(0.1, 2.0), store=FileStore(store) if store else None)
    handled: set[int] = set()
    complete = asyncio.Event()
    if count == 0:  # an earlier run has handled them all, while it waited for its last acknowledgement to arrive
        complete.set()

    async def handle(frame: dict[str, Any]) -> None:
        await asyncio.sleep(random.uniform(0, 0.002))
        print(frame["message"]["n"], frame["id"], flush=True)
        handled.add(frame["message"]["n"])
        if len(handled) >= count:
            complete.set()

    client.register_handler("chaos", handle)
    client.on("error", lambda error: print(f"error: {error}", file=sys.stderr))
    client.on("disconnected", lambda event: print(f"disconnected: {event}", file=sys.stderr))
    await client.connect()
    await complete.wait()
    while True:
        # The acknowledgement has arrived when an answer to what was sent after it has.
        try:
            await asyncio.sleep(0.3)
            await client.request("ping", {}, timeout=10)
        except Exception as error:
            print(f"error: {error}", file=sys.stderr)
        else:
            if client.acknowledged:
                break
    await client.disconnect()


if __name__ == "__main__":
    _, address, secret, reader, number, *path = sys.argv
    asyncio.run(main(address, secret, reader, int(number), path[0] if path else None))
