"""What a client knows of the rooms it is in, and which events follow from what it is sent.

Plain state and plain functions. What it must get right is the way back after a lost connection:

- `seen` is the `time` of the last event of a room that was heard; a server that kept our place continues there. The
  list of a room shows nothing of what was said before it: it does not count as seen, the history after it does.
- A server that did not keep our place shows the history anew: what was heard before is left out.
- Who came and who left meanwhile is the difference between the list before and the list now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import attrs

from ._events import Event, Joined, Left, Moved, Said, Transform, Vector
from ._messages import JOIN, LEAVE, TRANSFORM
from ._names import name_key

Entry = dict[str, Any]


@attrs.define
class _Room:
    joined_at: float
    # The others, and when they joined. The server has a limit to the members of a room, and to the rooms of a user.
    members: dict[str, float]
    seen: float | None = None
    # What was heard before the connection was lost, and is not to be heard again.
    heard_until: float = 0.0


class ClientRooms:
    """The rooms of one client, over all its connections. Events go to `put`, each with its share of the bytes."""

    # Whoever has no use for them is spared most of what a crowd costs.
    hears_transforms = True

    def __init__(self, user: str, put: Callable[[Event, int], None]) -> None:
        self.be_called(user)
        self._put = put
        self._rooms: dict[str, _Room] = {}
        self._unwanted: set[str] = set()
        self._back_at = 0.0

    def be_called(self, user: str) -> None:
        """This is the name under which rooms show us."""
        self.user = user
        self._key = name_key(user)

    def __contains__(self, room: str) -> bool:
        return room in self._rooms

    def names(self) -> tuple[str, ...]:
        """The rooms that this user is in; while it is away, those that it wants to be in again."""
        return tuple(self._rooms)

    def seen(self) -> dict[str, float]:
        """For each room the time of the last event that was heard, 0.0 where there was none: a `resume` has this."""
        return {name: room.seen or 0.0 for name, room in self._rooms.items()}

    def come_back(self, time: float, *, kept: bool, unwanted: Collection[str]) -> None:
        """A server lets us in again, at its `time`; `kept` says that it goes on where we were.

        Rooms that are `unwanted` are not heard: it has not understood that we left them.
        """
        self._back_at = time
        self._unwanted = set(unwanted)
        for room in self._rooms.values():
            if room.seen is not None:
                # Where the clock was set back the times of before say nothing about those of now.
                room.heard_until = room.seen if room.seen <= time else 0.0
            if not kept:
                room.seen = None

    def forget(self, name: str) -> None:
        """We have left this room: nothing of it is heard any more."""
        self._unwanted.discard(name)
        self._rooms.pop(name, None)

    # What the server sends

    def own_join(self, entries: Iterable[Entry]) -> Entry | None:
        """The entry that shows our own join: only the list of a room has it."""
        for entry in entries:
            if entry["type"] == JOIN and (entry["user"] == self.user or name_key(entry["user"]) == self._key):
                # A server that was not asked for `resume` does not say that it shows "Tibi" where "tibi" took over.
                self.user = entry["user"]
                return entry
        return None

    def welcomed(self, name: str, own_join: Entry, entries: Iterable[Entry]) -> None:
        """We are in this room, with these members."""
        if name in self._unwanted:
            return
        members = {entry["user"]: entry["time"] for entry in entries if entry is not own_join}
        room = self._rooms.get(name)
        if room is None:
            self._rooms[name] = _Room(own_join["time"], members)
            return
        for user, time in room.members.items():
            if members.get(user) != time:
                self._put(Left(name, user, members.get(user, self._back_at)), 0)
        for user, time in members.items():
            if room.members.get(user) != time:
                self._put(Joined(name, user, time), 0)
        room.joined_at = own_join["time"]
        room.members = members

    def heard(self, name: str, entries: list[Entry], size_bytes: int) -> None:
        """This was sent to the members of the room, in a message of so many bytes."""
        room = self._rooms.get(name)
        if room is None:
            return  # said before the room's task had our leave
        share_bytes = size_bytes // len(entries)
        for entry in entries:
            if entry["type"] == TRANSFORM:
                if not self.hears_transforms:
                    continue
            else:
                if entry["time"] <= room.heard_until:
                    continue
                room.seen = entry["time"]
            if entry["type"] == JOIN:
                room.members[entry["user"]] = entry["time"]
            elif entry["type"] == LEAVE:
                room.members.pop(entry["user"], None)
            self._put(_event(name, entry, room.joined_at), share_bytes)


def _event(room: str, entry: Entry, joined_at: float) -> Event:
    user, time, kind, data = entry["user"], entry["time"], entry["type"], entry["data"]
    match kind:
        case "join":
            return Joined(room, user, time)
        case "leave":
            return Left(room, user, time)
        case "transform":
            more = dict(data)
            pos, rot = more.pop("pos"), more.pop("rot")
            return Moved(room, user, time, Transform(_vector(pos), _vector(rot), more))
    return Said(room, user, time, kind, data, from_history=time < joined_at)


def _vector(coordinates: dict[str, float]) -> Vector:
    return Vector(coordinates["x"], coordinates["y"], coordinates["z"])
