"""Who does what when, by a recording: what a replay goes by. Plain state and plain functions.

    a recorded line ─▶ Schedule.take ─▶ acts: this person, at this moment, does this in that room

- Each line is looked at once, in the order of the file, and forgotten. What is kept is who is where now, so it grows
  with how many are there at once and never with the recording.
- Acts come in the order of the file. The first act of whoever is nowhere is a join.
- What is said, and where somebody is, goes out in the bytes in which it was recorded.
- Seconds are the recording's, from the moment at which the replay begins: at `from_s`, with those who are there by then
  in their places; or where nobody is there yet, when the first comes, so that nobody waits before an empty stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec

from ._clock import time_of
from ._codec import USER_NAME_LIMIT
from ._errors import ReplayError
from ._messages import JOIN, LEAVE, MESSAGE, TRANSFORM
from ._names import are_look_alikes, name_key, skeleton
from ._recording_index import Line, decode_line

# What tells a replayed person from a living one.
MARK = "↺"
_NOTHING = b'""'
_LEFT_OUT = b"null"
# For the message that a room is not there.
_ROOMS_NAMED = 8


@attrs.frozen
class Act:
    """At `at_s`, `person` does this in `room`. `type` and `data` are the protocol's; `data` is JSON."""

    at_s: float
    person: str
    room: str
    type: str
    data: bytes


@attrs.define(eq=False)
class _Person:
    name: str
    # Where they are, and in each room their last transform.
    rooms: dict[str, bytes | None] = attrs.field(factory=dict)


class Schedule:
    """The acts of one recording, with this manifest. `take` MUST be given its events and transforms in order."""

    def __init__(self, manifest: Mapping[str, Any], *, from_s: float = 0.0, room: str | None = None) -> None:
        self._from_s = from_s
        self._room = room
        self._no_texts = bool(manifest.get("pseudonyms"))
        self._started = time_of(manifest.get("started")) or 0.0
        self._first: float | None = None
        self._last = 0.0
        self._origin: float | None = None
        # By the keys of the names that were recorded, as on the server: one key is one user.
        self._people: dict[str, _Person] = {}
        self._names = _Names()
        self._rooms: dict[str, None] = {}

    def take(self, line: bytes) -> list[Act]:
        """What follows from the next line. Raises ReplayError where it is not one of a recording."""
        try:
            entry = decode_line(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ReplayError(f"a message of the recording is none ({error}): {line[:80]!r}") from error
        # Who was there when the recording began has come before.
        time = max(entry.time, self._started)
        if self._first is None:
            self._first = time
        self._last = max(self._last, time)
        if len(self._rooms) < _ROOMS_NAMED:
            self._rooms[entry.room] = None
        if self._room not in (None, entry.room):
            return []
        standing: list[Act] = []
        if self._origin is None:
            start = self._first + self._from_s
            if time < start:
                list(self._acts(entry, 0.0))
                return []
            self._origin = start if self._people else time
            standing = list(self._standing())
        return standing + list(self._acts(entry, max(0.0, time - self._origin)))

    def why_nothing(self) -> str:
        """To be asked where there was no act at all: what there is instead."""
        if self._first is None:
            return "nothing happens in it"
        if self._room is not None and self._room not in self._rooms:
            return f"nothing happens in the room {self._room!r}; there is {', '.join(map(repr, self._rooms))}"
        return f"it has {self._last - self._first:.3f} s, and nothing is left of it after {self._from_s:g} s"

    def _acts(self, entry: Line, at_s: float) -> Iterator[Act]:
        """What this does to who is where, and the acts of it."""
        key, room, data = name_key(entry.user), entry.room, bytes(entry.data)
        person = self._people.get(key)
        if entry.type == LEAVE:
            if person is not None and room in person.rooms:
                yield Act(at_s, person.name, room, LEAVE, _NOTHING)
                del person.rooms[room]
                if not person.rooms:
                    del self._people[key]
                    self._names.give_back(person.name)
            return
        if entry.type == MESSAGE and self._no_texts and data == _LEFT_OUT:
            return
        if person is None:
            person = self._people[key] = _Person(self._names.take(entry.user))
        if room not in person.rooms:
            # (Where the disk did not keep up, the recording has lost some joins.)
            person.rooms[room] = None
            yield Act(at_s, person.name, room, JOIN, _NOTHING)
        if entry.type == TRANSFORM:
            person.rooms[room] = data
        if entry.type != JOIN:
            yield Act(at_s, person.name, room, entry.type, data)

    def _standing(self) -> Iterator[Act]:
        """The acts by which everybody comes to where they are."""
        for person in self._people.values():
            for room, data in person.rooms.items():
                yield Act(0.0, person.name, room, JOIN, _NOTHING)
                if data is not None:
                    yield Act(0.0, person.name, room, TRANSFORM, data)


class _Names:
    """The names of those who are there, no two of which are one user's or look like each other."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._looks: dict[str, set[str]] = {}

    def take(self, user: str) -> str:
        """A name that nobody has, for who was recorded as `user`."""
        # Who was a replay then is not marked twice.
        user = user.removesuffix(MARK).rstrip() or user
        name = next(name for name in _candidates(user) if self._is_free(name))
        self._keys.add(name_key(name))
        self._looks.setdefault(skeleton(name), set()).add(name)
        return name

    def _is_free(self, name: str) -> bool:
        alike = self._looks.get(skeleton(name), ())
        return name_key(name) not in self._keys and not any(are_look_alikes(name, other) for other in alike)

    def give_back(self, name: str) -> None:
        """Somebody else may have it."""
        self._keys.discard(name_key(name))
        alike = self._looks[skeleton(name)]
        alike.discard(name)
        if not alike:
            del self._looks[skeleton(name)]


def _candidates(user: str) -> Iterator[str]:
    for number in itertools.count(1):
        mark = f" {MARK}" if number == 1 else f" {number} {MARK}"
        yield user[: USER_NAME_LIMIT - len(mark)].rstrip() + mark
