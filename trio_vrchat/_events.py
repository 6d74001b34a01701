"""What a client hears of its rooms, as typed values (protocol, chapter 2).

`time` is the server's, in seconds since the Unix epoch. Positions are in metres, rotations in radians (YXZ order),
right-handed, y up, looking along -z, as in WebXR (protocol, chapter 1).
"""

from __future__ import annotations

from typing import Any

import attrs

from ._errors import RequestError


@attrs.frozen
class Vector:
    """Three coordinates."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@attrs.frozen
class Transform:
    """Where a head is. `more` holds the other keys of `data` (`quat`, `hands`, `t`, …), relayed untouched."""

    pos: Vector = Vector()
    rot: Vector = Vector()
    more: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen
class Joined:
    """`user` has come into `room`."""

    room: str
    user: str
    time: float


@attrs.frozen
class Left:
    """`user` has left `room`.

    Of those who left while this client was away nobody knows when: their `time` is that of its coming back, or that of
    their next join.
    """

    room: str
    user: str
    time: float


@attrs.frozen
class Said:
    """A `msg`, or an application's own `type`. `from_history` where it was said before this client joined."""

    room: str
    user: str
    time: float
    type: str
    data: Any
    from_history: bool = False


@attrs.frozen
class Moved:
    """`user` was at `transform`, at the time at which the server received it."""

    room: str
    user: str
    time: float
    transform: Transform


@attrs.frozen
class Refused:
    """The server refused something that no call was waiting for (`say` and `move` do not wait)."""

    error: RequestError


@attrs.frozen
class Missed:
    """Nobody took the events for so long that the `count` oldest were dropped here."""

    count: int


@attrs.frozen
class Disconnected:
    """The connection was lost, with this close code (1006: it ended without one). The client is on its way back."""

    code: int


@attrs.frozen
class Reconnected:
    """The client is back in the rooms that are the keys of `complete`.

    What follows for each room, in this order: a Left for whoever is gone and a Joined for whoever came, so that what
    one knew of the members is right again; what was said meanwhile, as Said; and where everybody is, as Moved. True
    says that this is everything that was said. False says that something may be missing: the history did not reach
    back so far, or the server knew this client no more (it was restarted, or kept the place until the time for that
    was over), so that it had to log in and join anew.
    """

    complete: dict[str, bool]


Event = Joined | Left | Said | Moved | Refused | Missed | Disconnected | Reconnected
