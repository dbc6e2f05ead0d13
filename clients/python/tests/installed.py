"""Uses the installed package against a server: run by check.sh in an environment that has nothing else."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.resources
import os
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))

import qy_lty_client
from server import Server


async def main(token: str, url: str) -> None:
    async with qy_lty_client.DeviceWebSocketClient(token, url) as client:
        print((await client.request("chat_message", "installed"))["message"])


if __name__ == "__main__":
    assert "site-packages" in str(qy_lty_client.__file__)
    assert importlib.metadata.version("qy-lty-client") == qy_lty_client.__version__
    assert importlib.resources.files("qy_lty_client").joinpath("py.typed").is_file()
    server = Server()
    try:
        asyncio.run(main(server.user("ana").token, server.url))
    finally:
        server.remove()
