#!/usr/bin/env python3
"""Replays recorded exchanges against a running qy-lty and compares its answers.

  replay.py BASE_URL --fixtures F [--only PATTERN] [--quiet]

F is the output of fixtures.py. transcripts/<group>/<case>.json holds what is sent and what must be answered; refkit.py
describes the form. They were recorded from the original system; where qy-lty differs on purpose, the case's note names
the difference. Keys that qy-lty adds (refkit.ADDED) are allowed. Exit status 0 when no case differs; the last line is
'N passed, M failed'.
"""
import argparse
import fnmatch
import json
import sys
from pathlib import Path

from refkit import Fixtures, Runner, diff, short, unfold, unpack

HERE = Path(__file__).resolve().parent


def plain(saw):
    if isinstance(saw, dict):
        saw = {k: v for k, v in saw.items() if k != 'headers'}
    return unfold(saw)


def run(case, url, fx, timeout, idle):
    runner, lines = Runner(url, fx, timeout=timeout, idle=idle), []

    def on_step(i, step, run_it):
        want = plain(unpack(step.get('saw')))
        got = run_it(want)
        if got is None and 'saw' not in step:
            return True
        found = diff(want, plain(got))
        if found:
            lines.append(f'step {i} {step["do"]} ' + short({k: v for k, v in step.items() if k not in ('saw', 'do')}))
            lines.extend('  ' + f for f in found)
        return not found

    runner.run(case['steps'], on_step)
    return lines


def main():
    ap = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    ap.add_argument('base_url')
    ap.add_argument('--fixtures', required=True)
    ap.add_argument('--transcripts', default=str(HERE / 'transcripts'))
    ap.add_argument('--only', default='*')
    ap.add_argument('--timeout', type=float, default=3.0)
    ap.add_argument('--idle', type=float, default=0.2)
    ap.add_argument('--quiet', action='store_true')
    a = ap.parse_args()
    fx = Fixtures(json.loads(Path(a.fixtures).read_text()))
    passed = failed = 0
    for f in sorted(Path(a.transcripts).glob('*/*.json')):
        case = json.loads(f.read_text())
        if not fnmatch.fnmatchcase(case['name'], a.only):
            continue
        lines = run(case, a.base_url, fx, a.timeout, a.idle)
        passed, failed = passed + (not lines), failed + bool(lines)
        if lines or not a.quiet:
            print(('DIFF ' if lines else 'PASS ') + case['name'] + (f'  ({case["note"]})' if lines and case['note'] else ''))
            for line in lines:
                print('      ' + line)
            sys.stdout.flush()
    print(f'{passed} passed, {failed} failed')
    sys.exit(bool(failed))


main()
