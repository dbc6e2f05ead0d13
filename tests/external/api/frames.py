"""Frames generated from asyncapi.json: each gets exactly one answer, one of those that the document names."""
import copy
import json

import jsonschema
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis_jsonschema import from_schema
from websockets.sync.client import connect

from world import Account

# Between frames, to see where the answers to one end. The types that a frame can't have.
FENCE = json.dumps({"type": "ping", "ref": "fence"})
DEADLINE = 60


class Session:
    """A connection of an account of its own, which tells the answer to a frame from what else comes."""

    # In the names of its messages and schemas; the role of its account; its path; and what comes by itself.
    prefix, role, path, unasked = "", "user", "/ws/device/", {"chat_delta"}

    def __init__(self, server):
        token = Account(server.control, server.port, self.role).renew()
        headers = {"Authorization": f"Bearer {token}"}
        self.socket = connect(f"ws://127.0.0.1:{server.port}{self.path}", max_size=None, additional_headers=headers)
        self.hello = json.loads(self.socket.recv(DEADLINE))

    def receive(self):
        """The next event that does not come by itself."""
        while True:
            event = json.loads(self.socket.recv(DEADLINE))
            if event["type"] not in self.unasked:
                return event

    def answers(self, text):
        """The answer to a frame, and whatever else comes before that to a ping behind it."""
        self.socket.send(text)
        events = [self.receive()]
        self.socket.send(FENCE)
        while True:
            event = self.receive()
            if event["type"] == "pong" and event.get("ref") == self.fence:
                return events
            events.append(event)

    fence = "fence"


class Console(Session):
    """The same at the WebSocket of consoles, which copies no `ref`, and answers one message after the other."""

    prefix, role, path = "console.", "admin", "/ws/console/"
    unasked = {"overview", "connections", "receipts", "traffic", "lost"}
    fence = None


def bounded(schema):
    """The schema for the generator: what is beyond the limits of the protocol itself is refused, and tested elsewhere."""
    schema = copy.deepcopy(schema)
    # The fence is told from answers by its ref.
    if "ref" in schema["properties"]:
        schema["properties"]["ref"]["not"] = {"const": "fence"}
    return schema


def passes(frame):
    """Whether every parser reads the frame: no half characters, at most 10,240 characters."""
    try:
        text = json.dumps(frame, ensure_ascii=False)
        text.encode()
    except (UnicodeEncodeError, ValueError):
        return None
    return text if len(text) <= 10_000 and "NaN" not in text and "Infinity" not in text else None


def check(server, asyncapi, examples):
    for session in (Session, Console):
        check_kind(server, asyncapi, session, examples)


def check_kind(server, asyncapi, kind_of_session, examples):
    """Sends frames of every message of the clients of one kind of WebSocket."""
    prefix, total = kind_of_session.prefix, 0
    schemas = {name.removeprefix(prefix): schema for name, schema in asyncapi["components"]["schemas"].items() if name.startswith(prefix)}
    events = {
        name.removeprefix("server."): jsonschema.Draft7Validator(schema)
        for name, schema in schemas.items()
        if name.startswith("server.")
    }
    for name, operation in asyncapi["operations"].items():
        if not name.startswith(f"{prefix}receive."):
            continue
        kind = name.removeprefix(f"{prefix}receive.")
        answers = [message["$ref"].rsplit("server.", 1)[1] for message in operation["reply"]["messages"]]
        session = kind_of_session(server)
        events[session.hello["type"]].validate(session.hello)
        total += generated(session, kind, bounded(schemas[f"client.{kind}"]), answers, events, examples)
    print(f"asyncapi.json: {total} generated frames to {kind_of_session.path}, one answer each")


def generated(session, kind, schema, answers, events, examples):
    sent = []

    @seed(16)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(from_schema(schema))
    def each(frame):
        text = passes(frame)
        if text is None:
            return
        sent.append(text)
        got = session.answers(text)
        assert len(got) == 1, f"{text} has {len(got)} answers: {got}"
        answer = got[0]
        assert answer["type"] in answers, f"{text}: {answer}"
        if frame.get("ref") is not None and session.fence:
            assert answer.get("ref") == frame["ref"], f"{text}: {answer}"
        # What is described is accepted, but for what depends on the connection: who has a device, who acknowledges; and for the form of an
        # address.
        if answer["type"] == "error":
            target = frame.get("target") not in (None, "self") and answer["code"] in ("FORBIDDEN", "VALIDATION_ERROR")
            address = (frame.get("filter") or {}).get("address") is not None
            assert kind == "ack" or target or address, f"{text}: {answer}"
        events[answer["type"]].validate(answer)

    each()
    return len(sent)
