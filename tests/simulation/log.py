"""A room's one order of events, from its opening to its closing, as the model knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

Entry = dict[str, Any]


@attrs.define(eq=False)
class Happened:
    """An event that is in the order. Its time is known from whoever sees it first."""

    user: str
    type: str
    data: object
    # Who is in the room after it.
    members: frozenset[str]
    time: float | None = None

    @property
    def is_history(self) -> bool:
        return self.type not in ("join", "leave")

    def check(self, entry: Entry, viewer: str) -> None:
        """The viewer sees this entry here."""
        seen = (entry["user"], entry["type"], entry["data"])
        expected = (self.user, self.type, self.data)
        assert seen == expected, f"{viewer} sees {seen} where {expected} is next"
        if self.time is None:
            self.time = entry["time"]
        assert entry["time"] == self.time, f"{viewer} sees {seen} at {entry['time']}, others at {self.time}"


@attrs.define(eq=False)
class Log:
    """The events of one room. `learn` raises where an event that nobody expects may not come."""

    room: str
    learn: Callable[[Log, Entry, str], None]
    # What was said before it was opened, where a store has kept that.
    kept: list[Happened] = attrs.field(factory=list)
    events: list[Happened] = attrs.field(factory=list)
    members: frozenset[str] = frozenset()
    # Where each member's current stay began.
    joined: dict[str, int] = attrs.field(factory=dict)

    def append(self, user: str, kind: str, data: object = "") -> None:
        """This happens next."""
        if kind == "join":
            self.joined[user] = len(self.events)
            self.members |= {user}
        elif kind == "leave":
            self.members -= {user}
        self.events.append(Happened(user, kind, data, self.members))

    def see(self, position: int, entry: Entry, viewer: str) -> None:
        """The viewer sees this entry at this position of the order."""
        if position == len(self.events):
            self.learn(self, entry, viewer)
        event = self.events[position]
        assert (event.user, event.type) != (viewer, "leave"), f"{viewer} sees {entry} after its leave"
        event.check(entry, viewer)

    def history(self, before: int) -> list[Happened]:
        """Everything before this position that a history may hold."""
        return self.kept + [event for event in self.events[:before] if event.is_history]
