"""Whoever breaks the rules, or follows none: flooders, the silent, senders of garbage, and those who never log in.

The model knows what they have asked for, and lets any of it come, in order. What they are sent is not looked at.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from trio_vrchat._frames import BINARY, CLOSE, CONTINUATION, PING, TEXT
from trio_vrchat.testing import client_frame

from .model import WATCHED, User
from .network import Link

if TYPE_CHECKING:
    from .world import World

_BROKEN = (
    b"\xc1\x80\x00\x00\x00\x00",  # a reserved bit
    b"\x81\x02{}",  # no mask
    client_frame(0x3, b"{}"),
    client_frame(PING, b"x" * 126),
    client_frame(PING, b"x", final=False),
    client_frame(CONTINUATION, b"{}"),
    client_frame(TEXT, b"{", final=False) + client_frame(TEXT, b"}"),
    client_frame(TEXT, b'{"system": "\xff"}'),
    client_frame(TEXT, b"x" * 65_537)[:5000],
    client_frame(TEXT, b"", final=False) + client_frame(CONTINUATION, b"", final=False) * 4100,
    client_frame(CLOSE, b"\x03"),
    client_frame(CLOSE, (1005).to_bytes(2, "big")),
    b"\x81\xff\x80" + bytes(11),
)
_BAD_TEXTS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"system": 7}',
    b'{"system": "login"}',
    b'{"system": "login", "options": {"user": "\\u0000", "pass": ""}}',
    b'{"system": "resume", "options": {"session": 5}}',
    b'{"system": "resume", "options": {"session": "nothing", "seen": {"lobby": "x"}}}',
    b'{"system": "fly"}',
    b'{"room": "nowhere", "data": 1}',
    b'{"room": "lobby"}',
    b'{"room": 5, "type": [], "data": {}}',
    b'{"room": "lobby", "type": "transform", "data": {"pos": 7}}',
    b'{"room": "lobby", "data": 1e999}',
    b'{"room": "lobby", "data": ' + b"[" * 70 + b"]" * 70 + b"}",
)


# What a refused message is made to wait for at most, and a little more: 16 KiB of 512 KiB a second.
_MESSAGE_S = 0.04


@attrs.define(eq=False)
class Stranger:
    """A connection without a login, which the server ends in its own time."""

    user: User
    link: Link | None = None
    number: int = 0
    logged_in: bool = False
    # Until when the server may still be reading what was sent.
    moves_until: float = 0.0

    @property
    def name(self) -> str:
        return self.user.name

    def notice_end(self, world: World) -> None:
        """The server may have ended it, or it has ended itself."""
        if self.link is not None and (self.link.raw.ended or self.link.ended):
            if self.logged_in:
                world.model.lost(self.user, session_stays=False)
            world.leave(self.link)
            self.link, self.logged_in = None, False

    async def act(self, world: World, dice: Random) -> str:
        if self.link is not None:
            self.hang_up(world)
        link = self.link = await (world.dial() if dice.random() < 0.5 else world.connect())
        data = dice.choice((b"", b"GET / HT", dice.randbytes(dice.randint(1, 2000)), client_frame(TEXT, b"{}")))
        if data:
            link.send_bytes(data)
        # Five seconds for the handshake, ten to log in, and the closing.
        world.leave(link)
        self.link = None
        return f"comes, sends {len(data)} bytes and waits"

    def hang_up(self, world: World) -> None:
        link = self.link
        assert link is not None
        if self.logged_in:
            world.model.lost(self.user, session_stays=False)
        link.raw.reset()
        world.leave(link)
        self.link, self.logged_in = None, False

    async def _log_in(self, world: World, dice: Random) -> str:
        link = self.link = await world.connect(buffer_bytes=dice.choice((None, 2000)), paced=False)

        def delivered() -> None:
            world.model.logged_in(self.user, link)
            self.logged_in = True

        link.send({"system": "login", "options": {"user": self.name, "pass": "wild"}}, delivered)
        return "logs in"


class Silent(Stranger):
    """Logs in, and then neither sends nor reads."""

    async def act(self, world: World, dice: Random) -> str:
        if self.link is None:
            what = await self._log_in(world, dice)
            await world.pass_time(0.001)
            if self.link is not None:
                self.link.down_stands = True
            return what
        if dice.random() < 0.1:
            self.hang_up(world)
            return "is switched off"
        return "is silent"


class Flooder(Stranger):
    """Says, moves, joins, leaves and lists far faster than anybody may."""

    async def act(self, world: World, dice: Random) -> str:
        if self.link is None:
            return await self._log_in(world, dice)
        link = self.link
        if dice.random() < 0.05:
            self.hang_up(world)
            return "hangs up in the middle"
        # One that does not read is ended by what the others say to it.
        link.down_stands = dice.random() < 0.3
        messages = [self._message(dice) for _ in range(dice.choice((10, 40, 120)))]

        def delivered() -> None:
            for room, kind, data in messages:
                if self.link is link:
                    world.model.sent(self.user, room, kind, data)

        link.send_bytes(b"".join(_frame_of(*message) for message in messages), delivered)
        self.moves_until = max(trio.current_time(), self.moves_until) + len(messages) * _MESSAGE_S
        return f"floods with {len(messages)} messages"

    def _message(self, dice: Random) -> tuple[str, str, object]:
        self.number += 1
        kind = dice.choice(("msg", "msg", "msg", "transform", "join", "leave", "list"))
        return dice.choice(WATCHED), kind, self.number if kind in ("msg", "transform") else ""


def _frame_of(room: str, kind: str, data: object) -> bytes:
    content = {"pos": {"x": data}} if kind == "transform" else data
    return client_frame(TEXT, msgspec.json.encode({"room": room, "type": kind, "data": content}))


class Garbage(Stranger):
    """Sends what no client should, sometimes after a login."""

    async def act(self, world: World, dice: Random) -> str:
        if self.link is None:
            if dice.random() < 0.5:
                return await self._log_in(world, dice)
            self.link = await world.connect()
        link = self.link
        choice = dice.random()
        if choice < 0.6:
            link.send_bytes(client_frame(dice.choice((TEXT, TEXT, TEXT, BINARY)), dice.choice(_BAD_TEXTS)))
            return "sends a bad text"
        link.send_bytes(dice.choice(_BROKEN) if choice < 0.85 else dice.randbytes(dice.randint(1, 3000)))
        return "sends a broken frame"
