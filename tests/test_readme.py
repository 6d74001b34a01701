"""The README says what is so: its settings are the code's, its examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

import trio_vrchat
from tests.readme import README, SECURITY, example, with_limits, with_settings
from tests.test_real_clients import node_client
from trio_vrchat import Config, Handle

__all__ = ["node_client"]

_ADDRESS = "127.0.0.1:42069"


@asynccontextmanager
async def a_server_with_somebody_in_it() -> AsyncIterator[Handle]:
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0))
        async with trio_vrchat.open_client(handle.urls[0], "somebody", ""):
            yield handle
        nursery.cancel_scope.cancel()


async def run_until(command: Sequence[str], *expected: str) -> None:
    """Let the command run until it has printed all of this; it has a minute, and would not end by itself."""
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    printed = ""
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        process: trio.Process = await nursery.start(partial(start, env=unbuffered))
        assert process.stdout is not None
        with trio.fail_after(60):
            while not all(text in printed for text in expected):
                data = await process.stdout.receive_some()
                assert data, f"ended after printing {printed!r}"
                printed += data.decode()
        process.kill()


def test_the_settings_are_those_of_the_code() -> None:
    text = README.read_text()
    assert with_settings(text) == text, "run python -m tests.readme"
    text = SECURITY.read_text()
    assert with_limits(text) == text, "run python -m tests.readme"


def test_the_errors_that_it_names_can_be_caught() -> None:
    named = set(re.findall(r"`(\w+Error)`", README.read_text()))
    assert {"ConfigError", "ListenError", "StoreError"} <= named
    assert named <= set(dir(trio_vrchat))


def test_the_two_commands_begin_with_an_environment_of_their_own() -> None:
    lines = README.read_text().splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("python3 -m venv")]
    assert len(begins) == 2
    assert lines[begins[0] + 1] == ".venv/bin/python -m trio_vrchat"
    assert lines[begins[1]].endswith("python -m pytest")


@pytest.mark.parametrize("name", ["client", "websockets"])
async def test_the_python_clients(name: str) -> None:
    async with a_server_with_somebody_in_it() as handle:
        code = example(name)
        assert _ADDRESS in code
        command = [sys.executable, "-c", code.replace(_ADDRESS, f"127.0.0.1:{handle.port}")]
        await run_until(command, "somebody", "hello", "1.6")


async def test_the_javascript_client(node_client: list[str]) -> None:
    node, talk = node_client
    async with a_server_with_somebody_in_it() as handle:
        code = "import { WebSocket } from 'ws';\n" + example("javascript")
        script = trio.Path(talk).parent / "readme.mjs"
        await script.write_text(code.replace(_ADDRESS, f"127.0.0.1:{handle.port}"))
        await run_until([node, str(script)], "202 Access granted.", "lobby Anna msg hello", "y: 1.6")


@pytest.mark.parametrize(("name", "printed"), [("embed", "Statistics(connections=0"), ("testing", "")])
def test_the_programs(name: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example(name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
