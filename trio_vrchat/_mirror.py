"""A room that servers share, as one of them shows it. Plain state.

    own members ──▶ join, leave, say ──▶ happenings ──▶ the engine
    presence ◀── events of the room ◀── see ◀── what it gives their place

What is seen is what came back from the engine, in its order, and so each node's members see the same. From that, four
things are different, so that a lost engine is nobody's loss:

- A member who is here, and whom the engine (having lost its memory, or given this node up) does not have, stays in the
  eyes of those who are here; `missing` says who is to be told to the engine again. The others see it leave and join.
- Who leaves while the engine is away is gone at once for those who are here. The leave that comes back says nothing
  new then.
- Where what happened is not known any more (a new `View`), it is made up from who was there and who is.
- A join that moves a member from one node to another shows nothing to the others, like a takeover on one server.

Of each that is made up, the time is a microsecond after the event before it: so times increase in all cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _backplane as backplane
from ._backplane import JOIN, LEAVE, SAY, Happening
from ._codec import encode
from ._errors import RequestError
from ._follower import View
from ._members import Event, Heard, Join, Leave, Member, Replace, Say
from ._names import name_key
from ._outbox import Outbox
from ._presence import Presence


def _nowhere() -> Outbox:
    def nothing(*_: Any) -> int:
        return 0

    outbox = Outbox(limit_frames=0, limit_bytes=0, write=nothing, on_frames=nothing, on_overflow=nothing)
    outbox.close()
    return outbox


# Of members who are on other nodes.
_NOWHERE = _nowhere()


class Mirror:
    """What one node shows of a room.

    - `see` MUST be given everything that the node's `follow` gives, in order, and what it returns MUST be applied to
      the presence before anything else is.
    - `node_id` is this node's newest id, and `is_own` says of an event whether it was made under one that it had.
    """

    def __init__(
        self, presence: Presence, node_id: Callable[[], str], is_own: Callable[[backplane.Event], bool]
    ) -> None:
        self._presence = presence
        self._node_id = node_id
        self._is_own = is_own
        # The time of the last event that was shown, in microseconds.
        self.last = 0
        self._viewed = False
        # By the keys of their names: at which node each is, as the engine has it; who is shown; and of this node's own
        # members those who are in the room, or on the way into it.
        self._there: dict[str, str] = {}
        self._shown: dict[str, Member] = {}
        self._own: dict[str, Join] = {}
        # Those of them of whom the engine is told, until that is seen here: whether it has answered that it is so.
        self._under_way: dict[str, bool] = {}
        # Those whose names are other servers' by now.
        self._nameless: set[str] = set()
        # How many of those who are shown are on other nodes.
        self.strangers = 0
        # Whether a node has come in that knows nobody's transform.
        self.node_came = False
        # Since the engine was lost: what was said, and whether that is all.
        self.missed = 0
        self.missed_all = True

    # What own members do

    def join(self, join: Join) -> Happening:
        """A member of this node wants to be in the room."""
        key = name_key(join.member.name)
        self._own[key] = join
        self._nameless.discard(key)
        return self._joining(key)

    def _joining(self, key: str) -> Happening:
        self._under_way[key] = False
        return Happening(JOIN, key, self._own[key].member.name)

    def leave(self, member: Member) -> Happening | None:
        """It leaves; None where the engine does not have it here, so that nothing comes back: then `part` is all."""
        key = name_key(member.name)
        join = self._own.get(key)
        if join is None or join.member is not member:
            return None
        is_known = key in self._under_way or self._there.get(key) == self._node_id()
        self._disown(key)
        if not is_known:
            return None
        return Happening(LEAVE, key, member.name)

    def part(self, member: Member) -> list[Event]:
        """Whoever has left without a happening is gone."""
        key = name_key(member.name)
        return self._gone(key) if self._shown.get(key) is member else []

    def say(self, say: Say) -> Happening | None:
        """It says something; None where it is another node's by now."""
        key = name_key(say.member.name)
        join = self._own.get(key)
        if join is None or join.member is not say.member:
            return None
        body = b'"type":%b,"data":%b' % (encode(say.type), say.data)
        return Happening(SAY, key, say.member.name, body.decode())

    def lose_name(self, key: str) -> None:
        """Whoever has the name is on another server, and is not to be put out there by a join from here."""
        if key in self._own:
            self._nameless.add(key)

    def _disown(self, key: str) -> None:
        del self._own[key]
        self._nameless.discard(key)

    def own(self, key: str) -> Member | None:
        """The member of this node that is in the room, or on the way into it."""
        join = self._own.get(key)
        return None if join is None else join.member

    def missing(self) -> list[Happening]:
        """The joins of own members whom the engine does not have here."""
        node = self._node_id()
        settled = self._own.keys() - self._under_way.keys() - self._nameless
        absent = [key for key in self._own if key in settled and self._there.get(key) != node]
        return [self._joining(key) for key in absent]

    def told(self, happening: Happening) -> None:
        """The engine has let a join happen: it will be seen, if need be in a view. What comes before it may come
        later than this."""
        if happening.key in self._under_way:
            self._under_way[happening.key] = True

    def unseen(self) -> list[Member]:
        """Own members of whom the engine has been told, and who are not shown yet."""
        keys = [key for key in self._told() if key in self._own and key not in self._shown]
        return [self._own[key].member for key in sorted(keys)]

    def _told(self) -> list[str]:
        return [key for key, is_answered in self._under_way.items() if is_answered]

    def answered(self, happening: Happening) -> None:
        """The engine has refused a join, or will not answer to it."""
        self._under_way.pop(happening.key, None)

    def refuse(self, member: Member, error: RequestError) -> list[Event]:
        """The engine has refused an own member's join: it is not in the room."""
        key = name_key(member.name)
        join = self._own.get(key)
        if join is None or join.member is not member:
            return []
        self._disown(key)
        join.settled(error)
        return self._gone(key)

    # What the engine says

    def depart(self, happening: Happening) -> list[Event]:
        """Who leaves is gone before the engine knows of it."""
        return self._gone(happening.key)

    def lose(self) -> list[Event]:
        """The engine is away: who has left is gone."""
        self.missed, self.missed_all = 0, True
        return self.close()

    def close(self) -> list[Event]:
        """Nothing more is heard of the engine: who has left is gone, though it has not said so."""
        left = [key for key, member in self._shown.items() if member.here and key not in self._own]
        return [event for key in left for event in self._gone(key)]

    def see(self, what: View | backplane.Event) -> list[Event]:
        """What this shows to those who are here."""
        if isinstance(what, View):
            return self._view(what)
        match what.kind:
            case "say":
                return [self._hear(what)]
            case "join":
                return self._come(what)
            case "leave":
                return self._go(what)

    def find(self, key: str, node: str) -> Member | None:
        """The member of that name, if it is shown, and at that other node."""
        if self._there.get(key) != node:
            return None
        member = self._shown.get(key)
        return None if member is None or member.here else member

    def _time(self, at: int = 0) -> float:
        self.last = max(at, self.last + 1)
        return self.last / 1e6

    def _hear(self, event: backplane.Event) -> Heard:
        self.missed += 1
        time, entry = _entry(event, self._time(event.at))
        return Heard(time, entry)

    def _come(self, event: backplane.Event) -> list[Event]:
        key = event.key
        node_before = self._there.get(key)
        if not self._is_own(event) and event.node not in self._there.values():
            self.node_came = True
        self._there[key] = event.node
        member = self._here(event)
        shown = self._shown.get(key)
        if shown is None:
            return [self._show(key, member, event.at)]
        join = self._own.get(key)
        if join is not None and join.member is shown and shown is not member and key in self._under_way:
            return []  # whoever is here comes after it
        is_same = node_before is not None and shown.name == member.name
        if shown is member or (is_same and not shown.here and not member.here):
            shown.show_since(self._time(event.at))
            return []
        if not is_same:
            # It was somebody else's: the name had been free.
            gone = self._gone(key)
            return [*gone, self._show(key, member, event.at)]
        self._put(key, member)
        self._settle(key, member)
        return [Replace(shown, member, self._time(event.at))]

    def _here(self, event: backplane.Event) -> Member:
        """Whoever has joined: an own member, or one who stands for somebody at another node."""
        key = event.key
        join = self._own.get(key)
        if self._is_own(event):
            self._under_way.pop(key, None)
            if join is not None:
                return join.member
        elif join is not None and key not in self._under_way:
            # Who joins has the name, everywhere: that the member here has lost it is told elsewhere. (One whose join is
            # still under way comes after this one.)
            self._disown(key)
        return Member(event.user, _NOWHERE, here=False)

    def _show(self, key: str, member: Member, at: int) -> Event:
        self._put(key, member)
        self._settle(key, member)
        return Join(member, self._time(at))

    def _settle(self, key: str, member: Member) -> None:
        join = self._own.get(key)
        if join is not None and join.member is member:
            join.settled(None)

    def _put(self, key: str, member: Member) -> None:
        self._drop(key)
        self._shown[key] = member
        self.strangers += not member.here

    def _drop(self, key: str) -> Member | None:
        member = self._shown.pop(key, None)
        if member is not None:
            self.strangers -= not member.here
        return member

    def _go(self, event: backplane.Event) -> list[Event]:
        key = event.key
        if self._there.get(key) != event.node:
            return []
        del self._there[key]
        return self._gone(key, event.at)

    def _gone(self, key: str, at: int = 0) -> list[Event]:
        join = self._own.get(key)
        if join is not None and join.member is self._shown.get(key):
            return []
        member = self._drop(key)
        return [] if member is None else [Leave(member, self._time(at))]

    def _view(self, view: View) -> list[Event]:
        snapshot = view.snapshot
        new = [event for event in snapshot.history if event.at > self.last]
        there = {join.key: join.node for join in snapshot.members}
        events: list[Event] = []
        told = self._told()
        if not self._viewed:
            self._viewed = True
            entries = [_entry(event, event.at / 1e6) for event in new]
            self._presence.history.restore(entries, snapshot.forgotten_until / 1e6)
            self.last = max([self.last, *(event.at for event in new)])
            new = []
        elif snapshot.forgotten_until > self.last:
            self.missed_all = False
        if view.complete:
            for key in [key for key in self._there if key not in there]:
                del self._there[key]
            for key in [key for key in self._shown if key not in self._there]:
                events += self._gone(key)
        for event in sorted([*snapshot.members, *new], key=lambda event: event.at):
            if event.kind == SAY:
                events.append(self._hear(event))
            elif self._is_own(event) and event.key not in self._own:
                self._there[event.key] = event.node  # its leave is on the way
            elif self._there.get(event.key) != event.node or event.key not in self._shown:
                events += self._come(event)
        self.last = max(self.last, snapshot.last)
        for key in told:
            self._under_way.pop(key, None)
        return events


def _entry(event: backplane.Event, time: float) -> tuple[float, bytes]:
    return time, b'{"time":%b,"user":%b,%b}' % (encode(time), encode(event.user), event.body.encode())
