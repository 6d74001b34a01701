"""Who met whom in a room: plain state, told where everybody is, and asked at the end.

Two people *meet* when they are nearer than `NEAR_M` (from head to head) for `MEETING_S` or longer. Who parts for less
than `PAUSE_S` and comes back has not parted. Who was near for less has *passed*.

It is looked at on a grid of `LOOK_S`, and only where somebody has moved. To look at a room of n people takes about as
many steps as there are pairs who are near in x, for they are sorted by it.
"""

from __future__ import annotations

import math

import attrs

from ._track import Place

# Hall's personal space ends at 1.2 m; beyond 2 m, two do not talk with each other but with a group.
NEAR_M = 2.0
MEETING_S = 3.0
PAUSE_S = 3.0
# A walker moves 0.3 m in it.
LOOK_S = 0.2
# All pairs of 200 people in one room; and bars of a figure, which shows a part of them.
_PAIRS, _MEETINGS = 20_000, 20_000


@attrs.frozen
class Meeting:
    """From when to when, and where: the middle of all places between the two, x and z."""

    start: float
    end: float
    x: float
    z: float


@attrs.define(eq=False)
class Pair:
    """Two people who came near each other in a room, by name.

    - `closest_m`: the least distance, from head to head.
    - `met`: how often. `meetings` holds them, unless there were more than is reasonable.
    - `passed`: how often they only passed.
    - `together_s`: seconds of all meetings.
    """

    room: str
    one: str
    other: str
    closest_m: float = math.inf
    met: int = 0
    passed: int = 0
    together_s: float = 0.0
    meetings: list[Meeting] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Near:
    """Two who are near, or were until a moment ago."""

    since: float
    until: float | None = None
    x: float = 0.0
    z: float = 0.0
    looks: int = 0


class Meetings:
    """The pairs of one recording.

    - `left_out`: whether there were more pairs than `_PAIRS`: those that came near each other later are missing.
    """

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str, str], Pair] = {}
        self.left_out = False
        self._kept = 0

    def pair(self, room: str, one: str, other: str) -> Pair | None:
        """The pair, or None where there is no room for another."""
        key = (room, one, other)
        if key not in self.pairs:
            if len(self.pairs) >= _PAIRS:
                self.left_out = True
                return None
            self.pairs[key] = Pair(room, one, other)
        return self.pairs[key]

    def end(self, pair: Pair, near: _Near, end: float) -> None:
        """They have parted."""
        if end - near.since < MEETING_S:
            pair.passed += 1
            return
        pair.met += 1
        pair.together_s += end - near.since
        if self._kept < _MEETINGS:
            self._kept += 1
            pair.meetings.append(Meeting(near.since, end, near.x / near.looks, near.z / near.looks))


class RoomMeetings:
    """Who is near whom in one room. Calls MUST come in the order of time."""

    def __init__(self, room: str, meetings: Meetings) -> None:
        self._room = room
        self._meetings = meetings
        self._places: dict[str, Place] = {}
        self._near: dict[tuple[str, str], _Near] = {}
        # When the grid's next moment is, while something has changed since the last.
        self._due = math.inf

    def place(self, time: float, user: str, place: Place) -> None:
        """Somebody is here now."""
        self._change(time)
        self._places[user] = place

    def leave(self, time: float, user: str) -> None:
        """Somebody has left."""
        self._change(time)
        self._places.pop(user, None)

    def finish(self, time: float) -> None:
        """The recording ends."""
        self._change(time)
        for (one, other), near in self._near.items():
            self._part(one, other, near, time if near.until is None else near.until)
        self._near = {}

    def _change(self, time: float) -> None:
        if time >= self._due:
            self._look(self._due)
            self._due = math.inf
        if self._due == math.inf:
            self._due = (math.floor(time / LOOK_S) + 1) * LOOK_S

    def _look(self, now: float) -> None:
        seen: set[tuple[str, str]] = set()
        people = sorted((place, user) for user, place in self._places.items())
        for number, (here, user) in enumerate(people):
            for there, neighbour in people[number + 1 :]:
                if there[0] - here[0] >= NEAR_M:
                    break
                distance = math.dist(here, there)
                if distance < NEAR_M:
                    one, other = (user, neighbour) if user < neighbour else (neighbour, user)
                    seen.add((one, other))
                    self._see(now, one, other, distance, (here[0] + there[0]) / 2, (here[2] + there[2]) / 2)
        for (one, other), near in list(self._near.items()):
            if (one, other) in seen:
                continue
            if near.until is None:
                near.until = now
            elif now - near.until >= PAUSE_S:
                self._part(one, other, near, near.until)
                del self._near[one, other]

    def _see(self, now: float, one: str, other: str, distance: float, x: float, z: float) -> None:
        near = self._near.get((one, other))
        if near is not None and near.until is not None and now - near.until >= PAUSE_S:
            self._part(one, other, near, near.until)
            near = None
        if near is None:
            near = self._near[one, other] = _Near(now)
        near.until = None
        near.x += x
        near.z += z
        near.looks += 1
        if (pair := self._meetings.pair(self._room, one, other)) is not None:
            pair.closest_m = min(pair.closest_m, distance)

    def _part(self, one: str, other: str, near: _Near, end: float) -> None:
        if (pair := self._meetings.pair(self._room, one, other)) is not None:
            self._meetings.end(pair, near, end)
