"""Driver for tests/external/packages/chaos_run.py. usage: micropython chaos_driver.py URL TOKEN CLIENT COUNT [STORE_FILE]"""
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0] if __file__.count("/") > 1 else "..")
import asyncio
import gc
import random

from qy_lty_client import DeviceWebSocketClient, FileStore


async def main(url, token, name, count, path=None):
    """Prints `n id` for each message once it is handled, and the most heap that was in use, at the end, to stderr."""
    client = DeviceWebSocketClient(
        token, url, client=name, store=FileStore(path) if path else None, heartbeat_seconds=2, back_off={"first": 0.1, "most": 1})
    done, handled, used = asyncio.Event(), 0, 0

    async def handle(frame):
        nonlocal handled, used
        await asyncio.sleep_ms(random.randrange(3))
        print(frame["message"]["n"], frame["id"])
        handled += 1
        if handled % 50 == 0:
            gc.collect()
            used = max(used, gc.mem_alloc())
        if handled == count:
            done.set()

    client.register_handler("chaos", handle)
    await client.connect()
    await done.wait()
    for _ in range(5):
        if await client.disconnect():
            break
        # The last acknowledgement may be lost: the messages come again, are dropped, and are acknowledged.
        await client.connect()
        await asyncio.sleep(1)
    sys.stderr.write("heap in use after a collection, at most: %d bytes\n" % used)


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else None))
