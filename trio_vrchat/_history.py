"""What was said in a room, as far as it is kept in memory; and what is held for those who are about to resume."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

# As much as waits for a client at most, unless set otherwise. It is held for a moment, until the room's task comes to
# the Resume.
_HELD_LIMIT_BYTES = 1024 * 1024


class Held:
    """Entries that are held for a member who is about to resume; past a limit none.

    `complete` says whether, when it began, nothing was missing since the member's join.
    """

    __slots__ = ("_bytes", "complete", "entries", "overflown")

    def __init__(self, *, complete: bool) -> None:
        self.complete = complete
        self.entries: list[bytes] = []
        self.overflown = False
        self._bytes = 0

    def add(self, entry: bytes) -> None:
        self._bytes += len(entry)
        self.overflown = self._bytes > _HELD_LIMIT_BYTES
        if self.overflown:
            self.entries.clear()
        else:
            self.entries.append(entry)


class History:
    """The last events of a room: at most `limit`, of `limit_bytes` together; the oldest go first.

    Each is its time and its entry as JSON.
    """

    def __init__(self, *, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._events: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        # The time of the newest event that is no longer here.
        self._forgotten_until = 0.0
        # Each is somebody's to `drop`.
        self._held: dict[Held, None] = {}

    def entries(self) -> list[bytes]:
        """Oldest first."""
        return [entry for _, entry in self._events]

    def restore(self, events: Sequence[tuple[float, bytes]], forgotten_until: float) -> None:
        """Begin with these, oldest first; the newest event before them was at `forgotten_until` (0.0: none)."""
        self._forgotten_until = forgotten_until
        for time, entry in events:
            self.add(time, entry)

    def add(self, time: float, entry: bytes) -> None:
        """This was said."""
        self._events.append((time, entry))
        self._bytes += len(entry)
        for held in self._held:
            held.add(entry)
        while len(self._events) > self._limit or self._bytes > self._limit_bytes:
            self._forgotten_until, oldest = self._events.popleft()
            self._bytes -= len(oldest)

    def hold(self, joined_at: float, seen: float | None) -> Held:
        """Hold, until `drop`, what was and will be said after `seen` (None: nobody says what was seen).

        It is complete where nothing is missing that was said since `joined_at`.
        """
        held = Held(complete=max(seen or 0.0, joined_at) >= self._forgotten_until)
        for time, entry in self._events:
            if seen is None or time > seen:
                held.add(entry)
        self._held[held] = None
        return held

    def drop(self, held: Held) -> None:
        """Hold it no longer."""
        self._held.pop(held, None)
