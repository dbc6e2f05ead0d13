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
    """A connection of an account of its own, which says what comes until the fence."""

    def __init__(self, server):
        account = Account(server.control, server.port, "user")
        self.socket = connect(f"ws://127.0.0.1:{server.port}/ws/device/?token={account.renew()}", max_size=None)
        self.hello = json.loads(self.socket.recv(DEADLINE))

    def receive(self):
        """The next event that is not a piece of a streamed answer."""
        while True:
            event = json.loads(self.socket.recv(DEADLINE))
            if event["type"] != "chat_delta":
                return event

    def answers(self, text):
        """The answer to a frame, and whatever else comes before that to a ping behind it."""
        self.socket.send(text)
        events = [self.receive()]
        self.socket.send(FENCE)
        while True:
            event = self.receive()
            if event["type"] == "pong" and event.get("ref") == "fence":
                return events
            events.append(event)


def bounded(schema):
    """The schema for the generator: what is beyond the limits of the protocol itself is refused, and tested elsewhere."""
    schema = copy.deepcopy(schema)
    # The fence is told from answers by its ref.
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
    schemas = asyncapi["components"]["schemas"]
    events = {
        name.removeprefix("server."): jsonschema.Draft7Validator(schema)
        for name, schema in schemas.items()
        if name.startswith("server.")
    }
    total = 0
    for name, operation in asyncapi["operations"].items():
        kind = name.removeprefix("receive.")
        if operation["action"] != "receive" or operation["channel"]["$ref"] != "#/channels/device":
            continue
        answers = [message["$ref"].rsplit("server.", 1)[1] for message in operation["reply"]["messages"]]
        session = Session(server)
        total += generated(session, kind, bounded(schemas[f"client.{kind}"]), answers, events, examples)
    print(f"asyncapi.json: {total} generated frames, one answer each")


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
        if frame.get("ref") is not None:
            assert answer.get("ref") == frame["ref"], f"{text}: {answer}"
        # What is described is accepted, but for what depends on the connection: who has a device, who acknowledges.
        if answer["type"] == "error":
            target = frame.get("target") not in (None, "self")
            assert kind == "ack" or (target and answer["code"] in ("FORBIDDEN", "VALIDATION_ERROR")), f"{text}: {answer}"
        events[answer["type"]].validate(answer)

    each()
    return len(sent)
