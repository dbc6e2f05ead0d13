"""The client with aiohttp."""

import asyncio

import aiohttp

from reader import Reader, report_close


async def main():
    reader = Reader()
    async with aiohttp.ClientSession() as session, session.ws_connect(reader.url) as ws:
        while not reader.finished:
            message = await ws.receive()
            if message.type != aiohttp.WSMsgType.TEXT:
                break
            if reader.blocks:
                reader.block(message.data)
            else:
                await asyncio.sleep(reader.take(message.data))
        await ws.close()
        report_close(ws.close_code)


asyncio.run(main())
