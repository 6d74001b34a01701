"""Who watches everything that happens on a server, if anybody does: its recording."""

from __future__ import annotations

from typing import Protocol

import attrs


class Observer(Protocol):
    """Is told what happens, as it happens. Nothing here may block, raise, or change anything."""

    def happened(self, room: str, entry: bytes) -> None:
        """A join, a leave, or something said, in the room's order. `entry` is JSON, as the members see it."""

    def moved(self, room: str, user: bytes, time: float, data: bytes) -> None:
        """A transform came in at `time`, in seconds since the Unix epoch. `user` and `data` are JSON."""

    def round_trip(self, user: str, seconds: float) -> None:
        """A user's ping was answered after so long."""

    def clock_offset(self, user: str, seconds: float, bound: float) -> None:
        """A user's clock is so far behind the server's, by the client's own estimate, give or take `bound`."""


@attrs.define(eq=False)
class Observation:
    """Where the observer of one server is looked up, because it comes and goes while the server runs."""

    observer: Observer | None = None
