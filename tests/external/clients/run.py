#!/usr/bin/env python3
"""Real clients against a qy-lty binary: run.py BINARY TOOLS [--only PATTERN] [--jobs N] [--long] | --links, see README.md."""

import argparse
import fnmatch
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import catalog
import links
from case import Case
from scenarios import Scenarios
from server import Server


def run_case(server, clients, scenarios, client, scenario):
    """Runs one case; returns its problems and its duration in seconds."""
    began = time.monotonic()
    case = Case(server, clients[client], f"{client}-{scenario}")
    try:
        getattr(scenarios, scenario)(case)
    except Exception as error:
        traceback.print_exc()
        case.fail(f"{type(error).__name__}: {error}")
    finally:
        case.end()
    return case.problems, time.monotonic() - began


def table(results, columns):
    """Prints clients and scenarios."""
    print(f"\n{'':18}" + "".join(f"{name:>11}" for name in columns))
    for client in dict.fromkeys(client for client, _ in results):
        cells = [results.get((client, name)) for name in columns]
        print(f"{client:18}" + "".join(f"{'' if cell is None else 'FAILED' if cell else 'ok':>11}" for cell in cells))


def matrix(options, clients):
    """Runs the clients in all scenarios; returns the problems by client and scenario."""
    scenarios = Scenarios(options.long)
    cases = [(client, name) for name in scenarios.names for client in clients]
    cases += [(client, name) for client in clients for name in clients[client].extra]
    cases = [case for case in cases if fnmatch.fnmatch("/".join(case), options.only)]
    server = Server(options.binary, scenarios.limits)
    results = {}

    def run(case):
        results[case], seconds = run_case(server, clients, scenarios, *case)
        verdict = "; ".join(results[case]) or "ok"
        # In one piece, since several threads print.
        sys.stdout.write(f"{'/'.join(case):28} {seconds:6.1f} s  {verdict}\n")
        sys.stdout.flush()

    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(run, cases))
    finally:
        if not server.stop():
            results["server", "stop"] = ["it did not stop in order"]
    results = {case: results[case] for case in sorted(results, key=lambda case: [*clients, "server"].index(case[0]))}
    table(results, list(dict.fromkeys(name for _, name in [*cases, *results])))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("tools", help="the directory of setup.sh")
    parser.add_argument("--only", default="*", help="pattern for CLIENT/SCENARIO")
    parser.add_argument("--jobs", type=int, default=6, help="cases at the same time")
    parser.add_argument("--long", action="store_true", default=bool(os.environ.get("QY_LTY_CLIENTS_LONG")),
                        help="default limits, and clients that block for 80 s")
    parser.add_argument("--links", action="store_true", help="slow links instead; needs root")
    options = parser.parse_args()
    began = time.monotonic()
    clients = catalog.clients(os.path.abspath(options.tools))
    results = links.run(options, clients) if options.links else matrix(options, clients)
    failed = sum(1 for problems in results.values() if problems)
    print(f"\n{time.monotonic() - began:.0f} s\n{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
