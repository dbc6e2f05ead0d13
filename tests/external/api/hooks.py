"""Hooks of schemathesis: the caller, and the texts whose form a schema cannot tell.

QY_LTY_CONTROL, QY_LTY_PORT and QY_LTY_ROLE say whom to call as whom.
"""
import ast
import ipaddress
import json
import os
import pathlib
import string
import sys
import threading

import schemathesis
from hypothesis import strategies as st

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from world import Account  # noqa: E402

# Python before 3.11.8 and 3.12.2 fails when two threads make syntax trees at once (cpython#106905); Hypothesis does in both workers.
_parse, _one_at_a_time = ast.parse, threading.RLock()


def _parse_alone(*args, **kwargs):
    with _one_at_a_time:
        return _parse(*args, **kwargs)


ast.parse = _parse_alone

account = Account(os.environ["QY_LTY_CONTROL"], int(os.environ["QY_LTY_PORT"]), os.environ["QY_LTY_ROLE"])

# Letters of several writings, and no character that nobody sees (docs/protocol.md, "Names").
LETTERS = string.ascii_letters + string.digits + "äßéñøžçığ语灯青花瓷界かナ한글жд"
WORD = st.text(LETTERS + "-_.'!#@", min_size=1, max_size=12)
SPACED = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
TEXT = st.one_of(SPACED, st.text(LETTERS + string.punctuation + " ", min_size=1, max_size=100).filter(str.strip))
# A random end, since names that look alike are refused.
NAME = st.builds("{}-{}".format, st.text(string.ascii_letters, min_size=1, max_size=20), st.integers(10**9, 10**12))
schemathesis.openapi.format("qy-text", TEXT)
schemathesis.openapi.format("qy-note", st.one_of(st.just(""), TEXT))
schemathesis.openapi.format("qy-password", st.text(LETTERS, min_size=8, max_size=40))
schemathesis.openapi.format("qy-username", NAME)
ADDRESS = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
schemathesis.openapi.format("qy-network", st.one_of(ADDRESS.map(str), st.builds("{}/{}".format, ADDRESS, st.integers(0, 32))))


@schemathesis.auth(refresh_interval=None)
class Token:
    """The token of the caller, good at every call."""

    def get(self, case, context):
        return account.renew()

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Token {data}"


def whole(value):
    """Writes whole numbers as such: to a schema 5.0 is an integer, to the server, as to most of its clients' parsers, it is none."""
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_body(context, body):
    return whole(body)


# The fixed segments of paths: in the place of an id, each makes the path of another operation.
FIXED = {part for path in json.loads((HERE.parent.parent.parent / "docs" / "api" / "openapi.json").read_text())["paths"] for part in path.split("/") if "{" not in part}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Mends what no schema can tell."""
    # A live message has no key: the one is in the body, the other in the header.
    if isinstance(case.body, dict) and case.body.get("delivery") == "live" and "Idempotency-Key" in (case.headers or {}):
        case.body["delivery"] = "queued"
    # Sequences of calls take the end of a path for an id.
    if str((case.path_parameters or {}).get("id")) in FIXED:
        case.path_parameters["id"] = 1
