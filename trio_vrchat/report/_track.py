"""Somebody's path through a room, reduced to what a figure can show.

Time is cut into slots, all of one length, and of each slot the last place is kept. Where a recording outgrows
`SLOTS` of them, two become one: the later place of the two, which is what slots of twice the length would have kept
from the start. So a path takes the same memory whether it lasted a minute or a day, and one pass is enough.

Times are seconds since the start of the recording, places metres; x to the right, y up, and -z is forward at rest.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

import attrs

Place = tuple[float, float, float]

FIRST_STEP_S = 0.1
# An hour is kept at 0.8 s: a step of a walker. A path takes 150 KB at most.
SLOTS = 6000

# Who comes further than this at once, and than one runs in the time between, was not walking (as in `web/pose.js`).
_CUT_DISTANCE_M, _CUT_SPEED_M_S = 0.5, 5.0
# A head that stands still sways by a few centimetres: way is counted in pieces of this.
_PIECE_M = 0.05
# Slower than this nobody walks: they stand, and lean.
_WALKING_M_S = 0.2
# A client sends nothing while nobody moves. A silence is one where its end is elsewhere than its beginning.
SILENCE_S, _SILENCE_M = 0.5, 0.1
# A speed is the way of this long, at least.
_SPEED_S = 1.0
# Someone whose network comes and goes all day has so many stays; what comes later is added to the last.
_STAYS = 1000
# Beyond this no angle has digits left for its direction; a quaternion shorter than that has none.
_ANGLE_LIMIT, _NO_ROTATION = 1e6, 1e-3


@attrs.define
class Stay:
    """From when to when somebody was in a room. `end` is infinite while they are there."""

    start: float
    end: float = math.inf


class Track:
    """One person in one room: stays, path, and how the transforms came. Calls MUST come in the order of time.

    - `stays`: in order.
    - `transforms`: how many came.
    - `walked_m`: how far, on the floor; jumps do not count.
    - `walking_m`, `walking_s`: of that, how far at the pace of a walker, and in how long.
    - `jumps`: changes of place that no walker could have made.
    - `silences`: how often nothing came for `SILENCE_S`, although the head had moved meanwhile.
    - `longest_silence_s`: the longest of them, or 0.0.
    """

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self.transforms = 0
        self.walked_m = 0.0
        self.walking_m = 0.0
        self.walking_s = 0.0
        self.jumps = 0
        self.silences = 0
        self.longest_silence_s = 0.0
        # Of each slot in which something came: its number, the place, where they looked on the floor, the way since
        # the one before, and whether the line before it is broken.
        self._slots = array("l")
        self._x, self._y, self._z = array("f"), array("f"), array("f")
        self._look_x, self._look_z = array("f"), array("f")
        self._way = array("f")
        self._broken = array("b")
        self._last: tuple[float, Place] | None = None
        self._anchor: tuple[float, Place] | None = None

    @property
    def is_here(self) -> bool:
        """Whether they are in the room now."""
        return bool(self.stays) and self.stays[-1].end == math.inf

    @property
    def present_s(self) -> float:
        """How long they were there; `finish` comes first."""
        return sum(stay.end - stay.start for stay in self.stays)

    def join(self, time: float) -> None:
        """They have come in."""
        if self.is_here:
            return
        if len(self.stays) < _STAYS:
            self.stays.append(Stay(time))
        else:
            self.stays[-1].end = math.inf
        self._last = self._anchor = None

    def leave(self, time: float) -> None:
        """They have left."""
        if self.is_here:
            self.stays[-1].end = max(time, self.stays[-1].start)

    def finish(self, time: float) -> None:
        """The recording ends."""
        self.leave(time)

    def move(self, time: float, slot: int, place: Place, look: tuple[float, float]) -> float | None:
        """They are at this place, and look along this (x and z on the floor; shorter, the more it is up or down).

        Returns the seconds since the transform before, if there was one in this stay.
        """
        self.transforms += 1
        last, self._last = self._last, (time, place)
        way, broken = 0.0, last is None
        if last is not None:
            moved = math.dist(last[1], place)
            passed = time - last[0]
            if moved > _CUT_DISTANCE_M + _CUT_SPEED_M_S * passed:
                broken = True
                self.jumps += 1
            if passed > SILENCE_S and moved > _SILENCE_M:
                self.silences += 1
                self.longest_silence_s = max(self.longest_silence_s, passed)
        if broken or self._anchor is None:
            self._anchor = time, place
        else:
            since, anchor = self._anchor
            piece = math.hypot(place[0] - anchor[0], place[2] - anchor[2])
            if piece >= _PIECE_M:
                self._anchor = time, place
                self.walked_m += piece
                # Who was silent for long did not walk all of it in the last second: at the mean speed.
                way = piece * _SPEED_S / max(time - since, _SPEED_S)
                if piece >= _WALKING_M_S * (time - since):
                    self.walking_m += piece
                    self.walking_s += time - since
        self._keep(slot, place, look, way, broken)
        return None if last is None else time - last[0]

    def _keep(self, slot: int, place: Place, look: tuple[float, float], way: float, broken: bool) -> None:
        if self._slots and self._slots[-1] == slot:
            at = len(self._slots) - 1
            self._way[at] += way
            self._broken[at] |= broken
        else:
            at = len(self._slots)
            self._slots.append(slot)
            self._way.append(way)
            self._broken.append(broken)
            for column in (self._x, self._y, self._z, self._look_x, self._look_z):
                column.append(0.0)
        self._x[at], self._y[at], self._z[at] = place
        self._look_x[at], self._look_z[at] = look

    def halve(self) -> None:
        """Make one slot of two."""
        kept = list(self._rows())
        for column in (self._slots, self._x, self._y, self._z, self._look_x, self._look_z, self._way, self._broken):
            del column[:]
        for slot, place, look, way, broken in kept:
            self._keep(slot // 2, place, look, way, broken)

    def _rows(self) -> Iterator[tuple[int, Place, tuple[float, float], float, bool]]:
        for at, slot in enumerate(self._slots):
            place = self._x[at], self._y[at], self._z[at]
            yield slot, place, (self._look_x[at], self._look_z[at]), self._way[at], bool(self._broken[at])

    # What figures are made of. `step` is the length of a slot, in seconds.

    def path(self, step: float) -> list[tuple[float, Place, tuple[float, float], bool]]:
        """Time, place, look, and whether the line before it is broken."""
        return [(slot * step, place, look, broken) for slot, place, look, _, broken in self._rows()]

    def speeds(self, step: float) -> list[tuple[float, float]]:
        """Time and speed on the floor in m/s, in even steps of a second or more, for as long as they were there."""
        slots = max(1, math.ceil(_SPEED_S / step - 1e-9))
        length = slots * step
        ways: dict[int, float] = {}
        for slot, way in zip(self._slots, self._way, strict=True):
            ways[slot // slots] = ways.get(slot // slots, 0.0) + way
        found: dict[int, float] = {}
        for stay in self.stays:
            for number in range(int(stay.start / length), math.ceil(stay.end / length)):
                found[number] = ways.get(number, 0.0) / length
        return [(number * length, speed) for number, speed in sorted(found.items())]

    def held(self, step: float) -> dict[int, Place]:
        """The place in each slot in which they were there: who sends nothing stays where they were."""
        known = {slot: place for slot, place, *_ in self._rows()}
        found: dict[int, Place] = {}
        for stay in self.stays:
            here: Place | None = None
            for slot in range(int(stay.start / step), math.ceil(stay.end / step)):
                here = known.get(slot, here)
                if here is not None:
                    found[slot] = here
        return found


def look_of(rot: tuple[float, float, float], quat: object = None) -> tuple[float, float]:
    """Where somebody looks, seen from above: x and z of the direction, of length 1 where they look straight ahead.

    `rot`: radians in YXZ order. A `quat` is believed before it, if it is a rotation (as in `web/pose.js`).
    """
    if isinstance(quat, dict):
        four = [_number(quat.get(name)) for name in ("x", "y", "z", "w")]
        if (length := math.hypot(*four)) > _NO_ROTATION:
            x, y, z, w = (part / length for part in four)
            return -2 * (x * z + w * y), 2 * (x * x + y * y) - 1
    pitch, yaw = rot[0], rot[1]
    if not (abs(pitch) <= _ANGLE_LIMIT and abs(yaw) <= _ANGLE_LIMIT):
        pitch, yaw = _number(pitch), _number(yaw)
    return -math.cos(pitch) * math.sin(yaw), -math.cos(pitch) * math.cos(yaw)


def _number(value: object) -> float:
    # (A whole number can be larger than any float.)
    return float(max(-_ANGLE_LIMIT, min(_ANGLE_LIMIT, value))) if isinstance(value, int | float) else 0.0
