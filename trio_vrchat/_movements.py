"""What servers tell each other of their members' transforms: the newest of each, and nothing else. Plain state."""

from __future__ import annotations

import msgspec

from ._members import Member
from ._names import name_key


class Movement(msgspec.Struct, frozen=True, array_like=True):
    """A member's newest transform: the key of its name, when it was received, and its `data` as JSON."""

    key: str
    time: float
    data: bytes


class Movements(msgspec.Struct, frozen=True, array_like=True):
    """What nodes send each other of their own members, by room."""

    node: str
    rooms: dict[str, list[Movement]]


_decode_movements = msgspec.msgpack.Decoder(Movements).decode


def read_movements(data: bytes) -> Movements:
    """Raises ValueError where another version of this program has written it."""
    return _decode_movements(data)


class Moved:
    """Own members who have moved since other nodes were last told. The newest is all that is told."""

    def __init__(self) -> None:
        # No more than there are members; a room that is closed is taken out.
        self._rooms: dict[str, dict[Member, None]] = {}

    def add(self, room: str, members: list[Member]) -> None:
        """These have moved."""
        if members:
            self._rooms.setdefault(room, {}).update(dict.fromkeys(members))

    def forget(self, room: str) -> None:
        """The room is closed here."""
        self._rooms.pop(room, None)

    def take(self, node: str) -> bytes:
        """All of it, from this node; empty where there is nothing."""
        rooms = {
            room: [Movement(name_key(member.name), *member.received) for member in members if member.received]
            for room, members in self._rooms.items()
        }
        self._rooms = {}
        return msgspec.msgpack.encode(Movements(node, rooms)) if rooms else b""
