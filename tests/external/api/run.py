"""The API described, against the binary: the documents as others read them, random calls of every operation, random frames.

usage: run.py BINARY [--examples N]; run by a Python with the packages of requirements.txt. `asyncapi.mjs` is run by CI beside it.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from openapi_spec_validator import OpenAPIV31SpecValidator

from world import Server
import frames

here = pathlib.Path(__file__).resolve().parent

# As many examples of an operation are those of a long run.
LONG_FORM = 20
# Operations that are not called at random, with the reason; at most five.
LEFT_OUT = {}


def document(server, name):
    """The document as it is served, which is the committed one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"/api/{name}.json")
    response = connection.getresponse()
    text = response.read().decode()
    committed = (here.parent.parent.parent / "docs" / "api" / f"{name}.json").read_text()
    if response.status != 200 or text != committed:
        sys.exit(f"/api/{name}.json is not docs/api/{name}.json")
    return json.loads(text)


def schemathesis(server, role, examples):
    """Calls every operation at random, as an account of that role."""
    environment = {
        **os.environ,
        "QY_LTY_CONTROL": str(server.control),
        "QY_LTY_PORT": str(server.port),
        "QY_LTY_ROLE": role,
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(here),
    }
    url = f"http://127.0.0.1:{server.port}"
    command = [str(pathlib.Path(sys.executable).parent / "schemathesis"), "--config-file", str(here / "schemathesis.toml"), "--no-color"]
    command += ["run", f"{url}/api/openapi.json", "--url", url, "--checks", "all", "--continue-on-failure", "--no-shrink"]
    command += ["--max-examples", str(examples), "--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off"]
    if role == "user" and examples < LONG_FORM:
        # Each value of each field once takes longest, and is done as an administrator.
        command += ["--phases", "examples,fuzzing"]
    for name in LEFT_OUT:
        command += ["--exclude-name", name]
    run = subprocess.run(command, env=environment, cwd=server.home.name, capture_output=True, text=True)
    if run.returncode != 0:
        text = "\n".join(line[:1000] for line in run.stdout.splitlines())
        sys.exit(f"schemathesis as {role}:\n{text}\n{run.stderr[-4000:]}")
    figures = re.search(r"(\d+) generated.*", run.stdout)
    print(f"schemathesis as {role}: {figures.group() if figures else '?'}, 0 failures")


def calls(binary, role, examples):
    """Random calls of a server of their own."""
    server = Server(binary)
    try:
        schemathesis(server, role, examples)
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--examples", type=int, default=3)
    parser.add_argument("--only", choices=["documents", "calls", "frames"])
    options = parser.parse_args()
    assert len(LEFT_OUT) <= 5
    server = Server(options.binary)
    try:
        openapi, asyncapi = document(server, "openapi"), document(server, "asyncapi")
        OpenAPIV31SpecValidator(openapi).validate()
        operations = sum(len(methods) for methods in openapi["paths"].values())
        print(f"openapi.json: {operations} operations, 0 faults")
        for name, reason in LEFT_OUT.items():
            print(f"left out: {name}: {reason}")
        if options.only in (None, "frames"):
            frames.check(server, asyncapi, options.examples * 5)
    finally:
        server.stop()
    if options.only in (None, "calls"):
        # Beside each other, since making the calls takes longer than answering them.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda role: calls(options.binary, role, options.examples), ("admin", "user")))


main()
