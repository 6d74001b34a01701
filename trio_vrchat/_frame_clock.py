"""The clock that says when batches of transforms go out: a grid of `1 / fps` seconds on trio's clock.

It is armed only while some room has a transform to send, so that an idle server sleeps. A frame's time is computed
from the grid, never as "the last wake-up and a period", which drifts: a late frame does not make the next one late.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio

from ._statistics import Statistics


class Ticked(Protocol):
    """What the clock ticks: a room."""

    def tick(self, due: float) -> None:
        """It is time for a batch, since `due` on trio's clock. Does not block."""


class FrameClock:
    """Ticks the armed rooms at most `fps` times a second."""

    def __init__(self, fps: float, statistics: Statistics) -> None:
        self._fps = fps
        self._statistics = statistics
        self._armed: dict[Ticked, None] = {}
        self._idle = trio.lowlevel.ParkingLot()

    def arm(self, room: Ticked) -> None:
        """Tick this room once, at the next frame."""
        if not self._armed:
            self._idle.unpark_all()
        self._armed[room] = None

    async def run(self) -> None:
        """Tick until cancelled."""
        start = trio.current_time()
        frame = 0
        while True:
            if not self._armed:
                await self._idle.park()
            # The first point of the grid that is still to come. (The last frame's own point can seem to lie ahead,
            # by the rounding of the division.)
            frame = max(frame + 1, math.floor((trio.current_time() - start) * self._fps) + 1)
            due = start + frame / self._fps
            await trio.sleep_until(due)
            if (trio.current_time() - due) * self._fps >= 1:
                self._statistics.frames_late += 1
            rooms, self._armed = self._armed, {}
            for room in rooms:
                room.tick(due)
