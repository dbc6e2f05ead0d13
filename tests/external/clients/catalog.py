"""The clients, as setup.sh has installed them."""

import pathlib
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent


@dataclass
class Client:
    """A client program. Its large messages are below its own limit."""

    command: list
    large_bytes: int = 50_000
    oversized_bytes: int = 0
    # The library answers pings although its program has not yet read what came before them.
    reads_ahead: bool = False
    host: str = "127.0.0.1"
    # Scenarios that only this client has.
    extra: list = field(default_factory=list)


def clients(tools):
    """Returns all clients by name."""
    def python(program, environment="python", **habits):
        return Client([f"{tools}/{environment}/bin/python", str(HERE / "python" / program)], **habits)

    def board(library, **habits):
        client = python("arduino_like.py", large_bytes=12_000, **habits)
        client.command += ["--library", library]
        return client

    def node(program, **habits):
        return Client(["node", f"{tools}/node/{program}"], **habits)

    def runtime(*command, **habits):
        return Client([f"{tools}/node/node_modules/.bin/{command[0]}", *command[1:], f"{tools}/node/builtin.mjs"], **habits)

    def java(name):
        libraries = ":".join(f"/usr/share/java/{jar}.jar" for jar in ("okhttp", "okio"))
        return Client(["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", f"{tools}/java:{libraries}", name])

    return {
        "websockets": python("websockets_client.py", reads_ahead=True),
        "websockets-10": python("websockets_client.py", "python-10", reads_ahead=True),
        "websocket-client": python("websocket_client.py"),
        "aiohttp": python("aiohttp_client.py"),
        "ws": node("ws.mjs"),
        "undici": node("undici.mjs"),
        "bun": runtime("bun"),
        "deno": runtime("deno", "run", "--allow-all"),
        "chromium": node("chromium.mjs", reads_ahead=True),
        "okhttp": java("OkHttpReader"),
        "java.net.http": java("JavaNetHttp"),
        "beast": Client([f"{tools}/beast"]),
        "links2004-like": board("links2004", oversized_bytes=20_000, extra=["oversized"]),
        "gilmaimon-like": board("gilmaimon"),
        "esp-idf-like": board("esp-idf"),
    }
