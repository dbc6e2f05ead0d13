#!/usr/bin/env python3
"""Runs the recipes of docs/clients.md against a binary. usage: run.py BINARY [--only PATTERN]

Needs Python's `websockets`, and openssl, gcc and g++. A proxy or tool that is not installed is reported as SKIPPED.
"""

import argparse
import fnmatch
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import boards
import proxies
from blocks import recipes, replaced
from server import PASSWORD, Server, certificate

THROUGH = [proxies.check_messages, proxies.check_address, proxies.check_page, proxies.check_head, proxies.check_quiet]
# Commands, and what must stand in their output.
TOOLS = {
    "curl": ("curl", ['"status":"queued"', '"message":"message cancelled"']),
    "wscat": ("wscat", ['"type":"connection_status"', '"type":"chat_response"']),
    "wscat-header": ("wscat", ['"type":"connection_status"', '"type":"pong"']),
    "websocat": ("websocat", ['"type":"connection_status"', '"type":"chat_response"']),
    "websocat-reconnect": ("websocat", []),
}


class Recipes:
    """The recipes, a server for them, and one whose heartbeats come each second."""

    def __init__(self, binary, directory):
        self.texts = recipes(boards.PAGE.read_text())
        known = {"server", *proxies.PROXIES, *boards.BOARDS, *TOOLS}
        if set(self.texts) != known:
            raise SystemExit(f"on the page and not here, or the reverse: {sorted(set(self.texts) ^ known)}")
        self.directory = directory
        self.tls = certificate(directory)
        config = self.texts["server"]
        self.server = Server(binary, directory / "server", config, "limits.connects_per_minute=0", "limits.logins_per_minute=0")
        # The same address must not be counted together: the proxies are trusted, and each check has users of its own.
        self.lively = Server(binary, directory / "lively", config, "limits.ping_seconds=1", "limits.logins_per_minute=0")
        self.binary = binary

    def cases(self):
        """Returns the cases by name, each a function; the longest first."""
        cases = {}
        for name, proxy in proxies.PROXIES.items():
            for check in reversed(THROUGH):
                cases[f"{name}/{check.__name__.removeprefix('check_')}"] = lambda n=name, c=check: self.through(n, c, self.server)
            if proxy.cut:
                cases[f"{name}/cut"] = lambda n=name, p=proxy: self.through(n, proxies.check_cut, self.server, p.cut)
                cases[f"{name}/heartbeat"] = lambda n=name, p=proxy: self.through(n, proxies.check_heartbeat, self.lively, p.cut)
        cases["direct/head"] = lambda: proxies.check_head(self.server, self.server.door, None)
        for name in TOOLS:
            cases[name] = lambda n=name: self.tool(n)
        for name in boards.BOARDS:
            cases[name] = lambda n=name: boards.check(n, self.texts[n])
        return cases

    def through(self, name, check, server, *more):
        if not proxies.available(name):
            return f"{name} is not installed"
        directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        for file in ("cert.pem", "key.pem", "both.pem"):
            shutil.copy(self.directory / file, directory)
        with proxies.Running(name, self.texts[name], server, directory, self.tls, *more) as running:
            check(server, running.door, name)
        return None

    def command(self, text, seconds):
        """Runs a recipe for a shell; returns its status and its output."""
        # An input that stays open, as that of a terminal does: wscat ends with its input.
        reads, writes = os.pipe()
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", replaced(text, ("127.0.0.1:8000", f"127.0.0.1:{self.server.port}"))],
            stdin=reads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "PASSWORD": PASSWORD, "TOKEN": self.server.admin})
        try:
            output, _ = process.communicate(timeout=seconds)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise AssertionError(f"it did not end: {process.communicate()[0]}") from None
        finally:
            os.close(reads)
            os.close(writes)

    def tool(self, name):
        program, expected = TOOLS[name]
        if not proxies.available(program):
            return f"{program} is not installed"
        if name == "websocat-reconnect":
            return self.reconnecting()
        status, output = self.command(self.texts[name], 60)
        assert status == 0, (status, output)
        for part in expected:
            assert part in output, output
        return None

    def reconnecting(self):
        """The client that reads for ever: its connection is ended from the server, and it receives what comes afterwards."""
        user, token = self.server.user("desk")
        text = replaced(self.texts["websocat-reconnect"], ("127.0.0.1:8000", f"127.0.0.1:{self.server.port}"))
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                ["bash", "-c", text], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "TOKEN": token})

            def wait(part, times):
                for _ in range(600):
                    output.seek(0)
                    read = output.read().decode()
                    if read.count(part) >= times:
                        return
                    time.sleep(0.1)
                raise AssertionError(f"{times} of {part}: {read}")

            try:
                wait("connection_status", 1)
                self.server.send(user, "first")
                wait('"first"', 1)
                self.server.door.json("DELETE", "/api/clients/desk", token=token)
                wait("connection_status", 2)
                self.server.send(user, "second")
                wait('"second"', 1)
            finally:
                os.killpg(process.pid, 9)
                process.wait()

    def stop(self):
        self.server.stop()
        self.lively.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--only", default="*", help="pattern for the names of cases, such as nginx/*")
    options = parser.parse_args()
    began = time.monotonic()
    outcome = {"passed": 0, "failed": 0, "skipped": 0}

    with tempfile.TemporaryDirectory(prefix="qy-lty-recipes-") as directory:
        all_recipes = Recipes(options.binary, pathlib.Path(directory))

        def run(item):
            name, case = item
            start = time.monotonic()
            try:
                skipped = case()
                kind, text = ("skipped", f"SKIPPED: {skipped}") if skipped else ("passed", "ok")
            except Exception:  # noqa: BLE001 - whatever it is, the other recipes are run
                kind, text = "failed", "FAILED\n" + traceback.format_exc()
            outcome[kind] += 1
            sys.stdout.write(f"{name:24} {time.monotonic() - start:6.1f} s  {text}\n")
            sys.stdout.flush()
            if kind == "skipped":
                sys.stdout.write(f"SKIPPED: {skipped}\n")

        try:
            cases = {name: case for name, case in all_recipes.cases().items() if fnmatch.fnmatch(name, options.only)}
            # First and alone: it takes back a message, which a client of another recipe would receive before.
            for name in [name for name in cases if name == "curl"]:
                run((name, cases.pop(name)))
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(run, cases.items()))
        finally:
            all_recipes.stop()
    print(f"\n{time.monotonic() - began:.0f} s\n{outcome['passed']} passed, {outcome['failed']} failed, {outcome['skipped']} skipped")
    return 1 if outcome["failed"] or not outcome["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
