"""A program on the client, for tests: prints events as JSON lines, and does what lines of stdin ask for.

usage: micropython agent.py OPTIONS, a JSON object: `token` or `tokens`, `base_url`, `store`, and other options of the client.
"""
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])
import asyncio
import gc
import json
import ssl

import qy_lty_client as qy

EVENTS = ("connected", "disconnected", "missed", "recovered", "gone", "error", "message", "state")


def say(**line):
    print(json.dumps(line))


def plain(data):
    """Returns what an event carries in a form that JSON has."""
    return {name: value if name != "error" else repr(value) for name, value in data.items()} if isinstance(data, dict) else data


def make(options):
    tokens, calls = options.pop("tokens", None), [0]

    def token():
        calls[0] += 1
        say(event="token", data=calls[0])
        return tokens[min(calls[0], len(tokens)) - 1]

    path, ca = options.pop("store", None), options.pop("ca", None)
    if path:
        options["store"] = qy.FileStore(path)
    if ca:
        options["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        options["ssl"].verify_mode = ssl.CERT_REQUIRED
        with open(ca, "rb") as file:
            options["ssl"].load_verify_locations(cadata=file.read())
    return qy.DeviceWebSocketClient(token if tokens else options.pop("token"), options.pop("base_url"), **options)


def handlers(client):
    async def slow(frame):
        await asyncio.sleep(frame["message"]["seconds"])
        say(handled=frame["id"])

    async def ask(frame):
        try:
            reply = await client.request("sing", {"song": "a"}, timeout=20)
            say(handled=frame["id"], reply=reply["type"])
        except qy.RequestError as error:
            say(handled=frame["id"], reply=error.code)

    async def leave(frame):
        await client.disconnect()
        say(handled=frame["id"], state=client.state)

    def fail(frame):
        say(handled=frame["id"])
        raise ValueError("the handler's own")

    client.register_handler("note", lambda frame: say(handled=frame["id"]))
    for name, handler in (("slow", slow), ("ask", ask), ("leave", leave), ("fail", fail)):
        client.register_handler(name, handler)


async def do(client, command):
    kind = command.pop("do")
    if kind == "request":
        try:
            say(reply=await client.request(**command))
        except qy.RequestError as error:
            say(refused=error.code, text=error.message)
    elif kind == "send":
        send = await client.send_message(**command)
        outcome = await send.outcome
        say(outcome=outcome.status, reason=outcome.reason, code=outcome.code, reply=outcome.reply)
    elif kind == "guide":
        await client.send_chat_message("你好")
        await client.request_weather("上海")
        await client.request_sing("青花瓷", "周杰伦")
        await client.request_dance("街舞", "hiphop")
    elif kind == "chat":
        parts = []
        async for part in client.chat(command["text"]):
            parts.append(part)
        say(parts=parts)
    elif kind == "connect":
        try:
            await client.connect()
            say(done="connect")
        except qy.Ended as error:
            say(refused=error.code)
    elif kind == "disconnect":
        await client.disconnect()
        gc.collect()
        say(done="disconnect", heap=gc.mem_alloc())


async def main(options):
    if "pair" in options:
        token = await qy.pair(options["pair"], name="lamp", serial="SN-1", on_code=lambda code: say(code=code))
        return say(token=token)
    client = make(options)
    for name in EVENTS:
        client.on(name, lambda data, name=name: say(event=name, data=plain(data)))
    handlers(client)
    asyncio.create_task(do(client, {"do": "connect"}))
    lines = asyncio.StreamReader(sys.stdin)
    while True:
        line = await lines.readline()
        if not line:
            return
        asyncio.create_task(do(client, json.loads(line)))


asyncio.run(main(json.loads(sys.argv[1])))
