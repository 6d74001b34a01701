"""One room's events as a node has them: each once, in order, and none missing. Plain state.

    publications ──▶ publish ─┐
                              ├─▶ take ──▶ the room
    replies ──▶ read_on, view ┘

What is published may have been seen, or may leave a gap; then nothing more is taken from publications until what was
missed has been asked for (`behind`). What waits to be taken has a limit; past it, the rest is asked for later, too.
"""

from __future__ import annotations

from collections import deque

import attrs

from ._backplane import Event, Gone, Happened, RoomEvents, Snapshot

# Bodies of so many characters may wait for one room: what is over it is asked for when there is space again.
_WAITING_LIMIT = 1024 * 1024


@attrs.frozen
class View:
    """A room as the engine has it: from here on it is this.

    Where it is not `complete`, the engine has lost its memory, and other nodes may still bring back who is in it:
    whoever is missing here is not gone yet. Another view follows.
    """

    snapshot: Snapshot
    complete: bool


@attrs.frozen
class CaughtUp:
    """Whatever happened while the link was lost was before this."""


News = View | Event | CaughtUp


class Follower:
    """What `publish`, `read_on` and `view` bring, `take` returns.

    - `publish` MUST be called for everything that comes while a session listens to the room.
    - When `behind`, ask: for a view where `last` is None, else for what came after it.
    """

    def __init__(self) -> None:
        # The time of the last event that waits or was taken; None: there was no view yet.
        self.last: int | None = None
        self.behind = True
        # The time of the newest event that was published: while behind, they are not taken, and must be asked for.
        self._published = 0
        self._is_complete = True
        self._was_lost = False
        self._waiting: deque[News] = deque()
        self._size = 0

    def lose(self) -> None:
        """The link was lost: publications may have been missed."""
        self.behind = True
        self._was_lost = True
        self._published = 0

    def settle(self) -> None:
        """Everybody has come back who will: what is not complete needs another view."""
        if not self._is_complete:
            self.last = None
            self.behind = True

    def publish(self, events: RoomEvents) -> None:
        """These were published."""
        self._published = events.events[-1].at
        if self.behind or self.last is None:
            return
        if events.after > self.last:
            self.behind = True
            return
        self._add(events.events)

    def read_on(self, reply: Happened | Gone) -> None:
        """The reply to what was asked for after `last`."""
        if isinstance(reply, Gone):
            self.last = None
            return
        self._add(reply.events)
        assert self.last is not None
        self.behind = reply.more or self._published > self.last
        self._note_caught_up()

    def view(self, view: View) -> None:
        """The reply where a view was asked for."""
        self.last = view.snapshot.last
        self._is_complete = view.complete
        self.behind = self._published > self.last
        self._waiting.append(view)
        self._note_caught_up()

    def _note_caught_up(self) -> None:
        if self._was_lost and not self.behind:
            self._was_lost = False
            self._waiting.append(CaughtUp())

    def _add(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if self.last is not None and event.at <= self.last:
                continue
            if self._size > _WAITING_LIMIT:
                self.behind = True
                self._published = max(self._published, event.at)
                return
            self.last = event.at
            self._size += len(event.body)
            self._waiting.append(event)

    def take(self) -> list[News]:
        """All that waits, in order."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return taken
