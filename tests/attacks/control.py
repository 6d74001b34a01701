"""The stock server as a process, and what it holds."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio

from .client import Target


@attrs.frozen
class Held:
    """What a stock server holds: see stock_server."""

    descriptors: int
    tasks: int
    bytes: int


@attrs.define(eq=False)
class StockServer:
    """A running stock server."""

    process: trio.Process
    port: int = 0
    at_start: Held = Held(0, 0, 0)

    def target(self) -> Target:
        return Target("127.0.0.1", self.port, stock=True)

    async def held(self, after_s: float = 0) -> Held:
        """What it holds once it has nothing more to do, so many seconds of its own clock from now."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(f"{after_s}\n".encode())
        found: dict[str, Any] = json.loads(await self._read_line())
        return Held(**found)

    async def start(self) -> None:
        """Wait for its URL."""
        found = re.search(rb":(\d+)/", await self._read_line())
        assert found
        self.port = int(found[1])
        self.at_start = await self.held()

    async def _read_line(self) -> bytes:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            data = await self.process.stdout.receive_some()
            assert data, "the stock server has ended"
            line += data
        return line


@contextlib.asynccontextmanager
async def stock_server() -> AsyncIterator[StockServer]:
    """Run one. It may have died at the end."""
    command = [sys.executable, "-m", "tests.stock_server"]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        server = StockServer(process)
        await server.start()
        yield server
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
