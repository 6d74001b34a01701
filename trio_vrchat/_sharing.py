"""What a server shares with others by its node: rooms, names and transforms.

Its rooms are those of `_shared_room.py`, whose members' names are leases of the engine (`_shared_names.py`). Of
transforms the node publishes at each frame, once for all rooms, which of its own members have moved; the others' next
frame shows it. What was lost on the way comes within two seconds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import trio

from ._backplane import Engine, Happening, Lease
from ._config import Config
from ._errors import Unavailable
from ._movements import read_movements
from ._node import Hooks, Node
from ._room import Room, Surroundings
from ._shared_names import SharedNames
from ._shared_room import Shared, SharedRoom
from ._statistics import Statistics

# What was lost of transforms is seen again so soon.
_KEYFRAME_S = 2.0
# Between two attempts to tell the engine what it did not take.
_RETRY_S = 1.0

_log = logging.getLogger("trio_vrchat.backplane")


class Sharing:
    """One server among others. Its `run` must run somewhere; `taken` is told of names that somebody else has now."""

    def __init__(self, engine: Engine, config: Config, dice: random.Random, statistics: Statistics) -> None:
        self._config = config
        self._statistics = statistics
        self._stopping = False
        self.node = Node(
            engine,
            Hooks(
                taken=self._lose_name,
                take_moves=lambda: self._shared.moved.take(self.node.id),
                moves=self._take_movements,
                gone=self._lose,
                back=self._look,
                found=self._find,
            ),
            dice,
        )
        self.taken: Callable[[Lease], object] = lambda lease: None
        self._shared = Shared(self.node)
        self.names = SharedNames(self.node, dice)

    def make_room(self, name: str, surroundings: Surroundings, predecessor: Room | None) -> Room:
        """As `MakeRoom`."""
        return SharedRoom(self._shared, name, surroundings, predecessor)

    async def run(self) -> None:
        """Be one of the servers, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.node.run, name="backplane: node")
            nursery.start_soon(self._send_keyframes, name="backplane: keyframes")
            nursery.start_soon(self._tell_of_leaves, name="backplane: leaves")

    async def stop(self) -> None:
        """Be gone for the other servers."""
        self._stopping = True
        await self.node.retire()

    def _take_movements(self, data: bytes) -> None:
        try:
            movements = read_movements(data)
        except ValueError as error:
            _log.debug("transforms of another version: %s", error)
            return
        for name, moved in movements.rooms.items():
            if (room := self._shared.rooms.get(name)) is not None:
                room.take_movements(movements.node, moved)

    def _lose_name(self, lease: Lease) -> None:
        self.taken(lease)
        for room in self._shared.rooms.values():
            room.mirror.lose_name(lease.key)

    def _find(self) -> None:
        self._statistics.backplane_connected = 1

    def _lose(self) -> None:
        self._statistics.backplane_connected = 0
        self._statistics.backplane_losses += not self._stopping
        for room in self._shared.rooms.values():
            room.lose()

    def _look(self) -> None:
        for room in self._shared.rooms.values():
            room.look()

    async def _send_keyframes(self) -> None:
        while True:
            await trio.sleep(_KEYFRAME_S)
            for room in self._shared.rooms.values():
                room.note_all()

    async def _tell_of_leaves(self) -> None:
        while True:
            await trio.sleep(_RETRY_S)
            for room, key in list(self._shared.leaving):
                if not self.node.connected:
                    break
                leave = self._shared.leaving.get((room, key))
                if leave is not None:
                    await self._tell_of_leave(room, leave)

    async def _tell_of_leave(self, name: str, leave: Happening) -> None:
        room = self._shared.rooms.get(name)
        floor = 0 if room is None else room.mirror.last
        try:
            appending = self.node.append(name, [leave], floor=floor, keep=self._config.keep_events, members_limit=0)
            await appending.outcome()
        except Unavailable:
            return
        # (Who joins again meanwhile is after it in the engine's order.)
        if self._shared.leaving.get((name, leave.key)) is leave:
            del self._shared.leaving[name, leave.key]
