"""The server's wall clock: a start, plus what a monotonic clock has counted since.

So a test with a mock clock and a given start knows every `time` that the server sends, and a machine whose clock is
set back does not show people answers before questions. A machine that slept has a monotonic clock that stood still:
without a given start, the wall clock is read again once the two are more than a second apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

# More than NTP slews in hours, less than a laptop's shortest sleep.
_DRIFT_LIMIT_S = 1.0
# Protocol, chapter 2, Order. A double holds today's epoch seconds to a quarter of this.
_MICROSECOND = 1e-6


class WallClock:
    """Seconds since the Unix epoch. `monotonic` is any clock that never runs backwards, in seconds.

    Every stamp is later than `after`: the newest event that a store holds, though the machine's clock was set back.
    """

    __slots__ = ("_given", "_last_stamp", "_monotonic", "_offset", "_read")

    def __init__(
        self,
        monotonic: Callable[[], float],
        start: float | None = None,
        read: Callable[[], float] = time.time,
        after: float = 0.0,
    ) -> None:
        self._monotonic = monotonic
        self._given = start is not None
        self._read = read
        self._offset = (read() if start is None else start) - monotonic()
        self._last_stamp = after

    def now(self) -> float:
        """The time of what has no place in an order of events: answers and transforms."""
        return self.at(self._monotonic())

    def at(self, monotonic: float) -> float:
        """The time of a moment that has just been read from the monotonic clock."""
        moment = monotonic + self._offset
        if not self._given and abs(self._read() - moment) > _DRIFT_LIMIT_S:
            self._offset = self._read() - self._monotonic()
            return self._monotonic() + self._offset
        return moment

    def stamp(self) -> float:
        """The time of an event: greater than that of every event before it, in any room.

        The protocol asks for that within each room. One count for the whole server keeps it true for a room that is
        closed and opened again under the same name, too.
        """
        moment = self.now()
        if moment <= self._last_stamp:
            # Far from today, a microsecond is less than the next double.
            moment = max(self._last_stamp + _MICROSECOND, math.nextafter(self._last_stamp, math.inf))
        self._last_stamp = moment
        return moment


def text_of(time: float) -> str:
    """A time as files say it: ISO 8601, in UTC, to the millisecond."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")


def time_of(text: object) -> float | None:
    """The time that a file says; None where it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
