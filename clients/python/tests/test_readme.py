"""The programs of the README, run with a token and an address of the test's."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from server import User

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)


def start(block: str, user: User) -> subprocess.Popen[str]:
    text = block.replace("qlt_TOKEN", user.token).replace("ws://localhost:8000", user.server.url)
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_ten_lines(user: User) -> None:
    assert len(BLOCKS[0].strip().splitlines()) == 10
    process = start(BLOCKS[0], user)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "收到消息:你好\n"
        user.push("dinner is ready", "notice")
        assert process.stdout.readline() == "dinner is ready\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()


def test_without_asyncio(user: User) -> None:
    process = start(BLOCKS[1], user)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "上海" in output


def test_rest_and_pairing(user: User, run: Any) -> None:
    namespace: dict[str, Any] = {}
    lines = "".join(f"    {line}\n" for line in BLOCKS[2].splitlines())
    text = lines.replace("http://localhost:8000", user.server.url).replace('"ana", "password"', f'"{user.name}", "correct-horse-battery"')
    exec(f"from qy_lty_client import RestClient\nasync def main():\n{text.replace('(7,', f'({user.id},')}", namespace)
    run(namespace["main"]())
    assert user.waiting() == 1
    compile(f"async def main():\n    {BLOCKS[3]}", "README.md", "exec")
    assert len(BLOCKS) == 4
