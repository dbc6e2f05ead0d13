"""A lamp: messages of the type `lamp` switch it, and it asks for the weather when it starts. The smallest useful app for a board.

On a board, copy it as main.py beside the two files of the client, connect the WiFi, and write the server's URL and the token below.
With the unix port: micropython lamp.py URL TOKEN
"""
import asyncio
import sys

from qy_lty_client import DeviceWebSocketClient, FileStore

URL, TOKEN = sys.argv[1:3] if len(sys.argv) > 2 else ("http://192.168.1.10:8000", "qlt_TOKEN")

try:
    from machine import Pin
    switch = Pin(2, Pin.OUT).value
except ImportError:
    def switch(on):
        print("the lamp is", "on" if on else "off")


async def main():
    client = DeviceWebSocketClient(TOKEN, URL, client="lamp", store=FileStore("lamp.json"))
    # Acknowledged once it has returned; after a restart, a message that was handled does not come again.
    client.register_handler("lamp", lambda frame: switch(1 if frame["message"]["on"] else 0))
    client.on("gone", lambda data: print("stays away:", data["meaning"]))
    await client.connect()
    print((await client.request("weather", {"city": "上海"}))["data"]["weather"]["now"]["text"])
    while client.state != "gone":
        await asyncio.sleep(1)


asyncio.run(main())
