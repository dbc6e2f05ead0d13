#!/usr/bin/env python3
"""Compiles the recipes for boards, clients/esp32, against declarations of their libraries. usage: boards.py"""

import pathlib
import subprocess

from blocks import recipes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PAGE = ROOT / "docs" / "clients.md"
MAX_LINES = 100

# The file of each recipe, which the page repeats, and its compiler.
SKETCH = ["g++", "-x", "c++", "-std=gnu++17", "-include", "Arduino.h"]
BOARDS = {
    "esp-idf": ("esp-idf/qy_lty.c", ["gcc", "-x", "c", "-std=gnu11"]),
    "arduino-links2004": ("links2004/links2004.ino", SKETCH),
    "arduino-gilmaimon": ("gilmaimon/gilmaimon.ino", SKETCH),
}


def status(name, text):
    """Compiles a text with all warnings as errors; returns the finished compiler."""
    return subprocess.run(
        [*BOARDS[name][1], "-I", HERE / "stubs", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-format-truncation", "-Werror",
         "-fsyntax-only", "-"], input=text, text=True, capture_output=True)


def check(name, block):
    """The file is the block on the page, is short, compiles without a warning, and would not if it called what does not exist."""
    text = (ROOT / "clients" / "esp32" / BOARDS[name][0]).read_text()
    assert text == block, f"clients/esp32/{BOARDS[name][0]} and the block {name} of {PAGE} differ"
    assert len(text.splitlines()) <= MAX_LINES, f"more than {MAX_LINES} lines"
    result = status(name, text)
    assert result.returncode == 0, result.stderr
    for right, wrong in (("onMessage(text)", "onMessages(text)"), ("client.poll", "client.pol"), ("_init(", "_initial(")):
        if right in text:
            assert status(name, text.replace(right, wrong)).returncode != 0, f"the stubs do not notice {wrong}"
            return
    raise AssertionError("nothing in the recipe was replaced by something wrong")


def main():
    blocks = recipes(PAGE.read_text())
    for name in BOARDS:
        check(name, blocks[name])
        print(f"{name:24} ok")


if __name__ == "__main__":
    main()
