"""The lines of a recording (`_recording_file.py`), with as much of each as a report looks at."""

from __future__ import annotations

from typing import Any

import msgspec


class _Coordinates(msgspec.Struct, frozen=True):
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


_NOWHERE = _Coordinates()


class _Pose(msgspec.Struct):
    pos: _Coordinates = _NOWHERE
    rot: _Coordinates = _NOWHERE
    quat: Any = None
    t: Any = None


class Moved(msgspec.Struct):
    """A transform."""

    time: float
    room: str
    user: str
    data: _Pose


class Happened(msgspec.Struct):
    """A join, a leave, or something said; what was said is not looked at."""

    time: float
    room: str
    user: str
    type: str


class RoundTrip(msgspec.Struct):
    """A ping that was answered."""

    time: float
    user: str
    round_trip_s: float


class Clock(msgspec.Struct):
    """A client's estimate of the server's clock."""

    time: float
    user: str
    offset_s: float
    bound_s: float


decode_moved = msgspec.json.Decoder(Moved).decode
decode_happened = msgspec.json.Decoder(Happened).decode
decode_round_trip = msgspec.json.Decoder(RoundTrip).decode
decode_clock = msgspec.json.Decoder(Clock).decode
