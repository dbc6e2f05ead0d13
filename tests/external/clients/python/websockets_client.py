"""The client with `websockets`, for version 10 and for the newest."""

import asyncio

import websockets

from reader import Reader, report_close


async def main():
    reader = Reader()
    ws = await websockets.connect(reader.url)
    try:
        while not reader.finished:
            text = await ws.recv()
            if reader.blocks:
                reader.block(text)
            else:
                await asyncio.sleep(reader.take(text))
            if reader.acknowledgement():
                await ws.send(reader.acknowledgement())
    except websockets.exceptions.ConnectionClosed:
        pass
    await ws.close()
    report_close(ws.close_code)


asyncio.run(main())
