"""An honest member who talks beside an attack."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import psutil
import trio

from trio_vrchat._frames import PING, PONG, TEXT

from ..program import DEADLINE_S, Program
from .client import Connection, Target, until

# Ten lines a second are allowed.
_LINE_EVERY_S = 0.15


@attrs.define(eq=False)
class Witness:
    """Somebody in the lobby who says numbered lines, the next when the last has come back, and hears each once.

    Fails where the connection ends, where an error comes, or where a line comes out of turn.
    """

    connection: Connection
    said: int = 0
    heard: list[int] = attrs.field(factory=list)
    over: bool = False
    _name: str = attrs.field(factory=lambda: secrets.token_hex(8))

    async def talk(self) -> None:
        """Talk until it is over."""
        while not self.over:
            await self.connection.say({"room": "lobby", "data": {self._name: self.said}})
            self.said += 1
            while len(self.heard) < self.said:
                await self._listen()
            await trio.sleep(_LINE_EVERY_S)

    async def hear_another(self) -> None:
        """Wait for a line to come back that is not said yet."""
        before = self.said
        await until(lambda: len(self.heard) > before)

    async def _listen(self) -> None:
        message = await self.connection.read()
        assert message is not None, f"an honest member was cut off ({self.connection.close_code})"
        if message.opcode == PING:
            await self.connection.send_frame(PONG, message.payload)
        elif message.opcode == TEXT and (self._name.encode() in message.payload or b'"response"' in message.payload):
            tree = json.loads(message.payload)
            assert tree["info"] != "error", f"an honest member was refused: {tree}"
            for entry in tree.get("payload", ()):
                if isinstance(entry["data"], dict) and self._name in entry["data"]:
                    self.heard.append(entry["data"][self._name])


@asynccontextmanager
async def beside_a_witness(port: int) -> AsyncIterator[Witness]:
    """Somebody who is in the lobby, and talks until the end of the block, and once more after it."""
    with trio.fail_after(DEADLINE_S * 2):
        async with Target("127.0.0.1", port, address="127.0.0.1").login() as connection:
            witness = Witness(connection)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(witness.talk)
                yield witness
                await witness.hear_another()
                witness.over = True
            assert witness.heard == list(range(witness.said))


def descriptors(server: Program) -> int:
    """How many the server has open."""
    return psutil.Process(server.process.pid).num_fds()


async def until_descriptors_are(server: Program, baseline: int) -> float:
    """Wait until the server has no more than these open; returns how many seconds that took."""
    start = trio.current_time()
    await until(lambda: descriptors(server) <= baseline)
    return trio.current_time() - start
