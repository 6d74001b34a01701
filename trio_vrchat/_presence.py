"""A room's state: who is in it, what was said, where everybody is.

Plain state and plain functions: no task, no clock, no socket. The room's task passes what happened to `apply` and
`take_batch` and delivers what they return.

What a member sees is decided here and nowhere else (protocol, chapter 2, "Joining", "Transforms" and "Order"):

- There is one order of events. `apply` goes through them once and gathers a *run* of entries that the same members are
  to see; one message carries it, encoded once. A run ends where the audience changes.
- A newcomer's welcome (list, history, transforms) is offered after all that came before its join, and before all that
  comes later. Joins that follow each other directly share one list, which holds them all: 500 people who come
  together get one list, and those already there get one message with 500 entries.
- Whoever leaves sees what came before, and nothing after.
- Whoever comes back on another connection (takeover, resume) never left: the outbox changes at one place in the order,
  and what is offered there is a welcome as for a newcomer, without what the client says that it has seen.

Transforms have no place in that order. A member's current one is a slot that is overwritten; a batch takes those that
were written since the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from ._codec import encode, encode_entry, encode_payload
from ._frames import text_frame
from ._history import History
from ._members import Event, Heard, Join, Leave, List, Member, Replace, Resume, Say
from ._messages import LEAVE
from ._observer import Observation, Observer
from ._outbox import Outbox

# A run is cut here, so that one message cannot outgrow an outbox.
_RUN_LIMIT_BYTES = 64 * 1024
_NO_DATA = b'""'


_LEAVE_JSON = encode(LEAVE)


@attrs.frozen
class Delivery:
    """A frame that must reach these members; it carries `entries` entries.

    With an `outbox`, that is where it and all that follows goes: what came before it was for the one before.
    """

    members: Sequence[Member]
    frame: bytes
    entries: int
    outbox: Outbox | None = None


class Batch:
    """What one tick sends: to most members what moved, to those who missed the last batch everything."""

    __slots__ = ("_everything", "_everything_known", "_presence", "members", "moved")

    def __init__(self, presence: Presence, moved: list[bytes]) -> None:
        self._presence = presence
        self.moved = (presence.frame(moved), len(moved)) if moved else None
        self._everything: tuple[bytes, int] | None = None
        self._everything_known = False
        self.members = presence.audience()

    def frame_for(self, member: Member) -> tuple[bytes, int] | None:
        """The frame for this member, and how many entries it carries; None where there is nothing to send."""
        if not member.missed:
            return self.moved
        if not self._everything_known:
            entries = self._presence.transform_entries()
            self._everything = (self._presence.frame(entries), len(entries)) if entries else None
            self._everything_known = True
        return self._everything


class Presence:
    """The state of one room.

    - Only the room's task MUST call it.
    - Deliveries MUST be offered in the order in which they are returned, before the next call.
    - A `Join` of a member MUST come before its other events, and its name MUST be no other member's.
    """

    def __init__(
        self,
        name: str,
        *,
        history: int,
        history_limit_bytes: int,
        stamp: Callable[[], float],
        observation: Observation | None = None,
    ) -> None:
        self._name = name
        self._name_json = encode(name)
        self._observation = observation or Observation()
        self._stamp = stamp
        self._members: dict[str, Member] = {}
        self._everybody: tuple[Member, ...] | None = None
        self._audience: tuple[Member, ...] | None = None
        self.history = History(limit=history, limit_bytes=history_limit_bytes)
        # The run under way: entries for the members who are not newcomers.
        self._run: list[bytes] = []
        self._run_bytes = 0
        self._newcomers: dict[Member, None] = {}
        self._deliveries: list[Delivery] = []

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: Member) -> bool:
        return self._members.get(member.name) is member

    def members(self) -> tuple[Member, ...]:
        """Everybody, in the order of their joins."""
        if self._everybody is None:
            self._everybody = tuple(self._members.values())
        return self._everybody

    def audience(self) -> tuple[Member, ...]:
        """Those of them whose connections are this server's: all, unless servers share the room."""
        if self._audience is None:
            self._audience = tuple(member for member in self.members() if member.here)
        return self._audience

    def _change(self) -> None:
        self._everybody = self._audience = None

    def frame(self, entries: Iterable[bytes]) -> bytes:
        """These entries as one message of this room."""
        return text_frame(encode_payload(self._name_json, entries))

    def transform_entries(self) -> list[bytes]:
        """Everybody's current transform."""
        return [entry for member in self.members() if (entry := member.transform_entry())]

    def show(self, observer: Observer) -> None:
        """Tell somebody who begins to watch who is here, and where."""
        for member in self.members():
            observer.happened(self._name, member.join_entry)
            if (received := member.received) is not None:
                observer.moved(self._name, member.name_json, *received)

    # Events

    def apply(self, events: Iterable[Event]) -> list[Delivery]:
        """Let these events happen, in this order; returns what is to be sent, in order."""
        for event in events:
            match event:
                case Say():
                    self._say(event)
                case Join():
                    self._join(event)
                case Leave():
                    self._leave(event)
                case List(member):
                    self._list(member)
                case Resume():
                    self._resume(event)
                case Heard():
                    self._hear(event)
                case Replace():
                    self._replace(event)
        self._end_run()
        deliveries, self._deliveries = self._deliveries, []
        return deliveries

    def stamp(self, events: Iterable[Event]) -> list[tuple[float, bytes]]:
        """Give these events their times, in this order, before they are applied; returns the history that they make.

        For a room whose history is stored before anybody sees it. `apply` MUST follow, before any other events, with
        these or some of these.
        """
        stored: list[tuple[float, bytes]] = []
        for event in events:
            match event:
                case Say(member):
                    event.time = self._stamp()
                    event.entry = encode_entry(event.time, member.name_json, encode(event.type), event.data)
                    stored.append((event.time, event.entry))
                case Join() | Leave():
                    event.time = self._stamp()
        return stored

    def _say(self, event: Say) -> None:
        member = event.member
        if self._members.get(member.name) is not member:
            return
        if self._newcomers:
            self._end_run()
        if not event.entry:
            self.stamp((event,))
        self.history.add(event.time, event.entry)
        self._add(event.entry)

    def _hear(self, event: Heard) -> None:
        if self._newcomers:
            self._end_run()
        self.history.add(event.time, event.entry)
        self._add(event.entry)

    def _join(self, event: Join) -> None:
        member = event.member
        member.joined_at = event.time or self._stamp()
        member.show_since(member.joined_at)
        self._members[member.name] = member
        self._change()
        if member.here:
            self._newcomers[member] = None
        self._add(member.join_entry)

    def _replace(self, event: Replace) -> None:
        self._end_run()
        member = event.member
        member.joined_at = event.time
        member.show_since(event.time)
        self._members[member.name] = member
        self._change()
        if member.here:
            self._deliveries.append(self._list_for((member,)))
            self._welcome((member,), self.history.entries())

    def _leave(self, event: Leave) -> None:
        member = event.member
        if self._members.get(member.name) is not member:
            return  # it never got in: its connection ended before its join was sent
        # Who still listens sees everything before its own leave. Where a hall of people loses its connections at
        # once, nobody does, and their leaves go out together.
        if self._newcomers or not member.outbox.closed:
            self._end_run()
        del self._members[member.name]
        self._change()
        self._add(encode_entry(event.time or self._stamp(), member.name_json, _LEAVE_JSON, _NO_DATA))

    def _list(self, member: Member) -> None:
        if self._members.get(member.name) is not member:
            return
        self._end_run()
        self._deliveries.append(self._list_for((member,)))

    def _resume(self, event: Resume) -> None:
        member = event.member
        if self._members.get(member.name) is not member:
            # The connection before was lost while its join was on the way.
            member.outbox = event.outbox
            event.resumed(True)
            self._join(Join(member))
            return
        self._end_run()
        held = event.held
        event.resumed(held is None or not held.overflown)
        member.missed = False
        self._deliveries.append(self._list_for((member,), event.outbox))
        self._welcome((member,), self.history.entries() if held is None else held.entries)

    def _add(self, entry: bytes) -> None:
        if (observer := self._observation.observer) is not None:
            observer.happened(self._name, entry)
        self._run.append(entry)
        self._run_bytes += len(entry)
        if self._run_bytes >= _RUN_LIMIT_BYTES:
            self._end_run()

    def _end_run(self) -> None:
        """Deliver the run to those who were there for all of it, then welcome those who came at its end."""
        newcomers = tuple(self._newcomers)
        if self._run:
            audience = self.audience()
            if newcomers:
                audience = tuple(member for member in audience if member not in self._newcomers)
            if audience:
                self._deliveries.append(Delivery(audience, self.frame(self._run), len(self._run)))
            self._run = []
            self._run_bytes = 0
        if newcomers:
            self._newcomers = {}
            self._deliveries.append(self._list_for(newcomers))
            self._welcome(newcomers, self.history.entries())

    def _welcome(self, members: Sequence[Member], history: list[bytes]) -> None:
        """What follows a list."""
        for entries in (history, self.transform_entries()):
            if entries:
                self._deliveries.append(Delivery(members, self.frame(entries), len(entries)))

    def _list_for(self, members: Sequence[Member], outbox: Outbox | None = None) -> Delivery:
        ordered = sorted(self._members.values(), key=lambda member: member.sort_key)
        return Delivery(members, self.frame(member.join_entry for member in ordered), len(ordered), outbox)

    # Transforms

    def take_batch(self) -> Batch:
        """What this tick sends. Whoever delivers it sets each member's `missed`."""
        moved: list[bytes] = []
        for member in self.members():
            if member.moved:
                member.moved = False
                moved.append(member.transform_entry())
        return Batch(self, moved)
