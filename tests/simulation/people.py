"""People who keep the protocol, and to whom the server must keep all of it: they talk, walk, come and go, and drop out.

An act is a choice of the dice among what somebody may do now. Slow people have a small socket buffer or read little;
they are observed, too, but the server may end their connections, so they stay in the rooms that are watched.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import attrs
import trio

from tests.observer import Observer

from .model import LOBBY, PRIVATE, WATCHED, User
from .network import Link
from .view import Views

if TYPE_CHECKING:
    from .world import World

# A connection that stood still is told by then whether the server has ended it: a write's deadline, and the closing.
_HEALED_S = 9.0
# A ping, its deadline, and the time between two pings: who vanishes is noticed until then.
_NOTICED_S = 41.0
# A word, a sentence, a screen.
_LINE_LENGTHS = (0, 0, 0, 20, 200, 2000)


@attrs.define(eq=False)
class Person:
    """An observed user of the server."""

    user: User
    resumes: bool
    slow: bool = False
    link: Link | None = None
    observer: Observer | None = None
    views: Views = attrs.field(init=False)
    token: str | None = None
    spent_token: str | None = None
    # Until when the network stands still.
    stands_until: float = 0.0
    number: int = 0

    def __attrs_post_init__(self) -> None:
        self.views = Views(self.user)

    @property
    def name(self) -> str:
        return self.user.name

    # The acts. Each returns what it was, for the last acts before a failure.

    async def act(self, world: World, dice: Random) -> str:
        if self.link is None or self.link.lost:
            return await self._come(world, dice)
        rooms = [log.room for log in world.model.rooms_of(self.user) if log.room in self.user.meant]
        choice = dice.random()
        if choice < 0.42:
            return self._say(world, dice, rooms)
        if choice < 0.52:
            return await self._walk(world, dice, rooms)
        if choice < 0.68:
            return self._change_room(world, dice, rooms)
        if choice < 0.74:
            return self._ask(dice, rooms)
        if choice < 0.90:
            return self._suffer(world, dice, rooms)
        return await self._go(world, dice, rooms)

    async def _come(self, world: World, dice: Random) -> str:
        if self.token is not None and dice.random() < 0.7:
            return await world.resume(self)
        return await world.login(self, buffer_bytes=dice.choice((300, 3000)) if self.user.tight else None)

    def _say(self, world: World, dice: Random, rooms: list[str]) -> str:
        if not rooms:
            return "has nobody to talk to"
        room = dice.choice(rooms)
        count = dice.choice((1, 1, 1, 2, 3))
        for _ in range(count):
            self.number += 1
            filler = "x" * dice.choice(_LINE_LENGTHS)
            self.send(world, room, dice.choice(("msg", "msg", "emote")), f"{self.number} {filler}")
        return f"says {count} lines in {room}, up to {self.number}"

    async def _walk(self, world: World, dice: Random, rooms: list[str]) -> str:
        if not rooms:
            return "has nowhere to walk"
        room, steps, pause_s = dice.choice(rooms), dice.randint(1, 12), dice.choice((0.05, 0.1))
        walkers = [self] + [other for other in world.people if other is not self and dice.random() < 0.1]
        for _ in range(steps):
            for walker in walkers:
                if walker.link is not None and not walker.link.lost and room in walker.user.meant:
                    walker.number += 1
                    walker.send(world, room, "transform", walker.number)
            await world.pass_time(pause_s)
        if self.may_hurry() and room in WATCHED:
            # What waits for somebody at a tick makes them miss its batch.
            for kind in ("msg", "transform"):
                self.number += 1
                self.send(world, room, kind, self.number if kind == "transform" else f"{self.number} {'x' * 500}")
            await world.miss_a_tick(self)
        await world.check_heads()
        return f"walked {steps} steps in {room} with {len(walkers) - 1} others"

    def _change_room(self, world: World, dice: Random, rooms: list[str]) -> str:
        link, observer = self.link, self.observer
        assert link is not None
        assert observer is not None
        sound = self.user.sound and not self.slow and not link.up_stands and not link.delay_s
        # Of the others only the steward in the lobby knows whether they still have a session: they stay there.
        room = dice.choice((*WATCHED, *PRIVATE) if sound else WATCHED[1:])
        visited = [private for private in PRIVATE if private in observer.inside]
        if sound and visited and dice.random() < 0.7:
            room = dice.choice(visited)  # short visits: such rooms are to be closed and opened again
        # What is on its way counts: nobody joins twice.
        kind = "leave" if room in observer.inside else "join"
        self.send(world, room, kind)
        return f"sends a {kind} to {room}"

    def _ask(self, dice: Random, rooms: list[str]) -> str:
        assert self.link is not None
        what = dice.choice(("rooms", "ping", "list"))
        if what == "list" and rooms:
            room = dice.choice(rooms)
            self.link.send({"room": room, "type": "list", "data": ""})
            return f"asks who is in {room}"
        self.link.send({"system": what if what != "list" else "ping"})
        return f"asks for {what}"

    def send(self, world: World, room: str, kind: str, data: object = "") -> None:
        """Send a room message; the model hears of it when it has arrived."""
        link, observer, user = self.link, self.observer, self.user
        assert link is not None
        assert observer is not None
        if kind in ("join", "leave"):
            observer.will(room, kind)
        content = {"pos": {"x": data, "y": 0, "z": 0}, "rot": {"x": 0, "y": 0, "z": 0}} if kind == "transform" else data

        def delivered() -> None:
            if user.link is link:
                world.model.sent(user, room, kind, data)

        link.send({"room": room, "type": kind, "data": content}, delivered)

    def may_hurry(self) -> bool:
        """Whether what it sends arrives at once."""
        link = self.link
        return link is not None and self.user.sound and link.idle and not link.delay_s

    def hurry(self, world: World, dice: Random) -> None:
        """Say, join or leave something where the steward sees in which order it comes."""
        observer = self.observer
        assert observer is not None
        for _ in range(dice.randint(1, 3)):
            room = dice.choice(WATCHED[1:])
            if room not in observer.inside:
                self.send(world, room, "join")
            elif dice.random() < 0.4:
                self.send(world, room, "leave")
            else:
                self.number += 1
                self.send(world, room, "msg", f"{self.number} in a hurry {'x' * dice.choice(_LINE_LENGTHS)}")

    # What happens to the network

    def _suffer(self, world: World, dice: Random, rooms: list[str]) -> str:
        link = self.link
        assert link is not None
        choice = dice.random()
        if choice < 0.3:
            link.delay_s = dice.choice((0.0, 0.0, 0.03, 0.4, 1.5))
            return f"has a network that takes {link.delay_s} s"
        if choice < 0.6:
            link.piece_bytes = dice.choice((0, 0, 1, 7, 40))
            return f"has a network that splits into {link.piece_bytes} bytes"
        if self.slow:
            link.reads_bytes = dice.choice((0, 20, 300, 3000))
            world.model.doubted(self.user)
            if not link.reads_bytes:
                link.doubted_until = trio.current_time() + _HEALED_S
            return f"reads {link.reads_bytes} bytes at a time"
        if not self._may_fail(rooms):
            self.stands_until = trio.current_time() + dice.uniform(0.1, 5)
            link.up_stands = True
            return "has an uplink that stands still for a moment"
        self.stands_until = trio.current_time() + dice.choice((1.0, 4.0, 12.0, 50.0))
        link.up_stands = dice.random() < 0.5
        link.down_stands = not link.up_stands or dice.random() < 0.7
        # No pong gets through an uplink, either.
        link.doubted_until = math.inf
        world.model.doubted(self.user)
        return f"has a network that stands still until {self.stands_until:.1f} (up {link.up_stands})"

    def _may_fail(self, rooms: list[str]) -> bool:
        """Whether a steward sees everything that comes of it if the server ends the connection."""
        return self.link is not None and self.link.idle and LOBBY in rooms and not set(rooms) & set(PRIVATE)

    def heal(self) -> None:
        """The network moves again."""
        link = self.link
        if link is not None and self.stands_until and trio.current_time() >= self.stands_until:
            self.stands_until = 0.0
            if link.doubted_until == math.inf:
                link.doubted_until = trio.current_time() + _HEALED_S
            link.up_stands = link.down_stands = False

    async def _go(self, world: World, dice: Random, rooms: list[str]) -> str:
        link, user = self.link, self.user
        assert link is not None
        how = dice.choice(("close", "end", "reset", "take over", "resume", "vanish"))
        if how == "close":
            link.close(lambda: world.closed(self, link))
            return "closes its connection"
        if how == "vanish":
            if not self._may_fail(rooms):
                return "stays"
            link.cut = True
            world.model.doubted(user, trio.current_time() + _NOTICED_S + (world.model.grace_s if self.resumes else 0))
            return "vanishes"
        if how in ("take over", "resume"):
            return await self._come(world, dice)
        world.model.lost(user, session_stays=self.resumes)
        if how == "end":
            link.raw.end()
        else:
            link.raw.reset()
        world.leave(link)
        self.link = None
        return f"{how}s its stream"
