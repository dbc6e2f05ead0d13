"""Posts the messages of the type `home` to a webhook of Home Assistant, in order, each until it was taken.

usage: bridge.py TOKEN URL WEBHOOK_URL [STORE_FILE]

A message is acknowledged once Home Assistant has answered, so that none is lost while either is restarted. With a store file none
comes twice either, but for one that was being posted when the bridge was killed.
"""

import asyncio
import json
import sys
import urllib.request
from typing import Any

from qy_lty_client import BackOff, DeviceWebSocketClient, FileStore


def post(url: str, frame: dict[str, Any]) -> None:
    """Posts a message; raises `OSError` where Home Assistant does not take it."""
    body = json.dumps({"id": frame["id"], "message": frame["message"], "sender": frame.get("sender")}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read(1024)


async def main(token: str, url: str, webhook: str, store: str | None = None) -> None:
    client = DeviceWebSocketClient(token, url, client="home-assistant", store=FileStore(store) if store else None)
    back_off = BackOff(first=1, most=30)

    async def forward(frame: dict[str, Any]) -> None:
        failures = 0
        while True:
            try:
                await asyncio.to_thread(post, webhook, frame)
            except OSError as error:
                print(f"Home Assistant: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(back_off.delay(failures))
                failures += 1
            else:
                return

    client.register_handler("home", forward)
    async with client:
        await client.wait_closed()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
