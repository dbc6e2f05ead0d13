"""The smallest useful app: says something, asks for the weather, and shows what is sent to its user until it is stopped.

usage: smallest.py TOKEN [URL]
"""

import asyncio
import sys

from qy_lty_client import DeviceWebSocketClient


async def main(token: str, url: str = "ws://localhost:8000") -> None:
    client = DeviceWebSocketClient(token, url, client="smallest")
    client.on("message", lambda frame: print(f"{frame['type']}: {frame['message']}", flush=True))
    async with client:
        print((await client.request("chat_message", "你好"))["message"], flush=True)
        now = (await client.request("weather", {"city": "上海"}))["data"]["weather"]["now"]
        print(f"{now['text']}, {now['temp']}°C", flush=True)
        await client.wait_closed()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
