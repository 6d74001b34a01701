"""The events that a client has heard and its program has not yet taken.

The queue is bounded, so that a program which never looks at its events neither grows nor stands still: the oldest are
dropped, and the next event to be taken says how many.
"""

from __future__ import annotations

from collections import deque

import trio

from ._errors import ConnectionLost
from ._events import Event, Missed

# Some seconds of a large, lively room.
_LIMIT_EVENTS = 4096
# As many events as large as the server takes them would be 256 MiB. Counted is the text in which an event came; as
# Python's objects it takes several times as much.
_LIMIT_BYTES = 16 * 1024 * 1024


class EventQueue:
    """A bounded queue of events, with an end."""

    def __init__(self) -> None:
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._missed = 0
        self._end: ConnectionLost | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def put(self, event: Event, size_bytes: int = 0) -> None:
        """Add an event. Does not wait; the oldest make room for it. The newest is kept, however large."""
        self._events.append((event, size_bytes))
        self._bytes += size_bytes
        while len(self._events) > _LIMIT_EVENTS or (self._bytes > _LIMIT_BYTES and len(self._events) > 1):
            _, dropped_bytes = self._events.popleft()
            self._bytes -= dropped_bytes
            self._missed += 1
        self._changed.unpark_all()

    def end(self, error: ConnectionLost) -> None:
        """There will be no more events: `get` raises this once those that wait were taken."""
        self._end = error
        self._changed.unpark_all()

    async def get(self) -> Event:
        """The oldest event, or how many before it were dropped. Waits for one. Raises ConnectionLost at the end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._events and not self._missed:
            if self._end is not None:
                raise self._end
            await self._changed.park()
        # No cancellation from here on: what is taken is returned.
        if self._missed:
            event: Event = Missed(self._missed)
            self._missed = 0
        else:
            event, size_bytes = self._events.popleft()
            self._bytes -= size_bytes
        await trio.lowlevel.cancel_shielded_checkpoint()
        return event
